import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from pytest_django import Settings

from pricing.models import Model, Price, Provider

CANARY = "sk-canary-0123456789abcdefWXYZ"


@pytest.fixture(autouse=True)
def local(settings: Settings) -> None:
    """No name server is asked."""
    settings.ALLOW_PRIVATE_PROVIDERS = True


@pytest.fixture
def browser(admin_client: Browser) -> Browser:
    return admin_client


def provider_form(**fields: Any) -> dict[str, Any]:
    return {
        "name": "local",
        "kind": "openai",
        "base_url": "http://127.0.0.1:11434/v1/",
        "enabled": "on",
        "connect_timeout": 5,
        "first_byte_timeout": 600,
        "idle_timeout": 300,
        "total_timeout": 1800,
    } | fields


def model_form(model: Model, *rows: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {"name": model.name, "provider": model.provider_id, "enabled": "on"}
    for prefix, count in (("prices", 0), ("prices-2", len(rows))):
        form |= {f"{prefix}-TOTAL_FORMS": count, f"{prefix}-INITIAL_FORMS": 0}
    for number, row in enumerate(rows):
        defaults = {"service_tier": "default", "above_tokens": 0}
        form |= {f"prices-2-{number}-{field}": value for field, value in (defaults | row).items()}
    return form


def page(browser: Browser, name: str, *args: Any) -> str:
    response = browser.get(reverse(f"admin:pricing_{name}", args=args))
    assert response.status_code == 200
    return response.content.decode()


def test_a_credential_goes_in_and_never_comes_out(browser: Browser) -> None:
    response = browser.post(reverse("admin:pricing_provider_add"), provider_form(new_credential=CANARY), follow=True)
    assert CANARY not in response.content.decode()
    provider = Provider.objects.get()
    assert provider.credential() == CANARY
    assert provider.base_url == "http://127.0.0.1:11434/v1"
    for shown in (page(browser, "provider_changelist"), page(browser, "provider_change", provider.pk)):
        assert "…WXYZ" in shown
        assert CANARY not in shown
        assert provider.credential_encrypted not in shown
    assert CANARY not in page(browser, "provider_history", provider.pk)


def test_an_empty_field_keeps_the_credential_and_a_box_removes_it(browser: Browser) -> None:
    browser.post(reverse("admin:pricing_provider_add"), provider_form(new_credential=CANARY))
    url = reverse("admin:pricing_provider_change", args=[Provider.objects.get().pk])
    browser.post(url, provider_form(idle_timeout=60))
    assert Provider.objects.get().credential() == CANARY
    assert Provider.objects.get().idle_timeout == 60
    both = browser.post(url, provider_form(new_credential="sk-x", remove_credential="on"))
    assert "Either enter a new credential" in both.content.decode()
    browser.post(url, provider_form(remove_credential="on"))
    assert Provider.objects.get().credential() == ""


def test_a_refused_form_does_not_echo_the_credential(browser: Browser) -> None:
    response = browser.post(
        reverse("admin:pricing_provider_add"), provider_form(base_url="gopher://x", new_credential=CANARY)
    )
    assert "must start with https://" in response.content.decode()
    assert CANARY not in response.content.decode()
    bad = browser.post(reverse("admin:pricing_provider_add"), provider_form(new_credential="sk a"))
    assert "one word" in bad.content.decode()
    assert not Provider.objects.exists()


def test_a_private_base_url_is_refused_in_words(browser: Browser, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    response = browser.post(reverse("admin:pricing_provider_add"), provider_form(base_url="https://169.254.169.254/v1"))
    assert "not a public address" in response.content.decode()
    assert not Provider.objects.exists()


def test_the_list_of_models_warns_of_a_missing_price(browser: Browser, price: Price) -> None:
    assert "0.15 in / 0.6 out" in page(browser, "model_changelist")
    assert "no price" not in page(browser, "model_changelist")
    Model.objects.create(name="unpriced", provider=price.model.provider)
    assert "no price" in page(browser, "model_changelist")
    Model.objects.filter(name="unpriced").update(free=True)
    assert "no price" not in page(browser, "model_changelist")
    assert "no price" in page(browser, "model_add")


def test_the_list_of_models_asks_the_database_as_often_for_many(
    browser: Browser, price: Price, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        Model.objects.create(name=f"m{number}", provider=price.model.provider)
    with django_assert_max_num_queries(12):
        page(browser, "model_changelist")


def test_prices_in_force_are_shown_and_new_ones_added(browser: Browser, price: Price) -> None:
    url = reverse("admin:pricing_model_change", args=[price.model.pk])
    assert re.search(r">\s*0\.15\s*<", browser.get(url).content.decode())
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    moment = {"effective_from_0": f"{tomorrow:%Y-%m-%d}", "effective_from_1": f"{tomorrow:%H:%M:%S}"}
    response = browser.post(
        url,
        model_form(
            price.model,
            moment | {"input": "0.2", "cached_input": "0.05", "output": "0.8"},
            moment | {"above_tokens": 200000, "input": "0.4", "output": "1.6"},
        ),
    )
    assert response.status_code == 302, response.context["errors"]
    added = Price.objects.filter(effective_from=tomorrow).order_by("above_tokens")
    assert list(added.values_list("above_tokens", "input", "cached_input", "output", "source")) == [
        (0, 200_000, 50_000, 800_000, "operator"),
        (200_000, 400_000, None, 1_600_000, "operator"),
    ]
    price.refresh_from_db()
    assert price.input == 150_000


def test_a_step_without_its_base_is_refused(browser: Browser, price: Price) -> None:
    row = {
        "effective_from_0": "2030-01-01",
        "effective_from_1": "00:00:00",
        "above_tokens": 1000,
        "input": "1",
        "output": "1",
    }
    response = browser.post(reverse("admin:pricing_model_change", args=[price.model.pk]), model_form(price.model, row))
    assert "needs one for 0 tokens" in response.content.decode()
    assert Price.objects.count() == 1


def test_a_forged_form_cannot_change_a_price(browser: Browser, price: Price) -> None:
    form = model_form(price.model)
    for prefix in ("prices", "prices-2"):
        form |= {
            f"{prefix}-TOTAL_FORMS": 1,
            f"{prefix}-INITIAL_FORMS": 1,
            f"{prefix}-0-id": price.pk,
            f"{prefix}-0-model": price.model_id,
            f"{prefix}-0-input": "0",
            f"{prefix}-0-output": "0",
            f"{prefix}-0-DELETE": "on",
        }
    browser.post(reverse("admin:pricing_model_change", args=[price.model.pk]), form)
    price.refresh_from_db()
    assert price.input == 150_000
