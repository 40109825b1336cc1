"""Taking a client on by one submit: profile, terms and first key, then all that its holder needs."""

from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from pytest_django import Settings

from clients.models import Client
from keys.lifecycle import find
from tests.clients.test_plans import make_plan

pytestmark = pytest.mark.django_db


def filled(browser: Browser, *limits: tuple[str, str, str], **changes: Any) -> dict[str, Any]:
    """The form as it was opened, filled in."""
    opened = browser.get(reverse("admin:onboard")).context["form"]
    data = {
        "token": opened["token"].value(),
        "name": "Acme",
        "email": "it@acme.example",
        "time_zone": "Asia/Kolkata",
        "cycle_start_day": "15",
        "key_name": "n8n",
        "limits-TOTAL_FORMS": str(max(3, len(limits))),
        "limits-INITIAL_FORMS": "0",
    }
    for number, limit in enumerate(limits):
        for name, value in zip(("metric", "amount", "cycle"), limit, strict=True):
            data[f"limits-{number}-{name}"] = value
    return data | changes


def sent(browser: Browser, data: dict[str, Any]) -> Any:
    return browser.post(reverse("admin:onboard"), data, follow=True)


def test_one_submit_makes_client_limits_and_key_and_shows_all_that_is_needed(
    admin_client: Browser, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://gateway.example.com"
    plan = make_plan("Basic", "requests=100/day", "credits=25/month")
    data = filled(admin_client, ("requests", "1,000", "day"), plan=plan.pk, markup="12.5", expires_in="90d")
    shown = sent(admin_client, data).content.decode()
    client = Client.objects.get()
    assert (client.plan, client.markup_bp, client.time_zone, client.cycle_start_day) == (plan, 1250, "Asia/Kolkata", 15)
    assert {str(limit) for limit in client.limits.all()} == {"1,000 requests a day", "25.00 USD a month"}
    key = client.keys.get()
    plain = next(word for word in shown.replace("<", " ").replace(">", " ").split() if word.startswith("llm_gw_"))
    assert find(plain) == key
    assert key.expires_at is not None
    for needed in ("https://gateway.example.com/v1", f"API Key: {plain}", "curl https://gateway", "x-gateway-tags"):
        assert needed in shown, needed


def test_sent_twice_it_makes_one(admin_client: Browser) -> None:
    data = filled(admin_client)
    sent(admin_client, data)
    assert "is here already" in sent(admin_client, data).content.decode()
    assert Client.objects.get().keys.count() == 1


def test_a_new_client_lives_where_the_installation_does(admin_client: Browser, settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    page = admin_client.get(reverse("admin:onboard")).content.decode()
    assert '<option value="Europe/Berlin" selected>' in page


@pytest.mark.parametrize(
    ("limits", "changes", "said"),
    [
        ([("requests", "1.5", "day")], {}, "whole number"),
        ([("credits", "-1", "day")], {}, "Credits are USD"),
        ([("credits", "25,50", "month")], {}, "Credits are USD"),
        ([("requests", "1,5", "day")], {}, "whole number"),
        ([("credits", "1e400", "day")], {}, "Credits are USD"),
        ([("requests", "", "day")], {}, "Say how much"),
        ([("", "5", "day")], {}, "Say what is limited"),
        ([("requests", "1", "day"), ("requests", "2", "day")], {}, "two limits"),
        ([("requests", "none", "day")], {}, "takes away a limit that there is not"),
        ([], {"markup": "lots"}, "percent"),
        ([], {"markup": "-100.01"}, ""),
        ([], {"time_zone": "Mars/Olympus"}, "valid choice"),
        ([], {"cycle_start_day": "32"}, "less than or equal to 31"),
        ([], {"name": " "}, "required"),
        ([], {"email": "nobody"}, "valid email"),
        ([], {"expires_in": "3000d"}, "valid choice"),
    ],
)
def test_wrong_input_is_shown_beside_the_form_and_nothing_is_made(
    admin_client: Browser, limits: list[tuple[str, str, str]], changes: dict[str, str], said: str
) -> None:
    answer = sent(admin_client, filled(admin_client, *limits, **changes))
    assert answer.redirect_chain == []
    assert said in answer.content.decode()
    assert not Client.objects.exists()


def test_a_key_name_that_does_not_hold_is_said_at_the_key(admin_client: Browser) -> None:
    answer = sent(admin_client, filled(admin_client, key_name="n8n\x07"))
    assert list(answer.context["form"].errors) == ["key_name"]
    assert not Client.objects.exists()


def test_a_name_that_is_taken_is_said_at_the_name(admin_client: Browser) -> None:
    sent(admin_client, filled(admin_client))
    answer = sent(admin_client, filled(admin_client))
    assert "name" in answer.context["form"].errors
    assert Client.objects.count() == 1
