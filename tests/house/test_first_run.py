"""What a fresh installation finds after its first start, and that a second start changes none of it."""

import pytest
from django.contrib.auth import authenticate, get_user_model

from clients.models import Client, Limit
from gateway_project.first_run import banner, prepare
from keys.lifecycle import find
from pricing.models import Model, Provider

pytestmark = pytest.mark.django_db


def test_operator_sandbox_and_demo_client() -> None:
    welcome = prepare()
    assert welcome is not None
    user = authenticate(username=welcome.operator, password=welcome.password)
    assert user is not None and user.is_superuser
    assert find(welcome.demo_key).client.name == "Demo"
    assert {(limit.metric, limit.amount, limit.cycle) for limit in Limit.objects.all()} == {
        ("requests", 1000, "day"),
        ("credits", 5 * 10**12, "month"),
    }
    assert {"sandbox", "sandbox-embedding"} <= set(Model.objects.filter(free=True).values_list("name", flat=True))
    assert not Provider.objects.filter(kind="openai").exists()


def test_a_second_start_makes_nothing_and_shows_nothing() -> None:
    prepare()
    counts = [model.objects.count() for model in (Client, Limit, Model, Provider, get_user_model())]
    assert prepare() is None
    assert counts == [model.objects.count() for model in (Client, Limit, Model, Provider, get_user_model())]


def test_a_deleted_demo_client_does_not_come_back() -> None:
    prepare()
    Client.objects.update(name="Renamed by its operator")
    prepare()
    assert list(Client.objects.values_list("name", flat=True)) == ["Renamed by its operator"]


def test_openai_is_the_first_provider_where_its_key_is_given(settings: pytest.FixtureRequest) -> None:
    settings.OPENAI_API_KEY = "sk-test-of-first-run"
    settings.OPENAI_BASE_URL = "https://api.openai.com/v1"
    settings.ALLOW_PRIVATE_PROVIDERS = True  # this test has no DNS to ask
    prepare()
    provider = Provider.objects.get(kind="openai")
    assert provider.credential() == "sk-test-of-first-run"
    assert {"gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small"} <= set(
        Model.objects.filter(provider=provider, enabled=True).values_list("name", flat=True)
    )


def test_the_banner_shows_secrets_once_and_ends_with_what_to_do() -> None:
    welcome = prepare()
    assert welcome is not None
    text = banner("http://127.0.0.1:8000", welcome)
    assert welcome.password in text
    assert f'Authorization: Bearer {welcome.demo_key}"' in text
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in text
    assert text.strip().splitlines()[-1] == "Ctrl-C stops everything."
    assert welcome.password not in repr(banner("http://127.0.0.1:8000", None))
