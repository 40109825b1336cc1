"""A WhatsApp session: one end user of the client, 24 hours from the call that opened it."""

import asyncio
from zoneinfo import ZoneInfo

from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, CounterKey, Demand, Refusal, Rule, Subject

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW = 1_793_490_000 * SECOND


def client(amount: int, cycle: str = "month") -> Subject:
    return Subject(1, (Rule(1, "sessions", amount, cycle),), ZoneInfo("UTC"), 1)


def engine_for(subject: Subject, balances: Balances | None = None) -> MemoryLimits:
    engine = MemoryLimits()
    missing = engine.unloaded([subject], NOW)
    assert missing is not None
    engine.load(balances or Balances(), missing.until)
    return engine


async def call(engine: MemoryLimits, subject: Subject, user: str | None, name: str, now: int = NOW) -> Reservation:
    answer = await engine.reserve(name, subject, Demand(1, 1, False, user), now)
    assert isinstance(answer, Reservation), answer
    return answer


async def test_two_hundred_calls_of_one_user_at_once_open_one_session() -> None:
    subject = client(1)
    engine = engine_for(subject)

    async def one(number: int) -> bool:
        reservation = await call(engine, subject, "anna", str(number))
        await asyncio.sleep(0)
        return await engine.settle(reservation, 1, 1)

    assert sum(await asyncio.gather(*(one(number) for number in range(200)))) == 1
    assert engine.standings(subject, NOW)[0].spent == 1
    assert isinstance(await engine.reserve("ben", subject, Demand(1, 1, False, "ben"), NOW), Refusal)
    await call(engine, subject, None, "of nobody")


async def test_it_lasts_twenty_four_hours_from_the_first_call_not_from_the_last() -> None:
    subject = client(5)
    engine = engine_for(subject)
    opened = [
        await engine.settle(await call(engine, subject, "anna", str(at), NOW + at), 1, 1)
        for at in (0, 23 * HOUR, 24 * HOUR - 1, 24 * HOUR, 47 * HOUR, 48 * HOUR)
    ]
    assert opened == [True, False, False, True, False, True]


async def test_a_released_opener_leaves_it_to_the_earliest_other_call() -> None:
    subject = client(1)
    engine = engine_for(subject)
    first = await call(engine, subject, "anna", "first")
    second = await call(engine, subject, "anna", "second", NOW + 1)
    third = await call(engine, subject, "anna", "third", NOW + 2)
    assert (first.opens_session, second.opens_session, third.opens_session) == (True, False, False)
    assert await engine.release(first) == "second"
    assert (first.opens_session, second.opens_session, third.opens_session) == (False, True, False)
    assert engine.standings(subject, NOW)[0].held == 1
    assert await engine.settle(second, 1, 1)
    assert not await engine.settle(third, 1, 1)
    assert engine.dump(NOW).sessions == {1: {"anna": NOW + 1}}


async def test_it_has_never_been_if_the_only_call_is_released() -> None:
    subject = client(1)
    engine = engine_for(subject)
    assert await engine.release(await call(engine, subject, "anna", "first")) is None
    assert engine.standings(subject, NOW)[0].left == 1
    ben = await call(engine, subject, "ben", "second")
    assert ben.opens_session


async def test_it_does_not_go_over_to_a_call_that_is_over() -> None:
    subject = client(1)
    engine = engine_for(subject)
    first = await call(engine, subject, "anna", "first")
    assert not await engine.settle(await call(engine, subject, "anna", "settled"), 1, 1)
    await engine.release(await call(engine, subject, "anna", "released"))
    await engine.release(first)
    assert engine.standings(subject, NOW)[0].left == 1
    assert (await call(engine, subject, "anna", "next")).opens_session


async def test_going_over_to_a_call_of_the_next_window_it_counts_there() -> None:
    subject = client(2, "hour")
    engine = engine_for(subject)
    first = await call(engine, subject, "anna", "first")
    later = NOW + HOUR
    second = await call(engine, subject, "anna", "second", later)
    assert engine.standings(subject, later)[0].held == 0
    await engine.release(first)
    assert engine.standings(subject, later)[0].held == 1
    await engine.settle(second, 1, 1)
    assert engine.standings(subject, later)[0].spent == 1


async def test_sessions_of_the_ledger_are_open() -> None:
    subject = client(1)
    month = CounterKey(1, "sessions", "month", 1_793_491_200 * SECOND)
    engine = engine_for(subject, Balances(sessions={1: {"anna": NOW - 23 * HOUR}}, counters={month: 1}))
    anna = await call(engine, subject, "anna", "known")
    assert not await engine.settle(anna, 1, 1)
    assert (await call(engine, subject, "anna", "over", NOW + HOUR)).opens_session


async def test_sessions_are_counted_for_clients_without_a_limit() -> None:
    subject = Subject(1, (), ZoneInfo("UTC"), 1)
    engine = engine_for(subject)
    assert await engine.settle(await call(engine, subject, "anna", "first"), 1, 1)
    assert not await engine.settle(await call(engine, subject, "anna", "second"), 1, 1)


async def test_sessions_that_are_over_are_forgotten() -> None:
    subject = client(10**9)
    engine = engine_for(subject)
    state = engine._clients[1]
    most = 0
    for number in range(20_000):
        at = NOW + number * 60 * SECOND
        await engine.settle(await call(engine, subject, f"user {number}", "call", at), 1, 1)
        most = max(most, len(state.sessions))
    assert most <= 25 * 60 + 1  # one a minute, each for 24 hours and at most an hour more
    waiting = sum(len(hour) for hour in engine._expiry._hours.values()) + sum(map(len, engine._expiry._due))
    assert waiting <= 25 * 60 + 1
