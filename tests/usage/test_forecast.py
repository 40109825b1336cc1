"""When a limit will be used up: like the last weeks by weekday and hour, between the busiest and the quietest."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from clients.models import Limit
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.quotes import microseconds
from tests.usage.test_pages import call, text
from usage import due, standings
from usage.forecast import FARTHEST, Pace, paces
from usage.models import UsageRecord
from usage.rollups import roll_due

HOUR = timedelta(hours=1)
WEEK = 7 * 24
NOW = datetime(2026, 3, 20, 10, 24, tzinfo=UTC)  # a Friday

hours_used = st.lists(st.integers(0, 5) | st.integers(0, 10**15), max_size=4 * WEEK)
many_hours_used = st.integers(1, 4 * WEEK).flatmap(
    lambda size: st.tuples(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.just(size)).map(
        lambda made: [made[0][number * 7 % len(made[0])] for number in range(made[1])]
    )
)


def hour_by_hour(hours: list[int], zone: str, left: int, end: datetime, which: str) -> datetime | None:
    """What `Pace.forecast` must say, in fractions and one hour at a time; weekdays are the zone's."""
    there = ZoneInfo(zone)
    period = WEEK if len(hours) >= 2 * WEEK else 24
    used = hours[len(hours) % period :]
    totals = [sum(used[at : at + period]) for at in range(0, len(used), period)]
    pace = {
        "likely": totals[-1] if period == WEEK else sum(totals) // len(totals),
        "earliest": max(totals),
        "latest": min(totals),
    }[which]
    shares: dict[Any, Fraction] = {}
    first = NOW.replace(minute=0) - len(used) * HOUR
    for number, amount in enumerate(used):
        local = (first + number * HOUR).astimezone(there)
        at = (local.weekday(), local.hour)
        shares[at] = shares.get(at, Fraction(0)) + (Fraction(amount, sum(used)) if sum(used) else 0)
    so_far, moment = Fraction(0), NOW
    while moment < end:
        following = min(moment.replace(minute=0, second=0) + HOUR, end)
        local = moment.astimezone(there)
        share = shares.get((local.weekday(), local.hour), Fraction(0)) if period == WEEK else Fraction(1, 24)
        more = share * pace * Fraction((following - moment) // timedelta(seconds=1), 3600)
        if more and so_far + more >= left:
            return moment + (following - moment) * float((left - so_far) / more)
        so_far += more
        moment = following
    return None


@given(many_hours_used, st.integers(1, 50_000), st.integers(1, 60 * 24), st.sampled_from(["UTC", "Asia/Kathmandu"]))
def test_it_says_what_walking_hour_by_hour_says(hours: list[int], left: int, ahead: int, zone: str) -> None:
    end = NOW + ahead * HOUR
    found = Pace(hours, zone).forecast(left + 7, 7, NOW, end)
    if len(hours) < 24:
        assert found is None
        return
    assert found is not None
    for which in ("likely", "earliest", "latest"):
        said, walked = getattr(found, which), hour_by_hour(hours, zone, left, end, which)
        assert (said is None) == (walked is None), which
        assert said is None or abs(said - walked) <= timedelta(seconds=1)


@given(hours_used, st.integers(0, 10**18), st.integers(0, 10**18), st.sampled_from([None, NOW + 30 * 24 * HOUR]))
def test_the_likely_moment_is_within_the_range_and_what_is_used_agrees(
    hours: list[int], amount: int, taken: int, resets_at: datetime | None
) -> None:
    found = Pace(hours, "Europe/Berlin").forecast(amount, taken, NOW, resets_at)
    if found is None:
        assert len(hours) < 24
        return
    never = NOW + 2 * FARTHEST
    earliest, likely, latest = (at or never for at in (found.earliest, found.likely, found.latest))
    assert NOW <= earliest <= likely <= latest
    if taken >= amount:
        assert found.likely == NOW
    if resets_at is None:
        assert found.at_reset is None
    else:
        assert found.at_reset is not None
        assert (found.likely is None) == (found.at_reset < amount)


def test_what_is_used_on_mondays_alone_will_be_used_on_a_monday() -> None:
    there = ZoneInfo("America/Sao_Paulo")
    first = NOW.replace(minute=0) - 4 * WEEK * HOUR
    local = [(first + number * HOUR).astimezone(there) for number in range(4 * WEEK)]
    hours = [100 if at.weekday() == 0 and 9 <= at.hour < 17 else 0 for at in local]
    found = Pace(hours, "America/Sao_Paulo").forecast(1_000, 800, NOW, NOW + 10 * 24 * HOUR)
    assert found is not None
    assert found.likely is not None
    assert found.likely.astimezone(there) == datetime(2026, 3, 23, 11, tzinfo=there)
    assert found.earliest == found.latest == found.likely


@pytest.mark.django_db
def test_the_pages_of_a_client_and_of_a_key_foretell_their_limits(
    admin_client: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = create_client("Acme", ["credits=100/month", "requests=5/minute"])
    key, _ = issue(acme, "n8n", limits=["requests=2000/total"])
    now = timezone.now()
    for days in range(1, 11):
        at = now - timedelta(days=days)
        UsageRecord.objects.bulk_create(
            [call(acme, key=key, charge=10**12, admitted_at=at, settled_at=at) for _ in range(4)]
            + [call(acme, key=key, outcome="refused", status=429, admitted_at=at, settled_at=at) for _ in range(50)]
        )
    due.put_all_down()
    resets = now + timedelta(days=20)
    per_month, own = Limit.objects.get(client=acme, cycle="month"), key.limits.get()
    told = {
        "client": [(per_month.pk, per_month.amount, 40 * 10**12, 0, microseconds(resets))],
        "key": [(own.pk, own.amount, 40, 0, None)],
    }
    monkeypatch.setattr(standings, "_ask", lambda query: {str(acme.pk): told[query.partition("=")[0]]})

    # 4 USD a day, of 60 left: in 15 days, whether rolled up or not.
    for _ in range(2):
        assert sum(paces(acme, ["credits"], now)["credits"].hours) >= 36 * 10**12
        shown = text(admin_client.get(reverse("admin:clients_client_change", args=[acme.pk])))
        about = timezone.localtime(now + timedelta(days=15))
        assert f"about {about:%-d %b}" in shown or f"about {about + timedelta(days=1):%-d %b}" in shown
        shown = text(admin_client.get(reverse("admin:keys_apikey_change", args=[key.pk])))
        assert "in more than a year" in shown
        roll_due()
