"""Who and what there is in the demo: operators, providers, models with their prices, clients with their keys.

All that is made here goes through the doors of its app, and everything but keys' texts is the same at every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from clients.access import Role, set_role
from clients.models import Client
from clients.onboarding import create_client
from gateway_project.demo import shapes
from gateway_project.demo.shapes import ClientShape, KeyShape, ModelShape, ProviderShape
from keys.lifecycle import issue
from keys.models import APIKey
from pricing.catalogue import catalogue_prices, install_sandbox
from pricing.models import Model, Price, Provider
from pricing.quotes import RateCard, card_at, microseconds

_LED_IN: Final = timedelta(days=30)  # the agency was there a month before the first call that is shown


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model as calls need it."""

    shape: ModelShape
    id: int
    provider_id: int
    prices: tuple[Price, ...]

    def card(self, at_us: int) -> RateCard | None:
        """Return the rates in force at `at_us`; None for a free model."""
        return card_at(self.prices, at_us)


@dataclass(frozen=True, slots=True)
class KeyOfClient:
    """A key as calls need it: when it begins and ends to work (µs)."""

    shape: KeyShape
    id: int
    made_us: int
    revoked_us: int | None


@dataclass(frozen=True, slots=True)
class Party:
    """A client as calls need it."""

    shape: ClientShape
    client: Client
    keys: tuple[KeyOfClient, ...]
    suspended_us: int | None


@dataclass(frozen=True, slots=True)
class World:
    """All that calls are made from."""

    models: dict[str, PricedModel]
    parties: tuple[Party, ...]


def build(now: datetime, days: int, clients: int) -> World:
    """Make everything, as it would be `now` after `days` days of use by so many clients.

    Limits are set later, when use is known.
    """
    start = midnight(now, days)
    models = _models(start, now, days)
    owners = {shapes.ADMIN: _admin(), shapes.MARIA: _maria(start)}
    return World(models, tuple(_party(shape, owners[shape.owner], start, now) for shape in shapes.clients(clients)))


def midnight(now: datetime, days_ago: int) -> datetime:
    """Return the beginning of a day in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


def _admin() -> User | None:
    return get_user_model().objects.filter(is_superuser=True).order_by("pk").first()


def _maria(start: datetime) -> User:
    """A second operator. Nobody can sign in as her until a password is set."""
    maria = get_user_model().objects.create_user(
        shapes.MARIA, "maria@agency.example", first_name="Maria", date_joined=start - _LED_IN
    )
    set_role(maria, Role.OPERATOR)
    return maria


def _models(start: datetime, now: datetime, days: int) -> dict[str, PricedModel]:
    install_sandbox()
    providers = {shape.name: _provider(shape, start) for shape in shapes.PROVIDERS}
    made = {}
    for shape in shapes.MODELS:
        model = Model(
            name=shape.name,
            provider=providers[shape.provider],
            upstream_name=shape.upstream,
            enabled=shape.enabled,
            created_at=start - _LED_IN,
        )
        model.full_clean()
        model.save()
        made[shape.name] = PricedModel(shape, model.pk, model.provider_id, _prices(model, start, now, days))
    sandbox = Model.objects.get(name=shapes.SANDBOX_MODEL.name)
    return made | {sandbox.name: PricedModel(shapes.SANDBOX_MODEL, sandbox.pk, sandbox.provider_id, ())}


def _provider(shape: ProviderShape, start: datetime) -> Provider:
    provider = Provider(
        name=shape.name,
        base_url=f"https://{shape.host}/v1",
        first_byte_timeout=shape.first_byte_timeout,
        created_at=start - _LED_IN,
    )
    provider.set_credential(shape.credential)
    provider.clean_fields()
    provider.validate_unique()
    provider.validate_constraints()  # all of full_clean but the look-up of a host that is not meant to be found
    provider.save()
    return provider


def _prices(model: Model, start: datetime, now: datetime, days: int) -> tuple[Price, ...]:
    """The catalogue's prices of today, since before the first call; one model was dearer, one will be."""
    since = start - _LED_IN
    listed = [row for row in catalogue_prices(model.provider.name.lower(), model.upstream) if row.start <= now]
    newest = {row.service_tier: row.start for row in listed}  # they come ordered by start
    rows = [row.unsaved(model, since) for row in listed if row.start == newest[row.service_tier]]
    if model.name == shapes.CHEAPENED:
        fell = midnight(now, days // 2)
        old, new = rows, [_scaled(price, 1, 1, fell) for price in rows]
        rows = [_scaled(price, 4, 3, since) for price in old] + new
    if model.name == shapes.DEARER_SOON:
        first = (midnight(now, 0).replace(day=1) + timedelta(days=32)).replace(day=1)
        rows += [
            _scaled(price, 11, 10, first, Price.Source.OPERATOR) for price in rows if price.service_tier == "default"
        ]
    for price in rows:
        price.full_clean()
        price.save()
    return tuple(rows)


def _scaled(
    price: Price, times: int, over: int, effective_from: datetime, source: str = Price.Source.CATALOGUE
) -> Price:
    rates: dict[str, Any] = {
        name: None if rate is None else rate * times // over
        for name in ("input", "cached_input", "cache_write", "output", "audio_input", "audio_output")
        for rate in [getattr(price, name)]
    }
    return Price(
        model=price.model,
        service_tier=price.service_tier,
        above_tokens=price.above_tokens,
        effective_from=effective_from,
        source=source,
        **rates,
    )


def _party(shape: ClientShape, owner: User | None, start: datetime, now: datetime) -> Party:
    calls = shape.share > 0
    created = start - timedelta(days=3, hours=5) if calls else now - timedelta(hours=20)
    profile: dict[str, Any] = (
        {} if shape.cycle_began is None else {"cycle_start_day": midnight(now, shape.cycle_began).day}
    )
    client = create_client(
        shape.name,
        email=shape.email,
        company=shape.company,
        phone=shape.phone,
        owner=owner,
        markup_bp=shape.markup_bp,
        time_zone=shape.zone,
        notes=shape.notes,
        **profile,
    )
    Client.objects.filter(pk=client.pk).update(created_at=created)
    client.created_at = created
    keys = tuple(_key(client, key, created, now) for key in shape.keys)
    suspended = None
    if shape.suspended is not None:
        ago, reason = shape.suspended
        client.suspend(reason)
        suspended = microseconds(midnight(now, ago) + timedelta(hours=14, minutes=20))
    if shape.archived:
        client.archive()
    return Party(shape, client, keys, suspended)


def _key(client: Client, shape: KeyShape, created: datetime, now: datetime) -> KeyOfClient:
    key, _ = issue(client, shape.name)
    made = created if shape.made is None else max(created, midnight(now, shape.made) + timedelta(hours=9, minutes=31))
    changes: dict[str, Any] = {"created_at": made}
    revoked = None
    if shape.revoked is not None:
        revoked = max(made, midnight(now, shape.revoked) + timedelta(hours=17, minutes=12))
        changes |= {"revoked_at": revoked, "revoked_reason": shape.reason}
    if shape.expires_in is not None:
        changes["expires_at"] = now + timedelta(days=shape.expires_in)
    APIKey.objects.filter(pk=key.pk).update(**changes)
    return KeyOfClient(shape, key.pk, microseconds(made), None if revoked is None else microseconds(revoked))


def set_limits(party: Party, limits: Sequence[tuple[str, int, str]]) -> None:
    """Give the client its limits: (metric, amount as stored, cycle)."""
    for metric, amount, cycle in limits:
        limit = party.client.limits.model(client=party.client, metric=metric, amount=amount, cycle=cycle)
        limit.full_clean()
        limit.save()
