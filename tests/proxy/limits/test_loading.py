"""Counters come from the ledger wherever it knows more than the engine, with calls going on meanwhile."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, CounterKey, Demand, LimitsNotLoaded, Missing, Refusal, Rule, Subject

SECOND = 1_000_000
HOUR = 3_600 * SECOND
MIDNIGHT = 1_793_491_200 * SECOND  # 2026-11-01 00:00 UTC
NOW = MIDNIGHT + 12 * HOUR
REQUESTS = Rule(1, "requests", 100, "day")
TOKENS = Rule(2, "tokens", 1_000, "month")
BEFORE = Subject(1, (REQUESTS,), ZoneInfo("UTC"), 1)
AFTER = replace(BEFORE, rules=(REQUESTS, TOKENS))


async def call(engine: MemoryLimits, subject: Subject, name: str, now: int = NOW) -> Reservation:
    answer = await engine.reserve(name, subject, Demand(10, 0, False, None), now)
    assert isinstance(answer, Reservation)
    return answer


def asked(engine: MemoryLimits, *subjects: Subject, now: int = NOW) -> Missing:
    missing = engine.unloaded(subjects, now)
    assert missing is not None
    return missing


def running(subject: Subject) -> MemoryLimits:
    engine = MemoryLimits()
    engine.load(Balances(), asked(engine, subject).until)
    return engine


def spent(engine: MemoryLimits, subject: Subject, now: int = NOW) -> dict[str, tuple[int, int]]:
    return {f"{one.rule.metric}/{one.rule.cycle}": (one.spent, one.held) for one in engine.standings(subject, now)}


async def test_a_start_asks_for_everything_and_continues_from_the_ledger() -> None:
    engine = MemoryLimits()
    missing = asked(engine, AFTER)
    day, month = CounterKey(1, "requests", "day", MIDNIGHT), CounterKey(1, "tokens", "month", MIDNIGHT)
    assert missing == Missing(NOW, (day, month), (1,))
    assert engine.load(Balances({day: 99, month: 7}), missing.until)
    await engine.settle(await call(engine, AFTER, "last"), 10, 0)
    assert isinstance(await engine.reserve("more", AFTER, Demand(1, 0, False, None), NOW), Refusal)
    assert spent(engine, AFTER) == {"requests/day": (100, 0), "tokens/month": (17, 0)}
    assert engine.dump(NOW).counters == {day: 100, month: 17}


async def test_the_minute_continues_second_by_second() -> None:
    subject = replace(BEFORE, rules=(replace(REQUESTS, cycle="minute"),))
    engine = MemoryLimits()
    missing = asked(engine, subject)
    [key] = missing.counters
    assert (key.cycle, key.start) == ("minute", NOW - 60 * SECOND)
    second = NOW // SECOND
    engine.load(Balances(seconds={key: {second - 61: 40, second - 60: 30, second - 1: 20, second: 1}}), missing.until)
    assert spent(engine, subject) == {"requests/minute": (51, 0)}
    assert spent(engine, subject, NOW + SECOND) == {"requests/minute": (21, 0)}
    assert spent(engine, subject, NOW + 61 * SECOND) == {"requests/minute": (0, 0)}


async def test_a_new_rule_counts_what_is_in_flight_and_what_settles_while_the_ledger_is_read() -> None:
    engine = running(BEFORE)
    names = ("settled before", "settled meanwhile", "released meanwhile", "settled after", "in flight")
    calls = {name: await call(engine, BEFORE, name) for name in names}
    await engine.settle(calls["settled before"], 3, 0)  # the ledger will tell this one
    missing = asked(engine, AFTER, now=NOW + 1)
    [key] = missing.counters
    await engine.settle(calls["settled meanwhile"], 5, 0)
    await engine.release(calls["released meanwhile"])
    late = await call(engine, BEFORE, "admitted meanwhile", NOW + 2)
    await engine.settle(late, 11, 0)
    assert spent(engine, AFTER) == {"requests/day": (3, 2)}, "judged by the old rules until the ledger has answered"
    engine.load(Balances({key: 1_000_003}), missing.until)
    assert spent(engine, AFTER)["tokens/month"] == (1_000_003 + 5 + 11, 20)
    await engine.settle(calls["settled after"], 7, 0)
    assert spent(engine, AFTER)["tokens/month"] == (1_000_003 + 5 + 11 + 7, 10)


async def test_a_ledger_read_that_failed_is_begun_again_and_counts_nothing_twice() -> None:
    engine = running(BEFORE)
    first, second = await call(engine, BEFORE, "first"), await call(engine, BEFORE, "second")
    old = asked(engine, AFTER, now=NOW + 1)
    await engine.settle(first, 10, 0)
    new = asked(engine, AFTER, now=NOW + 2)
    await engine.settle(second, 10, 0)
    assert not engine.load(Balances({old.counters[0]: 0}), old.until)
    assert engine.load(Balances({new.counters[0]: 10}), new.until)
    assert spent(engine, AFTER)["tokens/month"] == (20, 0)


@pytest.mark.parametrize(
    "changed",
    [
        replace(BEFORE, rules=(replace(REQUESTS, cycle="week"),)),
        replace(BEFORE, zone=ZoneInfo("Asia/Kathmandu")),
        replace(BEFORE, rules=(REQUESTS, replace(REQUESTS, cycle="total"))),
    ],
)
async def test_what_moves_a_window_asks_the_ledger(changed: Subject) -> None:
    engine = running(BEFORE)
    [key] = asked(engine, changed).counters
    assert key.start < NOW


async def test_a_start_day_moves_weeks_and_months_alone() -> None:
    cycles = ("minute", "hour", "day", "week", "month", "total")
    subject = replace(BEFORE, rules=tuple(Rule(n, "tokens", 5, cycle) for n, cycle in enumerate(cycles)))
    engine = running(subject)
    assert {key.cycle for key in asked(engine, replace(subject, start_day=15)).counters} == {"week", "month"}


async def test_amounts_removals_and_new_rule_numbers_need_no_ledger() -> None:
    engine = running(AFTER)
    await engine.settle(await call(engine, AFTER, "one"), 10, 0)
    for changed in (
        replace(AFTER, rules=(replace(REQUESTS, amount=1), TOKENS)),
        replace(AFTER, rules=(replace(REQUESTS, id=77, amount=1), TOKENS)),
        replace(AFTER, rules=(replace(REQUESTS, amount=1),)),
    ):
        assert engine.unloaded([changed], NOW) is None
        answer = await engine.reserve("two", changed, Demand(0, 0, False, None), NOW)
        assert isinstance(answer, Refusal)
        assert answer.rule == changed.rules[0]
    back = asked(engine, AFTER)
    assert [key.metric for key in back.counters] == ["tokens"], "nobody counted tokens while the rule was away"


async def test_a_window_that_begins_under_our_eyes_needs_no_ledger() -> None:
    engine = running(AFTER)
    tomorrow = MIDNIGHT + 24 * HOUR
    assert engine.unloaded([AFTER], tomorrow) is None
    assert spent(engine, AFTER, tomorrow)["requests/day"] == (0, 0)


async def test_a_window_that_ends_while_the_ledger_is_read_takes_nothing_from_the_old_one() -> None:
    engine = running(replace(BEFORE, rules=()))
    missing = asked(engine, BEFORE, now=MIDNIGHT + 24 * HOUR - 1)
    tomorrow = MIDNIGHT + 24 * HOUR
    await engine.settle(await call(engine, replace(BEFORE, rules=()), "early", tomorrow), 0, 0)
    engine.load(Balances({missing.counters[0]: 60}), missing.until)
    assert spent(engine, BEFORE, tomorrow) == {"requests/day": (1, 0)}


async def test_a_call_that_read_its_rules_before_a_change_is_judged_by_those_in_force() -> None:
    engine = running(AFTER)
    strict = replace(BEFORE, rules=(replace(REQUESTS, amount=0),))
    assert engine.unloaded([strict], NOW) is None
    assert isinstance(await engine.reserve("slow body", AFTER, Demand(0, 0, False, None), NOW), Refusal)


async def test_a_new_key_is_not_judged_before_its_own_limits_are_known() -> None:
    """Its client is known, and without limits of the key that would let any number of calls through."""
    engine = running(BEFORE)
    limited = replace(BEFORE, rules=(REQUESTS, Rule(3, "requests", 1, "day", key_id=7)))
    demand = Demand(10, 0, False, None)
    with pytest.raises(LimitsNotLoaded):
        await engine.reserve("before it is announced", limited, demand, NOW, 7)
    missing = asked(engine, limited)
    with pytest.raises(LimitsNotLoaded):
        await engine.reserve("before it is loaded", limited, demand, NOW, 7)
    assert isinstance(await engine.reserve("another key", limited, demand, NOW, 8), Reservation)
    engine.load(Balances(), missing.until)
    assert isinstance(await engine.reserve("first", limited, demand, NOW, 7), Reservation)
    assert isinstance(await engine.reserve("second", limited, demand, NOW, 7), Refusal)


async def test_a_client_that_comes_back_comes_back_with_its_past() -> None:
    engine = running(BEFORE)
    long_call = await call(engine, BEFORE, "long")
    assert engine.unloaded([], NOW) is None
    await engine.settle(long_call, 10, 0)
    assert engine.unloaded([BEFORE], NOW) is None, "its last call kept it known"
    assert spent(engine, BEFORE) == {"requests/day": (1, 0)}
    assert engine.unloaded([], NOW) is None
    missing = asked(engine, BEFORE)
    assert missing.session_clients == (1,)
    engine.load(Balances({missing.counters[0]: 1}), missing.until)
    assert spent(engine, BEFORE) == {"requests/day": (1, 0)}


async def test_memory_does_not_grow_with_calls_or_closed_windows() -> None:
    cycles = ("minute", "hour", "day", "week", "month", "total")
    subject = replace(BEFORE, rules=tuple(Rule(n, "requests", 10**9, cycle) for n, cycle in enumerate(cycles)))
    engine = running(subject)
    state = engine._clients[1]
    for number in range(5_000):
        now = NOW + number * 17 * SECOND
        await engine.settle(await call(engine, subject, "call", now), 1, 1)
    assert len(state.windows) == len(cycles)
    assert len(engine.dump(now).seconds) == 1
    assert max(len(by_second) for by_second in engine.dump(now).seconds.values()) <= 61
    assert not state.open
