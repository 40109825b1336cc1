"""A client's own prices on its page: entered in USD per 1M tokens, logged, and of models that may serve it."""

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse

from clients.access import Role, set_role
from clients.models import AuditEntry, Client, OwnPrice
from clients.onboarding import create_client
from pricing.models import Model, Provider
from tests.clients.test_client_admin import form

pytestmark = pytest.mark.django_db


def rows(*prices: tuple[int, str, str]) -> dict[str, str]:
    sent = {"own_prices-TOTAL_FORMS": str(len(prices)), "own_prices-INITIAL_FORMS": "0"}
    for number, (model, given, output) in enumerate(prices):
        place = f"own_prices-{number}"
        sent |= {f"{place}-model": str(model), f"{place}-input": given, f"{place}-output": output}
    return sent


@pytest.fixture
def model() -> Model:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    return Model.objects.create(name="gpt-4o", provider=provider)


def page(client: Client) -> str:
    return reverse("admin:clients_client_change", args=[client.pk])


def test_they_are_entered_in_dollars_per_million_and_logged(admin_client: Browser, model: Model) -> None:
    client = create_client("Acme")
    answer = admin_client.post(page(client), form([], **rows((model.pk, "3.5", "12"))))
    assert answer.status_code == 302, answer.context["errors"]
    price = client.own_prices.get()
    assert (price.input, price.output, price.cached_input) == (3_500_000, 12_000_000, None)
    shown = admin_client.get(page(client)).content.decode()
    assert 'value="3.5"' in shown
    assert "gpt-4o (OpenAI)" in shown
    entry = AuditEntry.objects.get_for_object(price).get()
    assert entry.client_id == client.pk
    assert "3.5 USD per 1M tokens" in str(entry.changes)


def test_a_model_has_one_and_a_rate_is_no_more_than_a_dollar_a_token(admin_client: Browser, model: Model) -> None:
    client = create_client("Acme")
    twice = admin_client.post(page(client), form([], **rows((model.pk, "1", "1"), (model.pk, "2", "2"))))
    assert twice.status_code == 200
    for wrong in ("-1", "1000001", "NaN", "0.0000001", ""):
        assert admin_client.post(page(client), form([], **rows((model.pk, wrong, "1")))).status_code == 200
    assert not OwnPrice.objects.exists()


def test_no_other_operators_model_is_offered_or_taken(client: Browser, model: Model) -> None:
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    for person in (ann, bob):
        set_role(person, Role.OPERATOR)
    bobs = Provider.objects.create(name="Bob's", base_url="https://api.openai.com/v1", owner=bob)
    foreign = Model.objects.create(name="bobs-model", provider=bobs)
    acme = create_client("Acme", owner=ann)
    client.force_login(ann)
    assert "bobs-model" not in client.get(page(acme)).content.decode()
    assert client.post(page(acme), form([], **rows((foreign.pk, "1", "1")))).status_code == 200
    assert not OwnPrice.objects.exists()
    assert client.post(page(acme), form([], **rows((model.pk, "1", "1")))).status_code == 302
    assert OwnPrice.objects.get().client == acme
