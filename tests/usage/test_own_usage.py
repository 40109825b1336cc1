"""What a client is told of its own usage: sums by its own calendar, forecasts, and only its own."""

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.utils import timezone

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.quotes import microseconds
from tests.usage.test_pages import call
from usage import due
from usage.models import UsageRecord
from usage.own_usage import FRESH_US, Asked, LimitNow, OwnUsage
from usage.rollups import roll_due

pytestmark = pytest.mark.django_db


def month_of(client: Client, now: int) -> Asked:
    reset = microseconds(timezone.now() + timedelta(days=10))
    limits = (
        LimitNow(1, 0, "credits", "month", 1_000, 300, reset),
        LimitNow(2, 0, "requests", "minute", 10, 0, None),
        LimitNow(1, client.keys.get().pk, "requests", "total", 50, 30, None),
    )
    return Asked(client.pk, client.keys.get().pk, client.time_zone, limits, now)


def client_with_calls(name: str, days: int, charge: int) -> Client:
    client = create_client(name, time_zone="Pacific/Kiritimati")
    key, _ = issue(client)
    now = timezone.now()
    store(
        [
            call(client, key=key, charge=charge, cost=7, admitted_at=now - timedelta(hours=hours))
            for hours in range(days * 24)
        ]
    )
    return client


def store(records: list[UsageRecord]) -> None:
    UsageRecord.objects.bulk_create(records)
    due.put_down((record.request_id.hex, record.admitted_at) for record in records)
    roll_due()


def test_forecasts_are_told_for_limits_of_the_client_and_of_the_key() -> None:
    client = client_with_calls("Acme", 3, 5)
    told = OwnUsage().read(month_of(client, microseconds(timezone.now())))
    assert told is not None
    key = client.keys.get()
    assert set(told.forecasts) == {(1, 0), (1, key.pk)}  # a minute is not foreseen
    at = told.forecasts[1, 0].likely
    assert at is not None
    assert timedelta(days=5) < at - timezone.now() < timedelta(days=7)  # 700 left, at 5 an hour
    at = told.forecasts[1, key.pk].likely
    assert at is not None
    assert timedelta(hours=18) < at - timezone.now() < timedelta(hours=21)


def test_nothing_of_another_client_is_in_the_sums() -> None:
    client = client_with_calls("Acme", 1, 5)
    client_with_calls("Other", 1, 1_000_000)
    told = OwnUsage().read(month_of(client, microseconds(timezone.now())))
    assert told is not None
    today = told.spans["today"]
    assert 1 <= today.client.requests <= 24
    assert today.client.charge == 5 * today.client.requests
    assert set(today.by_key) == {client.keys.get().pk}


def test_sums_are_kept_for_ten_seconds_and_then_read_again() -> None:
    client = client_with_calls("Acme", 1, 5)
    reader, now = OwnUsage(), microseconds(timezone.now())
    first = reader.read(month_of(client, now))
    assert first is not None
    before = first.spans["month"].client.requests
    store([call(client, key=client.keys.get())])
    again = reader.read(month_of(client, now + FRESH_US - 1))
    assert again is not None
    assert again.spans["month"].client.requests == before
    later = reader.read(month_of(client, now + FRESH_US))
    assert later is not None
    assert later.spans["month"].client.requests == before + 1


def test_a_database_that_does_not_answer_and_a_client_that_is_gone_are_no_errors() -> None:
    client = client_with_calls("Acme", 1, 5)
    asked = month_of(client, microseconds(timezone.now()))
    with patch("usage.own_usage.read", side_effect=OperationalError("locked")), patch("usage.own_usage.connection"):
        assert OwnUsage().read(asked) is None
    assert OwnUsage().read(asked._replace(client_id=10**9)) is None
