"""The machine's clock is set back an hour: no limit is given out twice, and nothing on record lies in the future."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest

from proxy.clock import Clock
from proxy.limits.memory import MemoryLimits
from proxy.limits.rules import Balances, Demand, Refusal, Rule, Subject
from tests.callers import account
from tests.installation import Installation

HOUR = 3_600_000_000
CALL = Demand(0, 0, False, None)


class Machine:
    """A wall clock and a monotonic one, as `time` gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_800_000_000_000_000_000
        self.monotonic = 5_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.monotonic)

    def wait(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.monotonic += int(seconds * 1e9)


def test_the_clock_goes_on_at_the_pace_of_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = Clock()
    before = clock()
    machine.wall -= 3_600 * 10**9
    after = clock()
    assert before < after < before + 1_000
    machine.wait(10)
    assert clock() - after == 10_000_000
    machine.wait(3_600)
    caught_up = clock()
    machine.wall += 3_601 * 10**9  # set forward again: it follows the machine
    assert clock() == machine.wall // 1_000 > caught_up


def test_the_clock_never_stands_still_nor_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = Clock()
    moments = []
    for step in (0, 0, 5, -3_600, 0, 1, -86_400, 0, 0, 7_200):
        machine.wall += step * 10**9
        moments.append(clock())
    assert moments == sorted(set(moments))


@pytest.mark.parametrize("cycle", ["minute", "hour", "day", "month"])
def test_no_limit_is_given_out_twice(cycle: str) -> None:
    limits = MemoryLimits()
    subject = Subject(1, (Rule(1, "requests", 3, cycle),), ZoneInfo("Europe/Berlin"), 1)
    now = 1_800_000_000_000_000
    missing = limits.unloaded([subject], now)
    assert missing is not None
    limits.load(Balances(), missing.until)
    moments = [now, now + 1, now + 2, now - HOUR, now - HOUR + 1, now + 3]
    answers = [asyncio.run(limits.reserve(str(moment), subject, CALL, moment)) for moment in moments]
    assert [isinstance(answer, Refusal) for answer in answers] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("where", ["records", "journal"])
def test_a_gateway_started_again_counts_calls_that_lie_in_the_future(
    install: Callable[..., Installation], where: str
) -> None:
    """As after a restart with the clock set back an hour: what is on record was admitted and settled an hour ahead."""
    installation = install(TIME_ZONE="UTC").start(ingest=where == "records")
    caller = account(installation, "requests=5/total", "tokens=100000/total")
    ids = {caller.call().id for _ in range(3)}
    assert installation.stop_gateway(9 if where == "journal" else 15) in (0, -9)
    if where == "records":
        caller.records_of(ids)
        shift = "strftime('%Y-%m-%d %H:%M:%f', {0}, '+1 hour')"
        sets = ", ".join(f"{name} = {shift.format(name)}" for name in ("admitted_at", "settled_at"))
        installation.sql(f"UPDATE usage_usagerecord SET {sets}")
    else:
        _shift_journal(installation, HOUR)
    installation.start_gateway()
    assert caller.models().left == 2
    assert [caller.call().status for _ in range(3)] == [200, 200, 429]
    if where == "journal":
        installation.start_ingest()
    rows = caller.records(6)
    admitted = [datetime.fromisoformat(row["admitted_at"]).replace(tzinfo=UTC) for row in rows]
    assert admitted[-1] > datetime.now(UTC) + timedelta(minutes=55), "time goes on from what is on record"
    assert [row["outcome"] for row in rows] == ["ok"] * 5 + ["refused"]


def _shift_journal(installation: Installation, microseconds: int) -> None:
    (path,) = (installation.data_dir / "journal").glob("*.journal")
    lines = [orjson.loads(line) for line in path.read_bytes().rstrip(b"\0").splitlines()]
    for line in lines:
        for name in ("at", "end"):
            if name in line:
                line[name] += microseconds
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def test_ids_stay_unique_and_calls_are_served_while_the_clock_is_behind(install: Callable[..., Installation]) -> None:
    installation = install().start()
    caller = account(installation, "requests=100/day")
    ids = {caller.call().id for _ in range(20)}
    assert len(ids) == 20
    assert len(caller.records_of(ids)) == 20
