"""A month is closed by the API as by the page: looked at first, each client for itself, and once."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.utils import timezone

from clients.access import Role, set_role
from clients.access_tokens import SCOPES, make
from clients.models import Client
from pricing.money import PICO
from usage.closing import close, drafts
from usage.ingest import insert
from usage.models import Statement

pytestmark = pytest.mark.django_db

URL = "/api/closing/2025-01/"
JANUARY = date(2025, 1, 1)


@pytest.fixture
def ask() -> Any:
    fina = User.objects.create_user("fina")
    set_role(fina, Role.FINANCE)
    headers = {"authorization": f"Bearer {make(fina, 'n8n', SCOPES)[1]}"}

    def send(method: str, url: str = URL, body: Any = None) -> Any:
        more = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(Browser(), method)(url, headers=headers, **more)

    return send


def client_since(name: str, month: int) -> Client:
    client = Client.objects.create(name=name)
    Client.objects.filter(pk=client.pk).update(created_at=datetime(2025, month, 1, tzinfo=UTC))
    return Client.objects.get(pk=client.pk)


def used(client: Client, calls: Any, charge: int) -> None:
    at = int(datetime(2025, 1, 10, tzinfo=UTC).timestamp()) * 10**6
    insert([calls.end(c=client.pk, at=at, end=at, cost=PICO, charge=charge)])


def test_it_is_looked_at_before_and_nothing_is_made_by_looking(ask: Any, calls: Any) -> None:
    acme, later = client_since("Acme", 1), client_since("Later", 6)
    used(acme, calls, 3 * PICO)
    first, second = ask("get").json()
    assert first == {
        "client": acme.pk, "client_name": "Acme", "reason": "", "requests": 1,
        "cost_usd": "1.00", "charge_usd": "3.00", "amount_usd": "3.00", "odd": [],
    }  # fmt: skip
    assert (second["client"], second["reason"]) == (later.pk, "It was no client then.")
    assert not Statement.objects.exists()


def test_it_is_closed_once_each_client_for_itself(ask: Any, calls: Any) -> None:
    acme, done, later = client_since("Acme", 1), client_since("Done", 1), client_since("Later", 6)
    used(acme, calls, 3 * PICO)
    close(drafts([done], JANUARY, timezone.now())[0], None, timezone.now())
    answers = ask("post", body={}).json()
    assert answers == [
        {"client": acme.pk, "statement": 2, "made": True, "reason": ""},
        {"client": done.pk, "statement": 1, "made": False, "reason": "closed"},
        {"client": later.pk, "statement": None, "made": False, "reason": "It was no client then."},
    ]
    again = ask("post", body={}).json()
    assert again[0] == {"client": acme.pk, "statement": 2, "made": False, "reason": "closed"}
    statement = Statement.objects.get(number=2)
    assert (statement.net, statement.closed_by) == (300, "fina")
    assert Statement.objects.count() == 2


def test_only_those_that_are_named_are_closed(ask: Any) -> None:
    acme, other = client_since("Acme", 1), client_since("Other", 1)
    assert [one["client"] for one in ask("post", body={"clients": [other.pk]}).json()] == [other.pk]
    assert not Statement.objects.filter(client=acme).exists()
    unknown = ask("post", body={"clients": [acme.pk, 10**6]})
    assert (unknown.status_code, unknown.json()["errors"]) == (400, {"clients": ["There is no client 1000000."]})
    assert not Statement.objects.filter(client=acme).exists()
    assert ask("post", body={"clients": []}).json() == []


@pytest.mark.parametrize("month", ["2025-13", "1999-01", "soon", "2025-01-01"])
def test_a_month_that_is_none_is_told(ask: Any, month: str) -> None:
    answer = ask("get", f"/api/closing/{month}/")
    assert answer.status_code == 400
    assert "A month is such as 2026-10" in answer.content.decode()
