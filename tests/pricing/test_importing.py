"""Models out of a provider's own list, with the catalogue's prices."""

import json
from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from pricing import importing
from pricing.importing import State, discover, import_models
from pricing.models import Model, Provider
from tests.pricing.servers import Server, answer

pytestmark = pytest.mark.django_db
LISTED = [
    "gpt-4o-mini",
    "my-own-llama",
    "gpt-4o",
    "gpt-5-mini",
    "text-embedding-3-small",
    "taken",
    "two words",
    "x" * 300,
]


@pytest.fixture
def listing(settings: Settings) -> Iterator[Server]:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    body = json.dumps({"data": [{"id": name} for name in LISTED]}).encode()
    with Server(answer(200, body)) as server:
        yield server


@pytest.fixture
def openai(listing: Server) -> Provider:
    """A provider that the catalogue knows by its name, at an address of ours."""
    return Provider.objects.create(name="openai", base_url=listing.url())


def test_what_a_provider_lists_is_told_with_prices_and_what_is_here(openai: Provider) -> None:
    other = Provider.objects.create(name="other", base_url="https://example.com")
    taken = Model.objects.create(name="taken", provider=other)
    alias = Model.objects.create(name="fast", upstream_name="gpt-4o", provider=openai)
    found = {one.name: one for one in discover(openai)}
    assert list(found) == sorted(set(LISTED[:6]))
    assert {name: one.state for name, one in found.items() if one.state is not State.NEW} == {
        "taken": State.TAKEN,
        "gpt-4o": State.HERE,
    }
    assert (found["taken"].present, found["gpt-4o"].present) == (taken, alias)
    mini = found["gpt-4o-mini"].price
    assert mini is not None
    assert (str(mini.input), str(mini.output)) == ("0.15", "0.6")
    assert found["gpt-4o-mini"].no_price == ""
    assert (found["my-own-llama"].price, found["my-own-llama"].no_price) == (None, "not in the catalogue")


def test_an_operators_own_provider_is_not_bothered_by_the_shared_ones(openai: Provider) -> None:
    Model.objects.create(name="gpt-4o", provider=openai)
    ann = get_user_model().objects.create(username="ann")
    own = Provider.objects.create(name="openai", base_url=openai.base_url, owner=ann)
    assert {one.state for one in discover(own)} == {State.NEW}
    assert len(import_models(own, ["gpt-4o"]).made) == 1


def test_models_come_with_prices_and_without_one_switched_off(openai: Provider) -> None:
    ann = get_user_model().objects.create(username="ann")
    imported = import_models(openai, ["gpt-4o-mini", "my-own-llama", "text-embedding-3-small"], ann)
    assert [model.name for model in imported.made] == ["gpt-4o-mini", "my-own-llama", "text-embedding-3-small"]
    assert [model.name for model in imported.unpriced] == ["my-own-llama"]
    assert dict(Model.objects.values_list("name", "enabled")) == {
        "gpt-4o-mini": True,
        "my-own-llama": False,
        "text-embedding-3-small": True,
    }
    card = Model.objects.get(name="gpt-4o-mini").rate_card(timezone.now())
    assert card is not None
    assert card.rates(None, 1).input == 150_000
    prices = Model.objects.get(name="gpt-4o-mini").prices
    assert set(prices.values_list("source", "created_by")) == {("catalogue", ann.pk)}


def test_importing_twice_imports_once(openai: Provider) -> None:
    import_models(openai, ["gpt-4o-mini"])
    prices = Model.objects.get().prices.count()
    again = import_models(openai, ["gpt-4o-mini", "gpt-4o-mini"])
    assert (again.made, again.skipped) == ([], ["gpt-4o-mini"])
    assert Model.objects.get().prices.count() == prices


@pytest.mark.parametrize("name", ["", "two words", "x" * 201, "<b>\n", "naïve"])
def test_a_name_that_cannot_be_stops_all_of_them(openai: Provider, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        import_models(openai, ["gpt-4o-mini", name])
    assert "cannot be a model's name" in refused.value.messages[0]
    assert not Model.objects.exists()


def test_too_many_at_once_are_refused(openai: Provider) -> None:
    with pytest.raises(ValidationError):
        import_models(openai, (f"m{number}" for number in range(importing.MAX_AT_ONCE + 1)))
    assert not Model.objects.exists()


def test_a_list_that_cannot_be_had_is_told_in_words(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    with Server(answer(401)) as server:
        refusing = Provider(name="p", base_url=server.url())
        refusing.set_credential("sk-0123456789abcdef")
        with pytest.raises(ValidationError) as refused:
            discover(refusing)
    assert refused.value.messages[0].startswith("The provider refuses the key. Make a new key")


def test_the_sandbox_has_nothing_to_import() -> None:
    sandbox = Provider.objects.create(name="sandbox", kind="sandbox")
    for attempt in (lambda: discover(sandbox), lambda: import_models(sandbox, ["m"])):
        with pytest.raises(ValidationError):
            attempt()
