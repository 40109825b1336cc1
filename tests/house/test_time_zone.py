"""Times in the back office: in the reader's zone, and with it."""

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse

from clients.access import Role, set_role, set_time_zone, time_zone_of
from clients.models import AuditEntry, Membership
from clients.onboarding import create_client

pytestmark = pytest.mark.django_db

LIST = "admin:clients_auditentry_changelist"


def at_noon() -> None:
    """Let the log's one entry be from noon of 1 July 2026, UTC."""
    AuditEntry.objects.create(
        action=0,
        content_type_id=AuditEntry.objects.get_for_object(create_client("Acme")).get().content_type_id,
        object_pk="1",
        object_repr="Noon",
        timestamp="2026-07-01T12:00:00Z",
    )


def shown(browser: Browser, **get: str) -> str:
    return browser.get(reverse(LIST), get).content.decode()


def test_a_person_chooses_a_zone(admin_client: Browser, admin_user: User) -> None:
    at_noon()
    assert "1 Jul 2026, 12:00 UTC" in shown(admin_client)
    page = reverse("admin:time_zone")
    assert admin_client.post(page, {"time_zone": "Asia/Kathmandu"}).status_code == 302
    assert "1 Jul 2026, 17:45 +0545" in shown(admin_client)
    assert 'value="Asia/Kathmandu" selected' in admin_client.get(page).content.decode()
    admin_client.post(page, {"time_zone": ""})
    assert "1 Jul 2026, 12:00 UTC" in shown(admin_client)


def test_nothing_but_a_zone_is_taken(admin_client: Browser, admin_user: User) -> None:
    answer = admin_client.post(reverse("admin:time_zone"), {"time_zone": "../../etc/passwd"})
    assert answer.status_code == 200
    assert not Membership.objects.exclude(time_zone="").exists()


def test_else_the_browser_says_where_it_is(admin_client: Browser, admin_user: User) -> None:
    at_noon()
    admin_client.cookies["time_zone"] = "Europe/Berlin"
    assert "1 Jul 2026, 14:00 CEST" in shown(admin_client)
    set_time_zone(admin_user, "America/New_York")
    assert "1 Jul 2026, 08:00 EDT" in shown(admin_client)


@pytest.mark.parametrize("told", ["", "Mars/Olympus", "../../etc/passwd", "europe/berlin", "x" * 4000, "\x00"])
def test_a_browser_that_tells_nonsense_is_not_believed(admin_user: User, told: str) -> None:
    assert time_zone_of(admin_user, told) == "UTC"


def test_days_of_a_filter_are_the_readers(admin_client: Browser, admin_user: User) -> None:
    at_noon()
    first_of_july = {"timestamp_from": "2026-07-01", "timestamp_to": "2026-07-01"}
    assert "Noon" in shown(admin_client, **first_of_july)
    set_time_zone(admin_user, "Pacific/Kiritimati")  # where it is 2 July by then
    assert "Noon" not in shown(admin_client, **first_of_july)
    assert "Noon" in shown(admin_client, timestamp_from="2026-07-02", timestamp_to="2026-07-02")


def test_choosing_a_zone_changes_no_right(admin_user: User) -> None:
    ana = User.objects.create_user("ana")
    set_role(ana, Role.OPERATOR, all_clients=True)
    for person in (admin_user, ana):
        before = (person.is_superuser, person.is_staff)
        set_time_zone(person, "Europe/Berlin")
        person.refresh_from_db()
        assert (person.is_superuser, person.is_staff) == before
    assert (ana.membership.role, ana.membership.all_clients) == ("operator", True)
    assert admin_user.membership.role == "owner"
