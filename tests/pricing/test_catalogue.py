import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Provider as CatalogueProvider
from pytest_django import Settings

from pricing.catalogue import (
    WELL_KNOWN,
    CataloguePrice,
    UnsupportedPrice,
    catalogue_prices,
    differences,
    install_openai,
    install_sandbox,
    sync_prices,
)
from pricing.models import Model, Price, Provider
from pricing.money import rate_from_million

Catalogue = Callable[..., None]
KEY = "sk-test-0123456789abcdef"
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def usd(amount: str) -> Decimal:
    return Decimal(amount)


def stepped(base: str, beyond: str) -> TieredPrices:
    return TieredPrices(usd(base), [Tier(200_000, usd(beyond))])


def since(day: date, **prices: Decimal) -> ConditionalPrice:
    return ConditionalPrice(StartDateConstraint(day), prices=ModelPrice(**prices))


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    """Put a catalogue with the one model 'm' of provider 'openai' in the place of the real one."""

    def hold(prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant] | None = None) -> None:
        model = ModelInfo("m", ClauseEquals("m"), prices=prices, price_variants=variants)
        provider = CatalogueProvider("openai", "OpenAI", r"https://api\.openai\.com", models=[model])
        set_custom_snapshot(DataSnapshot([provider], from_auto_update=False))

    yield hold
    set_custom_snapshot(None)


@pytest.fixture
def m(provider: Provider) -> Model:
    return Model.objects.create(name="m", provider=provider)


@pytest.fixture
def base_url(settings: Settings) -> str:
    """A base URL that needs no name server."""
    settings.ALLOW_PRIVATE_PROVIDERS = True
    return "http://127.0.0.1:9/v1"


def test_the_real_catalogue_knows_list_prices() -> None:
    default = [row for row in catalogue_prices("openai", "gpt-4o-mini") if row.service_tier == "default"]
    assert default[-1].input == usd("0.15")
    assert default[-1].cached_input == usd("0.075")
    assert default[-1].output == usd("0.6")


def test_a_provider_is_found_by_its_base_url_too() -> None:
    by_url = catalogue_prices("https://api.openai.com/v1", "gpt-4o-mini")
    assert by_url == catalogue_prices("openai", "gpt-4o-mini") != []


@pytest.mark.parametrize(
    ("hint", "model"),
    [("openai", "no-such-model"), ("no-such-provider", "gpt-4o"), ("https://llm.example/v1", "gpt-4o")],
)
def test_what_the_catalogue_does_not_know_has_no_price(hint: str, model: str) -> None:
    assert catalogue_prices(hint, model) == []


def test_every_price_of_the_real_catalogue_is_exact_or_refused() -> None:
    """None is rounded on the way: what the column holds is what the catalogue says."""
    taken = 0
    for provider in get_snapshot().providers:
        for info in provider.models:
            try:
                rows = catalogue_prices(provider.id, info.id)
                prices = [row.unsaved(Model(name="m"), NOW) for row in rows]
            except UnsupportedPrice:
                continue
            taken += len(prices)
            for row, price in zip(rows, prices, strict=True):
                assert price.input == row.input * 10**6
                assert price.output == row.output * 10**6
    assert taken > 1000


def test_embeddings_have_no_output_price() -> None:
    rows = catalogue_prices("openai", "text-embedding-3-small")
    assert {row.output for row in rows} == {0}
    assert rows[0].input > 0


def test_steps_of_all_kinds_are_joined(catalogue: Catalogue) -> None:
    catalogue(ModelPrice(input_mtok=stepped("1", "2"), cache_read_mtok=usd("0.1"), output_mtok=stepped("6", "9")))
    assert catalogue_prices("openai", "m") == [
        CataloguePrice("default", 0, None, usd("1"), usd("6"), cached_input=usd("0.1")),
        CataloguePrice("default", 200_000, None, usd("2"), usd("9"), cached_input=usd("0.1")),
    ]


def test_dates_make_versions(catalogue: Catalogue) -> None:
    old = ModelPrice(input_mtok=usd("10"), output_mtok=usd("40"))
    catalogue([ConditionalPrice(prices=old), since(date(2025, 6, 10), input_mtok=usd("2"), output_mtok=usd("8"))])
    assert catalogue_prices("openai", "m") == [
        CataloguePrice("default", 0, None, usd("10"), usd("40")),
        CataloguePrice("default", 0, datetime(2025, 6, 10, tzinfo=UTC), usd("2"), usd("8")),
    ]


def test_service_tiers_that_the_catalogue_knows_have_prices(catalogue: Catalogue) -> None:
    catalogue(
        ModelPrice(input_mtok=usd("2"), cache_read_mtok=usd("1"), output_mtok=usd("8")),
        [
            PriceVariant({"service_tier": "default"}, ModelPrice()),
            PriceVariant(
                {"service_tier": "flex"},
                ModelPrice(input_mtok=usd("1"), output_mtok=usd("4")),
                StartDateConstraint(date(2026, 1, 1)),
            ),
            PriceVariant({"processing": "batch"}, ModelPrice(input_mtok=usd("0.5"))),
        ],
    )
    assert catalogue_prices("openai", "m") == [
        CataloguePrice("default", 0, None, usd("2"), usd("8"), cached_input=usd("1")),
        # What a tier does not name costs as ever.
        CataloguePrice("flex", 0, datetime(2026, 1, 1, tzinfo=UTC), usd("1"), usd("4"), cached_input=usd("1")),
    ]


@pytest.mark.parametrize(
    "prices",
    [
        ModelPrice(output_mtok=usd("1")),
        ModelPrice(input_mtok=usd("1"), requests_kcount=usd("1")),
        ModelPrice(input_mtok=usd("1"), output_reasoning_mtok=usd("3")),
        ModelPrice(input_mtok=usd("1"), input_image_mtok=usd("3")),
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=usd("1"))),
            ConditionalPrice(TimeOfDateConstraint(time(16), time(1)), prices=ModelPrice(input_mtok=usd("0.5"))),
        ],
    ],
)
def test_what_we_could_not_bill_in_full_is_refused(
    catalogue: Catalogue, m: Model, prices: ModelPrice | list[ConditionalPrice]
) -> None:
    catalogue(prices)
    with pytest.raises(UnsupportedPrice, match="by hand"):
        catalogue_prices("openai", "m")
    assert [change.action for change in sync_prices([m], NOW)] == ["skipped"]
    assert not Price.objects.exists()


def test_a_price_finer_than_the_column_is_refused(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("0.0000005"), output_mtok=usd("1")))
    (change,) = sync_prices([m], NOW)
    assert change.action == "skipped"
    assert "finer" in change.detail


def test_a_first_sync_prices_a_model_and_a_second_changes_nothing(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=stepped("1", "2"), output_mtok=usd("6")))
    assert [change.action for change in sync_prices([m], NOW)] == ["added"]
    assert list(Price.objects.values_list("above_tokens", "input", "output", "source")) == [
        (0, 1_000_000, 6_000_000, "catalogue"),
        (200_000, 2_000_000, 6_000_000, "catalogue"),
    ]
    assert sync_prices([m], NOW + timedelta(days=1)) == []


def test_a_clock_set_back_an_hour_leaves_a_new_model_priced(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("6")))
    sync_prices([m], NOW)
    assert m.rate_card(NOW - timedelta(hours=1)) is not None


def test_a_changed_price_is_a_new_version(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=stepped("1", "2"), output_mtok=usd("6")))
    sync_prices([m], NOW)
    catalogue(ModelPrice(input_mtok=usd("3"), output_mtok=usd("6")))
    later = NOW + timedelta(days=3)
    sync_prices([m], later)
    before, after = m.rate_card(later - timedelta(microseconds=1)), m.rate_card(later)
    assert before is not None
    assert after is not None
    assert [step.input for step in before.steps(None)] == [1_000_000, 2_000_000]
    assert [step.input for step in after.steps(None)] == [3_000_000]


def test_a_price_announced_for_later_comes_then(catalogue: Catalogue, m: Model) -> None:
    now = timezone.now()
    day = now.date() + timedelta(days=30)
    first = ConditionalPrice(prices=ModelPrice(input_mtok=usd("10"), output_mtok=usd("1")))
    catalogue([first, since(day, input_mtok=usd("2"), output_mtok=usd("1"))])
    assert len(sync_prices([m], now)) == 2
    assert Price.objects.filter(effective_from=datetime.combine(day, time(), UTC)).get().input == 2_000_000
    # The announcement is corrected before the day.
    catalogue([first, since(day, input_mtok=usd("4"), output_mtok=usd("1"))])
    assert len(sync_prices([m], now)) == 1
    assert Price.objects.filter(effective_from__gt=now).get().input == 4_000_000
    assert sync_prices([m], now) == []


def test_an_operators_price_is_kept_unless_told(catalogue: Catalogue, m: Model) -> None:
    Price.objects.create(model=m, effective_from=NOW - timedelta(days=1), input=5, output=5)
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("6")))
    assert [change.action for change in sync_prices([m], NOW)] == ["kept"]
    assert Price.objects.count() == 1
    assert [change.action for change in sync_prices([m], NOW, overwrite=True)] == ["added"]
    card = m.rate_card(NOW)
    assert card is not None
    assert card.rates(None, 0).input == 1_000_000


def test_a_dry_run_writes_nothing(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("6")))
    assert [change.action for change in sync_prices([m], NOW, dry_run=True)] == ["added"]
    assert not Price.objects.exists()


def test_an_alias_is_priced_by_its_upstream_name_and_a_free_model_not_at_all(
    catalogue: Catalogue, provider: Provider
) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("6")))
    alias = Model.objects.create(name="house-model", upstream_name="m", provider=provider)
    free = Model.objects.create(name="m", provider=provider, free=True)
    assert [change.model for change in sync_prices([alias, free], NOW)] == ["house-model"]


def test_the_command_tells_what_it_did(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("0.15"), cache_read_mtok=usd("0.075"), output_mtok=usd("0.6")))
    out = io.StringIO()
    call_command("syncprices", "--dry-run", stdout=out)
    assert "would be added" in out.getvalue()
    assert not Price.objects.exists()
    call_command("syncprices", "--model", "m", stdout=out)
    assert "input 0.15, cached 0.075, output 0.6 USD per 1M tokens" in out.getvalue()
    assert Price.objects.get().cached_input == rate_from_million(usd("0.075"))
    with pytest.raises(CommandError, match="nobody"):
        call_command("syncprices", "--model", "nobody")


@pytest.mark.django_db
def test_the_first_provider_comes_with_priced_models(base_url: str) -> None:
    provider = install_openai(f"{base_url}/", KEY)
    assert provider.base_url == base_url
    assert provider.credential() == KEY
    models = Model.objects.filter(provider=provider, enabled=True)
    assert {model.name for model in models} == set(WELL_KNOWN)
    assert set(WELL_KNOWN) >= {"gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small"}
    for model in models:
        card = model.rate_card(timezone.now())
        assert card is not None, f"{model} has no price"
        assert card.rates(None, 0).input > 0


@pytest.mark.django_db
def test_installing_again_leaves_what_the_operator_made_of_it(base_url: str) -> None:
    provider = install_openai(base_url, KEY)
    Model.objects.filter(name="gpt-4o").update(enabled=False)
    Model.objects.filter(name="o3").update(name="renamed")
    before = Price.objects.count()
    assert install_openai(base_url, "sk-another-0123456789") == provider
    assert Provider.objects.get().credential() == KEY
    assert not Model.objects.get(name="gpt-4o").enabled
    assert not Model.objects.filter(name="o3").exists()
    assert Price.objects.count() == before


@pytest.mark.django_db
def test_a_first_provider_at_a_private_address_is_refused_whole(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    with pytest.raises(ValidationError):
        install_openai("https://127.0.0.1/v1", KEY)
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_the_sandbox_is_free_and_made_once() -> None:
    assert install_sandbox() == install_sandbox()
    assert set(Model.objects.values_list("name", "free", "provider__kind")) == {
        ("sandbox", True, "sandbox"),
        ("sandbox-embedding", True, "sandbox"),
    }


def test_a_model_is_synced_whole_or_not_at_all(catalogue: Catalogue, m: Model) -> None:
    too_fine = PriceVariant({"service_tier": "flex"}, ModelPrice(input_mtok=usd("0.0000005")))
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("6")), [too_fine])
    assert [change.action for change in sync_prices([m], NOW)] == ["skipped"]
    assert not Price.objects.exists()


def test_a_tier_that_comes_later_counts_from_then(catalogue: Catalogue, m: Model) -> None:
    standard = ModelPrice(input_mtok=usd("2"), output_mtok=usd("8"))
    catalogue(standard)
    sync_prices([m], NOW)
    later = NOW + timedelta(days=9)
    catalogue(standard, [PriceVariant({"service_tier": "flex"}, ModelPrice(input_mtok=usd("1")))])
    assert [change.service_tier for change in sync_prices([m], later)] == ["flex"]
    assert Price.objects.get(service_tier="flex").effective_from == later


# --- where the catalogue and the list differ ---


def test_what_differs_is_told_rate_by_rate(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), cache_read_mtok=usd("0.1"), output_mtok=usd("4")))
    Price.objects.create(model=m, effective_from=NOW - timedelta(days=1), input=1_000_000, output=5_000_000)
    told = [(one.service_tier, one.above_tokens, one.rate, one.listed, one.catalogue) for one in differences([m], NOW)]
    assert told == [
        ("default", 0, "output", 5_000_000, 4_000_000),
        ("default", 0, "cached_input", 1_000_000, 100_000),
        ("default", 0, "audio_output", 5_000_000, 4_000_000),
    ]


def test_a_rate_left_empty_differs_only_where_it_comes_to_another(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), cache_read_mtok=usd("1"), output_mtok=usd("4")))
    Price.objects.create(model=m, effective_from=NOW - timedelta(days=1), input=1_000_000, output=4_000_000)
    assert differences([m], NOW) == []
    assert sync_prices([m], NOW) == []


def test_steps_and_tiers_that_one_of_them_lacks_differ(catalogue: Catalogue, m: Model) -> None:
    flex = PriceVariant({"service_tier": "flex"}, ModelPrice(input_mtok=usd("1"), output_mtok=usd("1")))
    catalogue(ModelPrice(input_mtok=stepped("1", "2"), output_mtok=usd("4")), [flex])
    Price.objects.create(model=m, effective_from=NOW - timedelta(days=1), input=1_000_000, output=4_000_000)
    told = {(one.service_tier, one.above_tokens, one.listed) for one in differences([m], NOW)}
    assert told == {("default", 200_000, None), ("flex", 0, None)}


def test_after_a_sync_nothing_differs(provider: Provider) -> None:
    models = [Model.objects.create(name=name, provider=provider) for name in WELL_KNOWN]
    assert {one.model for one in differences(models, NOW)} == set(models)
    sync_prices(models, NOW)
    assert differences(models, NOW) == []


def test_free_and_unknown_models_do_not_differ(catalogue: Catalogue, m: Model) -> None:
    catalogue(ModelPrice(input_mtok=usd("1"), output_mtok=usd("4")))
    m.free = True
    assert differences([m, Model(name="unknown", provider=m.provider, pk=9)], NOW) == []


def test_differences_of_many_models_ask_the_database_nothing(
    provider: Provider, django_assert_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    sync_prices([Model.objects.create(name=name, provider=provider) for name in WELL_KNOWN], NOW)
    models = list(Model.objects.select_related("provider").prefetch_related("prices"))
    with django_assert_num_queries(0):
        differences(models, NOW)
