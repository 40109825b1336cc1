"""List prices out of the `genai-prices` package, from the data it carries: never the network."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, StartDateConstraint, TieredPrices
from genai_prices.types import Provider as CatalogueProvider

from pricing.models import SHARED, Model, Price, Provider
from pricing.money import rate_from_million
from pricing.quotes import DEFAULT_TIER
from pricing.rate_columns import RATES

OPENAI = "openai"
SANDBOX = "sandbox"
WELL_KNOWN = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-5.1",
    "gpt-5.2",
    "o3",
    "o3-mini",
    "o4-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
)

_FIELDS = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_mtok": "output",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
# Charged beside the tokens of a call, for what no usage block of our endpoints counts: searches of hosted tools, and
# caches of an hour, which OpenAI-compatible endpoints do not offer. Any other key would be a part of the call unpaid.
_UNCOUNTED = {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok"}
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class UnsupportedPrice(ValueError):
    """A catalogue price that our price list cannot express exactly; it has to be entered by hand, or not at all."""


@dataclass(frozen=True, slots=True)
class CataloguePrice:
    """A row of a price list in USD per 1M tokens; `effective_from` None means since ever."""

    service_tier: str
    above_tokens: int
    effective_from: datetime | None
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None

    @property
    def start(self) -> datetime:
        """The moment it comes into force, the first of all moments for "since ever"."""
        return self.effective_from or _BEGINNING

    def unsaved(self, model: Model, effective_from: datetime) -> Price:
        """Return the row as a Price of `model`, in picodollars per token. Raises UnsupportedPrice if not exact."""
        dollars = {field: getattr(self, field) for field in _FIELDS.values()}
        try:
            rates = {field: None if usd is None else rate_from_million(usd) for field, usd in dollars.items()}
        except ValueError as error:
            raise UnsupportedPrice(f"The catalogue's price of {model.name}: {error}") from error
        return Price(
            model=model,
            service_tier=self.service_tier,
            above_tokens=self.above_tokens,
            effective_from=effective_from,
            source=Price.Source.CATALOGUE,
            **rates,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A rate, in picodollars per token, that the catalogue gives otherwise than the price in force (None: has none)."""

    model: Model
    service_tier: str
    above_tokens: int
    rate: str
    listed: int | None
    catalogue: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """What `sync_prices` did, or would do, with one tier of one model: action 'added', 'kept' or 'skipped'."""

    model: str
    service_tier: str
    action: str
    detail: str


def catalogue_prices(provider_hint: str, model_name: str) -> list[CataloguePrice]:
    """Return all the catalogue knows of a model's prices, past and to come; [] for a model it does not know.

    `provider_hint` is a catalogue id ('openai') or a base URL. Ordered by tier, moment, step. Raises UnsupportedPrice
    where a price depends on the time of day, is not per token, or is by kinds of tokens that we do not count.
    """
    model = _find(provider_hint, model_name)
    if model is None:
        return []
    tiers = {variant.when["service_tier"] for variant in _variants(model)} - {DEFAULT_TIER}
    rows: list[CataloguePrice] = []
    for tier in (DEFAULT_TIER, *sorted(tiers)):
        rows += _history(model, tier)
    return rows


def current_price(provider: Provider, name: str, now: datetime) -> CataloguePrice | None:
    """Return what the catalogue says of a provider's model now, for calls of the default tier that are not long.

    `name` is the provider's. None where the catalogue does not know it; raises UnsupportedPrice.
    """
    rows = [row for row in catalogue_prices(_hint(provider), name) if row.service_tier == DEFAULT_TIER]
    due = [row for row in rows if row.start <= now and row.above_tokens == 0]
    return max(due, key=lambda row: row.start, default=None)


def rows_in_force(model: Model, now: datetime) -> list[Price]:
    """Return the catalogue's rows for a model's default tier now, unsaved; [] where it does not know the model.

    Raises UnsupportedPrice.
    """
    rows = [row for row in catalogue_prices(_hint(model.provider), model.upstream) if row.service_tier == DEFAULT_TIER]
    return [row.unsaved(model, now) for row in _due(rows, now)]


def differences(models: Iterable[Model], now: datetime) -> list[Difference]:
    """Return, rate by rate, where the catalogue and the prices in force differ.

    No query where the models come with their provider selected and their prices prefetched. Free models, and those
    the catalogue does not know or prices in a way that our list cannot, have none.
    """
    found: list[Difference] = []
    for model in models:
        if model.free:
            continue
        try:
            tiers = _by_tier(catalogue_prices(_hint(model.provider), model.upstream))
            wanted = {rows[0].service_tier: [row.unsaved(model, now) for row in _due(rows, now)] for rows in tiers}
        except UnsupportedPrice:
            continue
        for tier, prices in wanted.items():
            listed = [price for price in model.prices.all() if price.service_tier == tier]
            found += _differing(model, tier, _version_at(listed, now), prices)
    return found


@transaction.atomic
def sync_prices(
    models: Iterable[Model], now: datetime, *, dry_run: bool = False, overwrite: bool = False, by: User | None = None
) -> list[Change]:
    """Add a version to the price list of each model whose catalogue prices differ from it, from now or a date to come.

    An operator's version is kept unless `overwrite`. With `dry_run` nothing is written. Free models and those the
    catalogue does not know are passed over in silence. `by` asked for it.
    """
    changes: list[Change] = []
    for model in models:
        if model.free:
            continue
        try:
            rows = catalogue_prices(_hint(model.provider), model.upstream)
            # The first prices of a model count from yesterday, so that a clock set back an hour does not unprice it.
            since = now if model.prices.exists() else _yesterday(now)
            with transaction.atomic():  # all tiers of a model, or none
                changes += [
                    change
                    for tier in _by_tier(rows)
                    for change in _sync_tier(model, tier, now, since, dry_run, overwrite, by)
                ]
        except UnsupportedPrice as error:
            changes.append(Change(model.name, "", "skipped", str(error)))
    return changes


@transaction.atomic
def install_openai(base_url: str, key: str, now: datetime | None = None) -> Provider:
    """Make the provider 'openai' with the well-known models, enabled and priced; an existing one is left as it is.

    Raises ValidationError for a base URL or key that a provider may not have.
    """
    existing = Provider.objects.filter(name=OPENAI, owner=None).first()
    if existing is not None:
        return existing
    provider = Provider(name=OPENAI, base_url=base_url)
    provider.set_credential(key)
    provider.full_clean()
    provider.save()
    taken = set(Model.objects.filter(scope=SHARED, name__in=WELL_KNOWN).values_list("name", flat=True))
    models = [Model.objects.create(name=name, provider=provider) for name in WELL_KNOWN if name not in taken]
    sync_prices(models, now or timezone.now())
    return provider


@transaction.atomic
def install_sandbox() -> Provider:
    """Make the provider 'sandbox' and its two free models where they are missing."""
    provider, _ = Provider.objects.get_or_create(name=SANDBOX, owner=None, defaults={"kind": Provider.Kind.SANDBOX})
    for name in (SANDBOX, f"{SANDBOX}-embedding"):  # n8n's embedding node lists only names that contain "embed"
        Model.objects.get_or_create(name=name, scope=SHARED, defaults={"provider": provider, "free": True})
    return provider


def _sync_tier(
    model: Model,
    rows: list[CataloguePrice],
    now: datetime,
    since: datetime,
    dry_run: bool,
    overwrite: bool,
    by: User | None,
) -> Iterator[Change]:
    """Compare one tier's catalogue versions, present and to come, with what the table says for the same moments.

    A version that is due already takes effect at `since`.
    """
    tier = rows[0].service_tier
    listed = list(model.prices.filter(service_tier=tier))
    current = max((row.start for row in rows if row.start <= now), default=None)
    for start in sorted({row.start for row in rows if row.start > now} | ({current} if current else set())):
        version = [row for row in rows if row.start == start]
        present = _version_at(listed, max(start, now))
        effective = since if start <= now else start
        wanted = [row.unsaved(model, effective) for row in version]
        if [_terms(price) for price in present] == [_terms(price) for price in wanted]:
            continue
        if not overwrite and any(price.source == Price.Source.OPERATOR for price in present):
            yield Change(model.name, tier, "kept", "The operator's own price differs from the catalogue's.")
            continue
        if not dry_run:
            # Only a version still to come can sit at the very same moment.
            model.prices.filter(service_tier=tier, effective_from=effective).delete()
            for price in wanted:
                price.created_by = by
                price.save()
        listed = [price for price in listed if price.effective_from != effective] + wanted
        yield Change(model.name, tier, "added", _describe(version[0], effective))


def _version_at(prices: list[Price], moment: datetime) -> list[Price]:
    starts = [price.effective_from for price in prices if price.above_tokens == 0 and price.effective_from <= moment]
    newest = max(starts, default=None)
    return sorted((price for price in prices if price.effective_from == newest), key=lambda price: price.above_tokens)


def _terms(price: Price) -> tuple[int, ...]:
    return (price.above_tokens, *(price.effective(rate) for rate in RATES))


def _due(rows: list[CataloguePrice], now: datetime) -> list[CataloguePrice]:
    """Return the version of one tier's rows that is in force."""
    start = max((row.start for row in rows if row.start <= now), default=None)
    return [row for row in rows if row.start == start]


def _differing(model: Model, tier: str, listed: list[Price], wanted: list[Price]) -> Iterator[Difference]:
    ours = {price.above_tokens: price for price in listed}
    theirs = {price.above_tokens: price for price in wanted}
    for step in sorted(ours.keys() | theirs.keys() if wanted else ()):
        for rate in RATES:
            mine = ours[step].effective(rate) if step in ours else None
            catalogue = theirs[step].effective(rate) if step in theirs else None
            if mine != catalogue:
                yield Difference(model, tier, step, rate, mine, catalogue)


def _describe(row: CataloguePrice, effective: datetime) -> str:
    cached = "" if row.cached_input is None else f", cached {row.cached_input}"
    return f"from {effective:%Y-%m-%d %H:%M} UTC: input {row.input}{cached}, output {row.output} USD per 1M tokens"


def _yesterday(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() - timedelta(days=1), time(), UTC)


def _by_tier(rows: list[CataloguePrice]) -> list[list[CataloguePrice]]:
    return [
        [row for row in rows if row.service_tier == tier] for tier in dict.fromkeys(row.service_tier for row in rows)
    ]


def _hint(provider: Provider) -> str:
    """Return what finds a provider in the catalogue: its base URL if known there, else its name."""
    return provider.base_url if _named(provider.base_url) else provider.name


def _named(hint: str) -> list[CatalogueProvider]:
    """Return the catalogue's providers of that id, or behind that URL (one host may be two providers there)."""
    providers: list[CatalogueProvider] = get_snapshot().providers
    return [one for one in providers if one.id == hint.lower() or ("://" in hint and re.match(one.api_pattern, hint))]


def _find(hint: str, model_name: str) -> ModelInfo | None:
    found = (provider.find_model(model_name, all_providers=get_snapshot().providers) for provider in _named(hint))
    return next((model for model in found if model is not None), None)


def _variants(model: ModelInfo) -> list[PriceVariant]:
    """Return what depends on the service tier alone. Batches and the like are not served here."""
    return [variant for variant in model.price_variants or [] if set(variant.when) == {"service_tier"}]


def _history(model: ModelInfo, tier: str) -> list[CataloguePrice]:
    """Return the rows of one tier, one version for each date on which it changes."""
    own = [variant for variant in _variants(model) if variant.when["service_tier"] == tier]
    conditional: list[ConditionalPrice | PriceVariant] = [*own]
    if isinstance(model.prices, list):
        conditional += model.prices
    starts = {_start(condition, model) for condition in conditional} | {_BEGINNING}
    history: list[CataloguePrice] = []
    latest: list[CataloguePrice] = []
    for start in sorted(starts):
        active = any(variant.constraint is None or variant.constraint.active(start) for variant in own)
        if tier != DEFAULT_TIER and not active:
            continue
        rows = _steps(model, model.get_prices(start, {"service_tier": tier}), tier)
        if rows != latest:
            latest = rows
            history += [replace(row, effective_from=None if start == _BEGINNING else start) for row in rows]
    return history


def _start(condition: ConditionalPrice | PriceVariant, model: ModelInfo) -> datetime:
    constraint = condition.constraint
    if constraint is None:
        return _BEGINNING
    if isinstance(constraint, StartDateConstraint):
        return datetime.combine(constraint.start_date, time(), UTC)
    raise UnsupportedPrice(f"The catalogue's price of {model.id} changes with the time of day: enter it by hand.")


def _steps(model: ModelInfo, prices: ModelPrice, tier: str) -> list[CataloguePrice]:
    """Return a row for each long-context step; in the catalogue each kind of token has steps of its own."""
    given = {key: price for key, price in vars(prices).items() if price is not None}
    # Cached audio is counted as cached: no matter where both cost the same.
    if given.get("cache_audio_read_mtok") == given.get("cache_read_mtok"):
        given.pop("cache_audio_read_mtok", None)
    unknown = sorted(given.keys() - _FIELDS.keys() - _UNCOUNTED)
    if unknown or "input_mtok" not in given:
        reason = f"charges by {', '.join(unknown)}" if unknown else "has no price per input token"
        raise UnsupportedPrice(f"The catalogue's price of {model.id} {reason}: enter it by hand.")
    tiered = [price for price in given.values() if isinstance(price, TieredPrices)]
    starts = sorted({0} | {step.start for price in tiered for step in price.tiers})
    rows = []
    for start in starts:
        rates = {_FIELDS[key]: _rate_above(price, start) for key, price in given.items() if key in _FIELDS}
        # Embeddings have no output and no price for it.
        rates.setdefault("output", Decimal(0))
        rows.append(CataloguePrice(service_tier=tier, above_tokens=start, effective_from=None, **rates))
    return rows


def _rate_above(price: Decimal | TieredPrices, start: int) -> Decimal:
    if not isinstance(price, TieredPrices):
        return price
    return next((step.price for step in reversed(price.tiers) if step.start <= start), price.base)
