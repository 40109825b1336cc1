"""A client's own page: by its link alone, for as long as it works, and nothing but what is the client's."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.agency import change_agency
from clients.models import AuditEntry, Client
from clients.onboarding import create_client
from tests.usage.test_pages import call, text
from usage import client_links, due, standings

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Client:
    return create_client("Acme", ["requests=100/day"], markup_bp=2500, time_zone="Pacific/Kiritimati")


def page_of(token: str) -> str:
    return text(Browser().get(reverse("client_usage", args=[token])))


def test_it_shows_the_clients_own_usage_and_nothing_else(acme: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    change_agency(name="Bright & Bold")
    other = create_client("Other Company")
    call(acme, cost=4 * 10**12, charge=5 * 10**12, input_tokens=1_234).save(force_insert=True)
    call(other, cost=70 * 10**12, charge=77 * 10**12).save(force_insert=True)
    due.put_all_down()
    limit = acme.limits.get()
    monkeypatch.setattr(standings, "_ask", lambda query: {str(acme.pk): [(limit.pk, limit.amount, 37, 0, None)]})
    _, token = client_links.make(acme, None)
    answer = Browser().get(reverse("client_usage", args=[token]))
    page = text(answer)
    for shown in ("Acme", "Bright &amp; Bold", ">5.00<", "1,234", "37 requests used", "63 requests left", "+14"):
        assert shown in page, shown
    for hidden in ("Other", "77.00", ">4.00<", "argin", "25 %", "provider"):
        assert hidden not in page, hidden
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in answer.headers["cache-control"]
    assert "noindex" in answer.headers["x-robots-tag"]
    link = client_links.find(token)
    assert link is not None
    assert link.opened_at is not None


def test_a_link_that_is_guessed_expired_replaced_ended_or_of_an_archived_client_shows_nothing(acme: Client) -> None:
    _, old = client_links.make(acme, None)
    _, token = client_links.make(acme, None, timedelta(days=3))
    assert "Acme" in page_of(token)

    def shows_nothing(wrong: str) -> bool:
        answer = Browser().get(reverse("client_usage", args=[wrong]))
        return answer.status_code == 404 and "Acme" not in answer.content.decode()

    assert shows_nothing("x" * 43)
    assert shows_nothing(old)
    with time_machine.travel(timezone.now() + timedelta(days=3, seconds=1)):
        assert shows_nothing(token)
    acme.archive()
    assert shows_nothing(token)
    acme.activate()
    assert "Acme" in page_of(token)
    client_links.revoke(acme)
    assert shows_nothing(token)


def test_the_team_makes_a_link_sees_it_once_and_ends_it(acme: Client) -> None:
    ana, ben = User.objects.create_user("ana"), User.objects.create_user("ben")
    for user in (ana, ben):
        set_role(user, Role.OPERATOR)
    acme.owner = ana
    acme.save()
    browser, stranger = Browser(), Browser()
    browser.force_login(ana)
    stranger.force_login(ben)
    url = reverse("admin:client_usage_link", args=[acme.pk])
    assert stranger.post(url, {"act": "make"}).status_code == 404
    assert browser.post(url, {"act": "make"}).headers["location"] == url
    shown = text(browser.get(url))
    found = re.search("/usage/([A-Za-z0-9_-]{43})/", shown)
    assert found is not None
    token = found[1]
    assert "Acme" in page_of(token)
    assert token not in text(browser.get(url))
    assert "opened last" in text(browser.get(url))
    browser.post(url, {"act": "revoke"})
    assert client_links.find(token) is None
    logged = [entry.what for entry in AuditEntry.objects.filter(client=acme, content_type__model="clientlink")]
    assert len(logged) == 2
    assert token not in str(list(AuditEntry.objects.values()))
    assert f'href="{url}"' in text(browser.get(reverse("admin:clients_client_change", args=[acme.pk])))
