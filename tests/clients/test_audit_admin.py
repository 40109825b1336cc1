"""The audit log's pages: who sees what of it, filters, CSV, histories of objects."""

import csv
import io

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from clients.access import Role, set_role, visible
from clients.models import AuditEntry, Client
from clients.onboarding import create_client
from keys.lifecycle import issue, revoke
from pricing.actors import Actor, Door, acting
from pricing.models import Provider

pytestmark = pytest.mark.django_db

LIST = reverse("admin:clients_auditentry_changelist")
EXPORT = reverse("admin:clients_auditentry_export")


def person(name: str, role: Role, **granted: bool) -> User:
    user = User.objects.create_user(name, f"{name}@example.com")
    set_role(user, role, **granted)
    return User.objects.get(pk=user.pk)


def browser_of(user: User) -> Browser:
    browser = Browser()
    browser.force_login(user)
    return browser


def exported(browser: Browser, **get: object) -> list[dict[str, str]]:
    answer = browser.get(EXPORT, get)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/csv")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    return list(csv.DictReader(io.StringIO(text)))


def listed(browser: Browser, **get: object) -> list[str]:
    answer = browser.get(LIST, get)
    assert answer.status_code == 200
    return [f"{entry.act} {entry.kind} {entry.object_repr}" for entry in answer.context["cl"].result_list]


@pytest.fixture
def ana() -> User:
    return person("ana", Role.OPERATOR)


@pytest.fixture
def ben() -> User:
    return person("ben", Role.OPERATOR)


@pytest.fixture
def theirs(ana: User, ben: User) -> dict[str, Client]:
    return {user.username: create_client(f"Client of {user}", ["requests=5/day"], owner=user) for user in (ana, ben)}


def test_what_happened_at_a_foreign_client_is_seen_nowhere(ana: User, theirs: dict[str, Client]) -> None:
    foreign = theirs["ben"]
    key, _ = issue(foreign, "secret project")
    revoke(key, "leaked by ben")
    theirs["ana"].suspend("unpaid")
    Provider.objects.create(name="Provider of ben", base_url="https://example.com/v1", owner=foreign.owner)
    browser = browser_of(ana)
    assert "changed client Client of ana" in listed(browser)
    pages = [LIST, LIST + f"?client__id__exact={foreign.pk}", LIST + "?q=ben", LIST + "?kind=keys.apikey", EXPORT]
    for page in pages:
        answer = browser.get(page)
        text = b"".join(answer).decode()
        for word in ("Client of ben", "secret project", "leaked by ben", key.hint, "Provider of ben"):
            assert word not in text, page
    for entry in AuditEntry.objects.filter(client_id=foreign.pk):
        assert browser.get(reverse("admin:clients_auditentry_change", args=[entry.pk])).status_code == 404
    assert browser.get(reverse("admin:clients_client_history", args=[foreign.pk])).status_code == 404


def test_it_follows_the_client_to_its_next_operator(ana: User, ben: User, theirs: dict[str, Client]) -> None:
    client = theirs["ana"]
    client.owner = ben
    client.save()
    assert not visible(ana, AuditEntry.objects.filter(client_id=client.pk))
    assert visible(ben, AuditEntry.objects.filter(client_id=client.pk)).count() == 3


def test_operators_see_of_people_only_themselves(ana: User, ben: User) -> None:
    kinds = AuditEntry.objects.filter(content_type__model="user")
    assert {entry.object_repr for entry in visible(ana, kinds)} == {"ana"}
    assert not visible(ana, AuditEntry.objects.filter(content_type__model="membership"))
    assert {entry.object_repr for entry in visible(person("own", Role.OWNER), kinds)} == {"ana", "ben", "own"}


@pytest.mark.parametrize("role", [Role.FINANCE, Role.VIEWER])
def test_readers_have_no_audit_log_and_no_way_to_it(role: Role, theirs: dict[str, Client]) -> None:
    browser = browser_of(person("reader", role))
    client = theirs["ana"]
    history = reverse("admin:clients_client_history", args=[client.pk])
    assert history not in browser.get(reverse("admin:clients_client_change", args=[client.pk])).content.decode()
    assert LIST not in browser.get(reverse("admin:index")).content.decode()
    for page in (LIST, EXPORT, history):
        assert browser.get(page).status_code == 403


def test_filters(ana: User, theirs: dict[str, Client]) -> None:
    with acting(Actor(Door.COMMAND, "command createkey (ops)")):
        key, _ = issue(theirs["ana"], "n8n")
    browser = browser_of(person("own", Role.OWNER))
    made = f"created key n8n ({key.hint})"
    assert listed(browser, door="command") == [made]
    assert listed(browser, door__exact="command") == [made]
    assert listed(browser, by__icontains="createkey") == [made]
    assert listed(browser, kind="keys.apikey") == [made]
    assert set(listed(browser, client__id__exact=theirs["ben"].pk)) == {
        "created client Client of ben",
        "created limit 5 requests a day",
    }
    assert listed(browser, q="n8n") == [made]
    assert listed(browser, timestamp_from="2999-01-01") == []
    assert made in listed(browser, timestamp_from="2026-01-01", timestamp_to="9999-12-31")


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "no.such"},
        {"kind": "x" * 5000},
        {"client__id__exact": "x"},
        {"client__id__exact": "9" * 30},
        {"door": "window"},
        {"timestamp_from": "yesterday"},
        {"timestamp_to": "0000-00-00"},
        {"timestamp_to": "9999-12-31"},
        {"timestamp_from": "\x00"},
        {"p": "99999999999999999999"},
        {"actor__password__startswith": "p"},
        {"by__regex": "(a+)+$"},
        {"q": "\x00" * 20},
    ],
)
def test_nonsense_in_the_address_is_no_error(admin_client: Browser, asked: dict[str, str]) -> None:
    for page in (LIST, EXPORT):
        assert admin_client.get(page, asked).status_code in {200, 302, 400}


def test_the_csv_holds_what_the_filters_leave_and_runs_nothing(ana: User) -> None:
    with acting(Actor(Door.ADMIN, user=ana, address="203.0.113.9")):
        evil = create_client('=HYPERLINK("https://evil.example")', owner=ana)
        evil.suspend("-1+1")
    for number in range(60):
        create_client(f"Client {number}", owner=ana)
    browser = browser_of(ana)
    rows = exported(browser)
    assert len([row for row in rows if row["kind"] == "client"]) == 62, "all pages of the list"
    (row,) = exported(
        browser, by__icontains="ana", kind="clients.client", q="evil.example", timestamp_from="2026-01-01"
    )[:1]
    assert row["act"] == "changed"
    assert (row["who"], row["email"], row["through"], row["address"]) == (
        "ana",
        "ana@example.com",
        "Back office",
        "203.0.113.9",
    )
    assert row["time_utc"].endswith("Z")
    assert row["object"].startswith("'=HYPERLINK")
    assert row["changes"] == "Status: Active → Suspended; Status reason:  → -1+1"


def test_an_entrys_page_tells_before_and_after_and_leads_to_the_object(admin_client: Browser) -> None:
    acme = create_client("<b>Acme</b>")
    acme.suspend("<script>alert(1)</script>")
    entry = AuditEntry.objects.all()[0]
    text = admin_client.get(reverse("admin:clients_auditentry_change", args=[entry.pk])).content.decode()
    assert "Active" in text
    assert "Suspended" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text
    assert reverse("admin:clients_client_change", args=[acme.pk]) in text
    assert "<b>Acme</b>" not in text


def test_a_clients_history_tells_of_its_limits_and_keys(admin_client: Browser) -> None:
    acme = create_client("Acme", ["requests=5/day"])
    key, _ = issue(acme, "n8n")
    acme.limits.all().delete()
    text = admin_client.get(reverse("admin:clients_client_history", args=[acme.pk])).content.decode()
    for told in ("created client Acme", "created limit 5 requests a day", f"created key n8n ({key.hint})"):
        assert told in text
    assert "deleted limit 5 requests a day" in text
    assert "UTC" in text
    only_key = admin_client.get(reverse("admin:keys_apikey_history", args=[key.pk])).content.decode()
    assert "created client Acme" not in only_key


@pytest.mark.parametrize("page", [LIST, LIST + "?kind=clients.limit"])
def test_the_list_asks_no_more_for_more_rows(ana: User, page: str) -> None:
    browser = browser_of(ana)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(page).status_code == 200
        return len(captured)

    create_client("First", ["requests=5/day"], owner=ana)
    queries()
    few = queries()
    for number in range(30):
        create_client(f"Client {number}", ["requests=5/day"], owner=ana)
    assert queries() == few
