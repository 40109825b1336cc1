"""The engine and the journal, side by side: what is rebuilt from the ledger equals what was counted in process."""

from pathlib import Path
from typing import cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async

from clients.cycles import CYCLES
from proxy.limits.ledger import read_balances
from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, Demand, Missing, Rule, Subject
from usage import outcomes
from usage.ingest import Ingest
from usage.journal import Journal
from usage.lines import Begin, encode, interrupted

SECOND = 1_000_000
START = 1_793_490_000 * SECOND
RULES = [(metric, cycle) for metric in ("requests", "tokens", "credits", "sessions") for cycle in CYCLES]


class Gateway:
    """One call after the other through engine and journal, as the pipeline does it."""

    def __init__(self, directory: Path) -> None:
        self.now = START
        self.engine = MemoryLimits()
        self.journal = Journal(directory, clock=lambda: self.now)
        self.journal.open()

    async def call(self, subject: Subject, number: int, session: str | None, outcome: str) -> None:
        """A call of 3 + `number` tokens and as many thousand picodollars."""
        self.now += 7 * SECOND
        call_id, key = UUID(int=number).hex, 1 + number % 2
        demand = Demand(100, 100, False, session)
        reservation = await self.engine.reserve(call_id, subject, demand, self.now, key)
        assert isinstance(reservation, Reservation)
        named = {
            "c": subject.client_id,
            "key": 1 + number % 2,
            "p": 1,
            "m": 1,
            "ep": "chat/completions",
            "ask": "sandbox",
        }
        estimate = {"price": None, "in": 60, "out": 40, "cost": 50, "charge": 100, "st": 0}
        tags = {"s": session, "w": None, "x": None, "env": None, "so": int(reservation.opens_session)}
        begin = cast(Begin, {"k": "b", "id": call_id, "at": self.now} | named | estimate | tags)
        self.journal.begin(call_id, encode(begin))
        self.now += SECOND
        opened = False
        if outcome in outcomes.COUNTED:
            opened = await self.engine.settle(reservation, 3 + number, 1_000 * number)
        else:
            await self.engine.release(reservation)
        end = interrupted(begin, self.now)
        end |= {"in": 3, "out": number, "charge": 1_000 * number, "cost": number, "o": outcome, "so": int(opened)}
        if outcome not in outcomes.COUNTED:
            end |= {"in": 0, "out": 0, "charge": 0, "cost": 0}
        self.journal.end(call_id, encode(end))


@pytest.mark.django_db(transaction=True)
async def test_counters_rebuilt_equal_counters_kept(tmp_path: Path) -> None:
    rules = tuple(Rule(n, metric, 10**15, cycle) for n, (metric, cycle) in enumerate(RULES))
    of_keys = tuple(Rule(n, metric, 10**15, cycle, key) for n, (metric, cycle) in enumerate(RULES) for key in (1, 2))
    subjects = [Subject(1, rules + of_keys, ZoneInfo("Asia/Kathmandu"), 15), Subject(2, rules[:7], ZoneInfo("UTC"), 1)]
    gateway = Gateway(tmp_path)
    first = gateway.engine.unloaded(subjects, gateway.now)
    assert first is not None
    gateway.engine.load(Balances(), first.until)
    for number in range(1, 40):
        user = None if number % 3 == 0 else f"{number % 5:064x}"
        outcome = outcomes.UPSTREAM_ERROR if number % 7 == 0 else outcomes.OK
        await gateway.call(subjects[number % 2], number, user, outcome)

    def rebuilt() -> MemoryLimits:
        engine = MemoryLimits()
        missing = engine.unloaded(subjects, gateway.now)
        assert isinstance(missing, Missing)
        engine.load(read_balances(tmp_path, missing), missing.until)
        return engine

    kept = gateway.engine.dump(gateway.now)
    assert kept.seconds
    assert kept.sessions
    from_journal = await sync_to_async(rebuilt)()
    assert from_journal.dump(gateway.now) == kept
    gateway.journal.close()
    await sync_to_async(Ingest(tmp_path).run_once)()
    from_records = await sync_to_async(rebuilt)()
    assert from_records.dump(gateway.now) == kept
