"""What is usual is learned from what happened: a loop of a day is not, what is done every week is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clients.models import Client
from usage.ingest import insert
from usage.models import UsualPace
from usage.pace_learning import learn
from usage.paces import LEAST

pytestmark = pytest.mark.django_db

NOW = datetime(2025, 6, 30, 12, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture
def acme() -> Client:
    return Client.objects.create(name="Acme", brake_times=10)


@pytest.fixture
def called(calls: Any, acme: Client) -> Any:
    """So many calls within one minute, some days ago."""

    def add(days_ago: int, count: int, hour: int = 9, **fields: Any) -> None:
        start = (NOW - timedelta(days=days_ago)).replace(hour=hour, minute=30)
        moments = [micros(start + timedelta(seconds=59 * number / count)) for number in range(count)]
        insert([calls.end(c=acme.pk, at=at, end=at, **{"w": "bot", **fields}) for at in moments])

    return add


def pace(client: Client) -> UsualPace:
    return UsualPace.objects.get(client=client)


def test_a_loop_of_two_days_is_not_learned_and_what_happens_every_week_is(acme: Client, called: Any) -> None:
    for days_ago in range(1, 9):
        called(days_ago, 2)
        called(days_ago, 5, hour=10)  # its busiest minute
    for days_ago in (2, 3):
        called(days_ago, 90, hour=11)
    assert learn(NOW) == 1
    assert pace(acme).workflows == {"bot": 5}
    for days_ago in (7, 14, 21, 27):
        called(days_ago, 40, hour=12, w="newsletter")
    called(1, 3, w="newsletter")
    learn(NOW + timedelta(days=1, seconds=1))
    assert pace(acme).workflows == {"bot": 5, "newsletter": 40}


def test_who_has_called_on_few_days_has_nothing_usual(acme: Client, called: Any) -> None:
    for days_ago in range(1, 5):
        called(days_ago, 5)
    called(40, 5)  # too long ago
    called(6, 5, o="refused", charge=0)  # no call was made
    learn(NOW)
    assert (pace(acme).workflows, pace(acme).user) == ({}, None)


def test_of_users_it_is_the_busiest_that_counts(acme: Client, called: Any) -> None:
    for days_ago in range(1, 7):
        called(days_ago, 4, s="a" * 32, w=None)
        called(days_ago, 2, s="b" * 32, w=None)
    learn(NOW)
    assert (pace(acme).workflows, pace(acme).user) == ({}, 4)


def test_rates_are_so_many_times_the_usual_and_never_so_low_that_a_batch_is_a_loop(acme: Client) -> None:
    learned = UsualPace(client=acme, workflows={"bot": 7, "daily": 1}, user=4)
    assert learned.rates(acme) == {"bot": 70, "daily": LEAST}
    assert learned.user_rate(acme) == 40


def test_it_is_learned_once_a_day_and_for_those_who_want_it_alone(acme: Client) -> None:
    Client.objects.create(name="Without")
    Client.objects.create(name="Archived", brake_times=10, status=Client.Status.INACTIVE)
    assert learn(NOW) == 1
    assert learn(NOW + timedelta(hours=23)) == 0
    assert learn(NOW + timedelta(hours=25)) == 1
    assert list(UsualPace.objects.values_list("client", flat=True)) == [acme.pk]
