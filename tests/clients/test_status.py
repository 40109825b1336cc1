"""Suspended, archived, active: what each says happens, who is listed, who gets keys."""

import pytest
from django.core.exceptions import ValidationError

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue

pytestmark = pytest.mark.django_db


def test_each_status_says_what_happens_at_once() -> None:
    said = {status: status.what_happens for status in Client.Status}
    assert "client_suspended" in said[Client.Status.SUSPENDED]
    assert "client_inactive" in said[Client.Status.INACTIVE]
    assert all("within a second" in words for words in said.values())


def test_archived_clients_leave_the_list_and_come_back() -> None:
    acme, other = create_client("Acme"), create_client("Other")
    acme.archive("moved away")
    assert list(Client.objects.current()) == [other]
    acme.refresh_from_db()
    assert acme.status_reason == "moved away"
    with pytest.raises(ValidationError, match="archived"):
        issue(acme)
    acme.activate()
    issue(acme)
    assert set(Client.objects.current()) == {acme, other}


def test_many_are_suspended_with_one_reason_but_no_archived_one() -> None:
    clients = [create_client(name) for name in ("A", "B", "C", "D")]
    clients[1].suspend("unpaid")
    clients[2].archive()
    assert Client.objects.exclude(name="D").suspend(" fraud ") == 1
    assert dict(Client.objects.values_list("name", "status")) == {
        "A": "suspended",
        "B": "suspended",
        "C": "inactive",
        "D": "active",
    }
    assert dict(Client.objects.filter(status="suspended").values_list("name", "status_reason")) == {
        "A": "fraud",
        "B": "unpaid",
    }


@pytest.mark.parametrize("reason", ["x" * 201, "a\tb"])
def test_a_reason_that_does_not_hold_changes_nothing(reason: str) -> None:
    acme = create_client("Acme")
    for change in (acme.suspend, acme.archive, Client.objects.all().suspend):
        with pytest.raises(ValidationError):
            change(reason)
    assert Client.objects.get().status == "active"
