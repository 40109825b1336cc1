"""Clients in the admin: onboarded with limits in natural units, never deleted with a history."""

from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from pytest_django import Settings

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue

pytestmark = pytest.mark.django_db


def form(limits: list[tuple[str, str, str]], **changes: str) -> dict[str, Any]:
    data = {
        "name": "Acme",
        "status": "active",
        "time_zone": "Asia/Kolkata",
        "cycle_start_day": "15",
        "markup_bp": "12.5",
        "limits-TOTAL_FORMS": str(len(limits)),
        "limits-INITIAL_FORMS": "0",
        "keys-TOTAL_FORMS": "0",
        "keys-INITIAL_FORMS": "0",
    }
    for number, (metric, amount, cycle) in enumerate(limits):
        data |= {
            f"limits-{number}-metric": metric,
            f"limits-{number}-amount": amount,
            f"limits-{number}-cycle": cycle,
        }
    return data | changes


def test_a_client_is_onboarded_with_its_limits(admin_client: Browser) -> None:
    sent = form([("credits", "25.50", "month"), ("requests", "100", "day")])
    answer = admin_client.post(reverse("admin:clients_client_add"), sent)
    assert answer.status_code == 302, answer.context["errors"]
    client = Client.objects.get()
    assert (client.markup_bp, client.time_zone, client.cycle_start_day) == (1250, "Asia/Kolkata", 15)
    assert {(limit.metric, limit.amount, limit.cycle) for limit in client.limits.all()} == {
        ("credits", 25_500_000_000_000, "month"),
        ("requests", 100, "day"),
    }
    page = admin_client.get(reverse("admin:clients_client_change", args=[client.pk])).content.decode()
    assert 'value="25.50"' in page
    assert "25.50 USD a month" in page
    assert 'value="12.5"' in page
    listed = admin_client.get(reverse("admin:clients_client_changelist")).content.decode()
    assert "100 requests a day" in listed
    assert "12.5 %" in listed


def test_a_new_client_lives_where_the_installation_does(admin_client: Browser, settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    page = admin_client.get(reverse("admin:clients_client_add")).content.decode()
    assert '<option value="Europe/Berlin" selected>' in page


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        ([("requests", "1.5", "day")], {}),
        ([("credits", "-1", "day")], {}),
        ([("credits", "1e400", "day")], {}),
        ([("requests", "1", "day"), ("requests", "2", "day")], {}),
        ([], {"markup_bp": "lots"}),
        ([], {"markup_bp": "-100.01"}),
        ([], {"markup_bp": "999999"}),
        ([], {"time_zone": "Mars/Olympus"}),
        ([], {"cycle_start_day": "32"}),
        ([], {"name": " "}),
    ],
)
def test_wrong_input_is_shown_beside_the_form(
    admin_client: Browser, limits: list[tuple[str, str, str]], changes: dict[str, str]
) -> None:
    answer = admin_client.post(reverse("admin:clients_client_add"), form(limits, **changes))
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert not Client.objects.exists()


def test_a_client_with_keys_is_kept(admin_client: Browser) -> None:
    client = create_client("Acme")
    key, _ = issue(client)
    url = reverse("admin:clients_client_delete", args=[client.pk])
    for answer in (admin_client.get(url, follow=True), admin_client.post(url, {"post": "yes"}, follow=True)):
        assert "Archive it instead" in answer.content.decode()
    assert Client.objects.filter(pk=client.pk).exists()
    page = admin_client.get(reverse("admin:clients_client_change", args=[client.pk])).content.decode()
    assert key.hint in page
    assert reverse("admin:keys_apikey_add") + f"?client={client.pk}" in page


def test_a_client_without_history_can_go(admin_client: Browser) -> None:
    client = create_client("Acme", ["requests=1/day"])
    admin_client.post(reverse("admin:clients_client_delete", args=[client.pk]), {"post": "yes"})
    assert not Client.objects.exists()


def test_there_is_no_deletion_in_bulk(admin_client: Browser) -> None:
    create_client("Acme")
    assert "delete_selected" not in admin_client.get(reverse("admin:clients_client_changelist")).content.decode()
