"""A minute's limit: never more than its amount in any 60 seconds, and all of it back within 61."""

import asyncio
from itertools import accumulate
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, Demand, Refusal, Rule, Subject

SECOND = 1_000_000
NOW = 1_793_490_000 * SECOND


def minute(metric: str, amount: int) -> tuple[MemoryLimits, Subject]:
    subject = Subject(1, (Rule(1, metric, amount, "minute"),), ZoneInfo("UTC"), 1)
    engine = MemoryLimits()
    missing = engine.unloaded([subject], NOW)
    assert missing is not None
    engine.load(Balances(), missing.until)
    return engine, subject


pauses = st.one_of(st.integers(0, 3 * SECOND), st.integers(0, 70 * SECOND), st.sampled_from([SECOND, 60 * SECOND]))


@settings(max_examples=150, deadline=None)
@given(amount=st.integers(1, 20), calls=st.lists(st.tuples(pauses, st.integers(1, 8), st.booleans()), max_size=60))
def test_any_sixty_seconds_let_through_at_most_the_amount(amount: int, calls: list) -> None:
    async def scenario() -> None:
        engine, subject = minute("tokens", amount)
        let_through: list[tuple[int, int]] = []
        times = accumulate((pause for pause, _, _ in calls), initial=NOW)
        for number, (at, (_, tokens, settles)) in enumerate(zip(list(times)[1:], calls, strict=True)):
            answer = await engine.reserve(str(number), subject, Demand(tokens, 0, False, None), at)
            recent = sum(amount for when, amount in let_through if when > at - 61 * SECOND)
            if isinstance(answer, Reservation):
                let_through.append((at, tokens))
                if settles:
                    await engine.settle(answer, tokens, 0)
            else:
                assert recent + tokens > amount, "refused although all of 61 seconds ago is back"
        for start, _ in let_through:
            assert sum(tokens for when, tokens in let_through if start <= when <= start + 60 * SECOND) <= amount

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(
    amount=st.integers(1, 20),
    spent=st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 5)), min_size=1, max_size=20),
    wanted=st.integers(1, 20),
)
def test_a_refused_call_fits_when_it_was_told_and_not_a_second_before(amount: int, spent: list, wanted: int) -> None:
    async def scenario() -> None:
        engine, subject = minute("tokens", amount)
        now = NOW
        for number, (pause, tokens) in enumerate(spent):
            now += pause
            answer = await engine.reserve(str(number), subject, Demand(tokens, 0, False, None), now)
            if isinstance(answer, Reservation):
                await engine.settle(answer, tokens, 0)
        demand = Demand(wanted, 0, False, None)
        answer = await engine.reserve("wanted", subject, demand, now)
        if isinstance(answer, Refusal):
            assert answer.resets_at is not None
            assert answer.resets_at <= now + 61 * SECOND
            if wanted > amount:
                assert isinstance(await engine.reserve("wanted", subject, demand, now + 61 * SECOND), Refusal)
                return
            assert isinstance(await engine.reserve("wanted", subject, demand, answer.resets_at - 1), Refusal)
            assert isinstance(await engine.reserve("wanted", subject, demand, answer.resets_at), Reservation)

    asyncio.run(scenario())


async def test_a_long_call_leaves_the_minute_of_its_admission_behind() -> None:
    engine, subject = minute("tokens", 10)
    call = await engine.reserve("long", subject, Demand(10, 0, False, None), NOW)
    assert isinstance(call, Reservation)
    later = NOW + 61 * SECOND
    assert engine.standings(subject, later)[0].left == 10
    await engine.settle(call, 1_000, 0)
    [standing] = engine.standings(subject, later)
    assert (standing.spent, standing.held, standing.left) == (0, 0, 10)


async def test_resets_once_the_last_used_second_is_back() -> None:
    engine, subject = minute("requests", 10)
    assert engine.standings(subject, NOW)[0].resets_at == NOW
    for at in (NOW, NOW + 5 * SECOND):
        call = await engine.reserve(str(at), subject, Demand(0, 0, False, None), at)
        assert isinstance(call, Reservation)
        await engine.settle(call, 0, 0)
    for later in (6, 30):
        assert engine.standings(subject, NOW + later * SECOND)[0].resets_at == NOW + 66 * SECOND
