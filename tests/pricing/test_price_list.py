"""New prices from now or from a day to come, those withdrawn, and the history of who made which."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pytest_django import Settings

from pricing.models import Model, Price
from pricing.price_list import State, Step, first_of_next_month, history, new_price, withdraw

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def ann(db: None) -> User:
    return get_user_model().objects.create(username="ann")


def now() -> datetime:
    return datetime.now(UTC)


def words(error: pytest.ExceptionInfo[ValidationError]) -> str:
    return " ".join(error.value.messages)


def test_a_price_from_now_on_is_in_force_at_once(price: Price, ann: User) -> None:
    before = now()
    (made,) = new_price(price.model, [Step(input=7, output=9, cached_input=3)], None, ann)
    assert before <= made.effective_from <= now()
    assert (made.source, made.created_by, made.input, made.cached_input, made.audio_input) == (
        "operator",
        ann,
        7,
        3,
        None,
    )
    card = price.model.rate_card(now())
    assert card is not None
    assert card.rates(None, 1).price_id == made.pk


def test_a_price_to_come_waits_for_its_day(price: Price, ann: User) -> None:
    (made,) = new_price(price.model, [Step(1, 1)], now() + DAY, ann)
    for moment, expected in ((now(), price.pk), (now() + 2 * DAY, made.pk)):
        card = price.model.rate_card(moment)
        assert card is not None
        assert card.rates(None, 1).price_id == expected


def test_steps_for_long_calls_come_with_the_rest(price: Price) -> None:
    made = new_price(price.model, [Step(2, 2, above_tokens=200_000), Step(1, 1)], None, None)
    assert [one.above_tokens for one in made] == [0, 200_000]
    with pytest.raises(ValidationError) as refused:
        new_price(price.model, [Step(2, 2, above_tokens=200_000)], now() + DAY, None)
    assert "long calls" in words(refused)


@pytest.mark.parametrize(
    ("when", "said"), [(-timedelta(seconds=1), "past"), (-400 * DAY, "past"), (2000 * DAY, "five years")]
)
def test_a_moment_that_is_no_good(price: Price, when: timedelta, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        new_price(price.model, [Step(1, 1)], now() + when, None)
    assert said in words(refused)
    assert list(refused.value.message_dict) == ["effective_from"]
    assert Price.objects.count() == 1


def test_a_moment_that_is_taken(price: Price) -> None:
    moment = now() + DAY
    new_price(price.model, [Step(1, 1)], moment, None)
    with pytest.raises(ValidationError) as refused:
        new_price(price.model, [Step(2, 2)], moment, None)
    assert "withdraw it first" in words(refused)
    new_price(price.model, [Step(2, 2)], moment, None, service_tier="flex")


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Step(-1, 1)],
        [Step(10**12 + 1, 1)],
        [Step(1, 1), Step(1, 1)],
        [Step(1, 1), Step(1, -1, above_tokens=1)],
        [Step(1, 1, above_tokens=-1), Step(1, 1)],
    ],
)
def test_rates_that_no_price_may_have_change_nothing(price: Price, steps: list[Step]) -> None:
    with pytest.raises(ValidationError):
        new_price(price.model, steps, None, None)
    assert Price.objects.count() == 1


def test_a_free_model_gets_no_price(price: Price) -> None:
    price.model.free = True
    with pytest.raises(ValidationError):
        new_price(price.model, [Step(1, 1)], None, None)


def test_a_price_to_come_may_be_withdrawn_whole(price: Price) -> None:
    (base, _) = new_price(price.model, [Step(1, 1), Step(2, 2, above_tokens=9)], now() + DAY, None)
    other = new_price(price.model, [Step(1, 1)], now() + DAY, None, service_tier="flex")
    assert withdraw(base) == 2
    assert set(Price.objects.all()) == {price, *other}


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(seconds=1)])
def test_a_price_in_force_or_about_to_be_stays(price: Price, ahead: timedelta) -> None:
    moment = now() + DAY
    (made,) = new_price(price.model, [Step(1, 1)], moment, None)
    with time_machine.travel(moment - ahead, tick=False), pytest.raises(ValidationError) as refused:
        withdraw(made)
    assert "stays" in words(refused)
    assert Price.objects.filter(pk=made.pk).exists()


@pytest.mark.parametrize(
    ("zone", "at", "first"),
    [
        ("UTC", datetime(2026, 11, 25, 20, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("UTC", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        # 23:30 UTC on the 30th is the 1st already in Berlin
        ("Europe/Berlin", datetime(2026, 11, 30, 23, 30, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)),
        # the clocks change in between
        ("Europe/Berlin", datetime(2026, 3, 20, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2026, 12, 1, 7, tzinfo=UTC), datetime(2026, 12, 1, 8, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 18, 15, tzinfo=UTC)),
    ],
)
def test_the_next_month_begins_where_the_installation_is(
    settings: Settings, zone: str, at: datetime, first: datetime
) -> None:
    settings.TIME_ZONE = zone
    assert first_of_next_month(at) == first
    assert first_of_next_month(at).astimezone(ZoneInfo(zone)).hour == 0


def test_the_history_tells_who_made_what_when(price: Price, ann: User) -> None:
    (later,) = new_price(price.model, [Step(5, 5)], now() + DAY, ann)
    current = new_price(price.model, [Step(3, 3), Step(4, 4, above_tokens=9)], None, ann)
    (flex,) = new_price(price.model, [Step(1, 1)], None, None, service_tier="flex")
    versions = history(price.model, now())
    assert [(version.rows, version.state) for version in versions] == [
        ((later,), State.TO_COME),
        (tuple(current), State.IN_FORCE),
        ((price,), State.PAST),
        ((flex,), State.IN_FORCE),
    ]
    assert [version.made.created_by for version in versions] == [ann, ann, None, None]


def test_the_history_agrees_with_the_price_list_about_a_step_alone(price: Price) -> None:
    alone = Price.objects.create(model=price.model, effective_from=now(), above_tokens=9, input=1, output=1)
    states = {version.rows[0]: version.state for version in history(price.model, now())}
    assert states == {price: State.IN_FORCE, alone: State.PAST}


def test_who_leaves_leaves_the_prices(price: Price, ann: User) -> None:
    (made,) = new_price(price.model, [Step(1, 1)], None, ann)
    ann.delete()
    made.refresh_from_db()
    assert made.created_by is None


def test_a_history_that_is_prefetched_asks_nothing(price: Price, django_assert_num_queries: Any) -> None:
    (model,) = Model.objects.prefetch_related("prices")
    with django_assert_num_queries(0):
        assert len(history(model, now())) == 1
