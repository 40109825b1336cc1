"""What one call may take of its client's limits, at any concurrency."""

import asyncio
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, Demand, LimitsNotLoaded, Refusal, Rule, Subject

SECOND = 1_000_000
NOW = 1_793_490_000 * SECOND
ONE = Demand(0, 0, False, None)


def client(*limits: tuple[str, int, str]) -> Subject:
    return Subject(1, tuple(Rule(n, *limit) for n, limit in enumerate(limits)), ZoneInfo("Europe/Berlin"), 1)


def engine_for(*subjects: Subject) -> MemoryLimits:
    engine = MemoryLimits()
    if missing := engine.unloaded(subjects, NOW):
        engine.load(Balances(), missing.until)
    return engine


async def admitted(
    engine: MemoryLimits, subject: Subject, demand: Demand, name: str = "call", now: int = NOW
) -> Reservation:
    answer = await engine.reserve(name, subject, demand, now)
    assert isinstance(answer, Reservation), answer
    return answer


async def refused(engine: MemoryLimits, subject: Subject, demand: Demand, now: int = NOW) -> Refusal:
    answer = await engine.reserve("refused", subject, demand, now)
    assert isinstance(answer, Refusal)
    return answer


@pytest.mark.parametrize("seed", range(50))
async def test_two_hundred_callers_on_a_limit_of_a_hundred_get_exactly_a_hundred(seed: int) -> None:
    subject = client(("requests", 100, "day"))
    engine, dice = engine_for(subject), Random(seed)
    let_through, given_back = [], []

    async def call(number: int) -> None:
        """Try until let through or told that the limit is spent; a provider's error sometimes gives it back."""
        while True:
            await asyncio.sleep(0)
            answer = await engine.reserve(f"{number}", subject, ONE, NOW)
            if isinstance(answer, Refusal):
                if answer.kind == "spent":
                    return
                continue
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            if dice.random() < 0.2:
                await engine.release(answer)
                given_back.append(number)
            else:
                await engine.settle(answer, 0, 0)
                let_through.append(number)
                return

    await asyncio.gather(*(call(number) for number in range(200)))
    assert len(let_through) == 100
    assert len(set(let_through)) == 100
    assert given_back
    [standing] = engine.standings(subject, NOW)
    assert (standing.spent, standing.held, standing.left) == (100, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    amount=st.integers(0, 60),
    calls=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 3)), min_size=1, max_size=40),
)
def test_bounded_calls_never_overspend_and_are_never_refused_while_they_fit(amount: int, calls: list) -> None:
    subject = client(("tokens", amount, "day"))

    async def scenario() -> None:
        engine = engine_for(subject)
        in_flight = spent = 0

        async def call(name: str, bound: int, used: int, turns: int) -> None:
            nonlocal in_flight, spent
            answer = await engine.reserve(name, subject, Demand(bound, 0, False, None), NOW)
            assert isinstance(answer, Reservation) == (spent + in_flight + bound <= amount)
            if isinstance(answer, Refusal):
                return
            in_flight += bound
            for _ in range(turns):
                await asyncio.sleep(0)
            in_flight -= bound
            spent += min(used, bound)
            await engine.settle(answer, min(used, bound), 0)

        await asyncio.gather(*(call(str(n), *one) for n, one in enumerate(calls)))
        assert spent <= amount
        assert engine.standings(subject, NOW)[0].spent == spent

    asyncio.run(scenario())


@settings(max_examples=60, deadline=None)
@given(
    amount=st.integers(0, 60),
    calls=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=40),
)
def test_open_ended_calls_overshoot_by_no_more_than_they_exceed_their_estimates(amount: int, calls: list) -> None:
    subject = client(("credits", amount, "month"))

    async def scenario() -> None:
        engine = engine_for(subject)
        excess = spent = 0

        async def call(name: str, estimate: int, used: int, turns: int) -> None:
            nonlocal excess, spent
            before = engine.standings(subject, NOW)[0].left
            answer = await engine.reserve(name, subject, Demand(0, estimate, True, None), NOW)
            assert isinstance(answer, Reservation) == (before > 0)
            if isinstance(answer, Refusal):
                return
            held = before - engine.standings(subject, NOW)[0].left
            assert held == min(estimate, before)
            for _ in range(turns):
                await asyncio.sleep(0)
            excess += max(0, used - held)
            spent += used
            await engine.settle(answer, 0, used)

        await asyncio.gather(*(call(str(n), *one) for n, one in enumerate(calls)))
        assert spent <= amount + excess

    asyncio.run(scenario())


async def test_the_call_after_an_overshoot_is_refused() -> None:
    subject = client(("tokens", 100, "day"))
    engine = engine_for(subject)
    call = await admitted(engine, subject, Demand(10, 0, True, None))
    await engine.settle(call, 400, 0)
    assert (await refused(engine, subject, Demand(1, 0, True, None)))[0] == "spent"
    [standing] = engine.standings(subject, NOW)
    assert (standing.spent, standing.left) == (400, 0)


async def test_a_refusal_takes_nothing_of_any_limit() -> None:
    subject = client(("requests", 5, "day"), ("sessions", 5, "day"), ("tokens", 10, "day"), ("credits", 5, "day"))
    engine = engine_for(subject)
    assert (await refused(engine, subject, Demand(11, 1, False, "anna"))).kind == "too_large"
    assert all((standing.spent, standing.held) == (0, 0) for standing in engine.standings(subject, NOW))
    assert engine.in_flight() == 0
    # nor is the session open now
    call = await admitted(engine, subject, Demand(1, 1, False, "anna"))
    assert call.opens_session


async def test_a_limit_of_which_a_call_needs_nothing_does_not_refuse_it() -> None:
    subject = client(("credits", 0, "month"), ("sessions", 0, "month"))
    engine = engine_for(subject)
    await admitted(engine, subject, Demand(5, 0, True, None))
    assert (await refused(engine, subject, Demand(5, 1, True, None))).rule.metric == "credits"
    assert (await refused(engine, subject, Demand(5, 0, False, "anna"))).rule.metric == "sessions"


@pytest.mark.parametrize("metric", ["requests", "tokens", "credits", "sessions"])
@pytest.mark.parametrize("open_ended", [True, False])
async def test_zero_refuses_all_and_never_resets(metric: str, open_ended: bool) -> None:
    subject = client((metric, 0, "hour"))
    answer = await refused(engine_for(subject), subject, Demand(1, 1, open_ended, "anna"))
    assert (answer.kind, answer.left, answer.fits, answer.resets_at) == ("spent", 0, 0, None)


async def test_a_call_id_in_flight_gets_its_reservation_again() -> None:
    subject = client(("requests", 5, "day"))
    engine = engine_for(subject)
    first = await admitted(engine, subject, ONE)
    assert await engine.reserve("call", subject, ONE, NOW) is first
    assert engine.standings(subject, NOW)[0].held == 1


async def test_a_call_is_charged_to_the_window_of_its_admission() -> None:
    subject = client(("requests", 1, "hour"))
    engine = engine_for(subject)
    call = await admitted(engine, subject, ONE)
    later = NOW + 3_600 * SECOND
    await admitted(engine, subject, ONE, "next", later)
    await engine.settle(call, 0, 0)
    [standing] = engine.standings(subject, later)
    assert (standing.spent, standing.held) == (0, 1)


async def test_a_clock_set_back_gives_nothing_out_twice() -> None:
    subject = client(("requests", 1, "hour"), ("tokens", 5, "minute"))
    engine = engine_for(subject)
    await engine.settle(await admitted(engine, subject, Demand(5, 0, False, None)), 5, 0)
    for hours in (1, 2):
        answer = await refused(engine, subject, Demand(5, 0, False, None), NOW - hours * 3_600 * SECOND)
        assert answer.kind == "spent"


class TestWhichLimitIsNamed:
    async def test_spent_before_held(self) -> None:
        subject = client(("requests", 1, "month"), ("tokens", 10, "hour"))
        engine = engine_for(subject)
        await engine.settle(await admitted(engine, subject, Demand(10, 0, False, None)), 10, 0)
        held = client(("requests", 2, "month"), ("tokens", 10, "hour"))
        await admitted(engine, held, Demand(0, 0, False, None), "in flight")
        answer = await refused(engine, held, Demand(1, 0, False, None))
        assert (answer.kind, answer.rule.metric) == ("spent", "tokens")

    async def test_the_later_reset_among_the_spent_and_never_last_of_all(self) -> None:
        for cycles in (("hour", "month", "day"), ("month", "total", "week")):
            subject = client(*(("requests", 1, cycle) for cycle in cycles))
            engine = engine_for(subject)
            await engine.settle(await admitted(engine, subject, ONE), 0, 0)
            assert (await refused(engine, subject, ONE)).rule.cycle == cycles[1]

    async def test_what_fits_ignores_calls_in_flight_and_what_is_left_does_not(self) -> None:
        subject = client(("tokens", 100, "day"))
        engine = engine_for(subject)
        await engine.settle(await admitted(engine, subject, Demand(30, 0, False, None)), 30, 0)
        await admitted(engine, subject, Demand(50, 0, False, None), "in flight")
        held = await refused(engine, subject, Demand(70, 0, False, None))
        assert (held.kind, held.left, held.fits, held.wanted) == ("held", 20, 70, 70)
        large = await refused(engine, subject, Demand(71, 0, False, None))
        assert (large.kind, large.left, large.fits) == ("too_large", 20, 70)


async def test_an_unknown_client_is_neither_admitted_nor_refused() -> None:
    engine = MemoryLimits()
    subject = client(("requests", 5, "day"))
    with pytest.raises(LimitsNotLoaded):
        await engine.reserve("a", subject, ONE, NOW)
    assert engine.standings(subject, NOW) == []
    engine.unloaded([subject], NOW)
    with pytest.raises(LimitsNotLoaded):
        await engine.reserve("a", subject, ONE, NOW)
