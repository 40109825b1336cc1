"""What the back office is told of limits, and that calls do not wait for it."""

import asyncio
import contextlib
from zoneinfo import ZoneInfo

import pytest

from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, Demand, Rule, Subject
from proxy.limits.told import IN_ONE_GO, standings_told

NOW = 1_793_490_000 * 1_000_000
CLIENTS = 10 * IN_ONE_GO


@pytest.fixture
def subjects() -> tuple[Subject, ...]:
    """Clients 1, 2, 3 …, each with ten requests in all (rule 10, 20, 30 …) and a thousand (11, 21, 31 …) a day."""
    zone = ZoneInfo("Europe/Berlin")
    return tuple(
        Subject(n, (Rule(n * 10, "requests", 10, "total"), Rule(n * 10 + 1, "requests", 1_000, "day")), zone, 1)
        for n in range(1, CLIENTS + 1)
    )


@pytest.fixture
def limits(subjects: tuple[Subject, ...]) -> MemoryLimits:
    engine = MemoryLimits()
    missing = engine.unloaded(subjects, NOW)
    assert missing is not None
    engine.load(Balances(), missing.until)
    return engine


async def take(limits: MemoryLimits, subject: Subject, calls: int, *, settled: int) -> None:
    for number in range(calls):
        answer = await limits.reserve(f"{subject.client_id}-{number}", subject, Demand(0, 0, False, None), NOW)
        assert isinstance(answer, Reservation)
        if number < settled:
            await limits.settle(answer, 0, 0)


async def test_a_percentage_picks_the_limits_used_or_reserved_by_so_much(
    limits: MemoryLimits, subjects: tuple[Subject, ...]
) -> None:
    for subject, calls, settled in zip(subjects, (7, 8, 10), (7, 5, 10), strict=False):
        await take(limits, subject, calls, settled=settled)
    told = await standings_told(limits, subjects, lambda: NOW, b"percent=80")
    assert told == {"2": [(20, 10, 5, 3, None)], "3": [(30, 10, 10, 0, None)]}


async def test_one_client_is_told_of_alone_and_whole(limits: MemoryLimits, subjects: tuple[Subject, ...]) -> None:
    await take(limits, subjects[1], 2, settled=1)
    [(client, rows)] = (await standings_told(limits, subjects, lambda: NOW, b"client=2")).items()
    assert client == "2"
    assert [row[:4] for row in rows] == [(20, 10, 1, 1), (21, 1_000, 1, 1)]


async def test_a_keys_own_limits_are_told_alone_and_never_among_its_clients() -> None:
    rules = (Rule(1, "requests", 10, "total"), Rule(1, "requests", 5, "total", 7), Rule(2, "requests", 4, "total", 8))
    subject = Subject(3, rules, ZoneInfo("Europe/Berlin"), 1)
    engine = MemoryLimits()
    missing = engine.unloaded((subject,), NOW)
    assert missing is not None
    engine.load(Balances(), missing.until)
    for call, key_id in (("a", 7), ("b", 7), ("c", 8)):
        answer = await engine.reserve(call, subject, Demand(0, 0, False, None), NOW, key_id)
        assert isinstance(answer, Reservation)

    async def told(query: bytes) -> dict[str, list[tuple[int, int, int, int, int | None]]]:
        return await standings_told(engine, (subject,), lambda: NOW, query)

    assert await told(b"key=7") == {"3": [(1, 5, 0, 2, None)]}
    assert await told(b"key=8") == {"3": [(2, 4, 0, 1, None)]}
    assert await told(b"client=3") == {"3": [(1, 10, 0, 3, None)]}
    for nobody in (b"key=0", b"key=9", b"key=", b"key=x"):
        assert await told(nobody) == {}


@pytest.mark.parametrize("query", [b"client=0", b"client=", b"client=-1", b"client=x", b"client=" + b"9" * 5_000])
async def test_of_a_client_that_is_none_nothing_is_told(
    limits: MemoryLimits, subjects: tuple[Subject, ...], query: bytes
) -> None:
    assert await standings_told(limits, subjects, lambda: NOW, query) == {}


async def test_others_get_their_turn_while_all_clients_are_looked_at(
    limits: MemoryLimits, subjects: tuple[Subject, ...]
) -> None:
    turns = 0

    async def call() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    calling = asyncio.create_task(call())
    told = await standings_told(limits, subjects, lambda: NOW, b"percent=0")
    calling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await calling
    assert len(told) == CLIENTS
    assert turns >= CLIENTS // IN_ONE_GO
