"""The limit engine against a naive model: a list of calls, every sum recomputed from it each time.

The machine plays the gateway: it admits, settles and releases calls, changes rules, zones and clients the way the
directory does (announce, read the ledger while calls go on, load), and is killed and rebuilt from the ledger.
"""

import asyncio
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clients.cycles import CYCLES, window
from proxy.limits.memory import MemoryLimits
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Balances, Demand, Missing, Refusal, Rule, Subject

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
START = 1_793_490_000 * SECOND  # 2026-10-31 23:40 UTC: days, weeks, months and the end of New York's summer are near
ZONES = [ZoneInfo(name) for name in ("UTC", "America/New_York", "Asia/Kathmandu")]
METRICS = ("requests", "tokens", "credits", "sessions")


@dataclass
class Call:
    client: int
    key: int
    admitted_at: int
    tokens: int
    credits: int
    session: str | None
    opens: bool
    session_no: int  # which opening of the session the call belongs to
    state: str = "open"
    settled_at: int = 0
    cut: dict[tuple, int] = field(default_factory=dict)  # what an open-ended call held where less than its estimate

    def amount(self, metric: str) -> int:
        return {"requests": 1, "tokens": self.tokens, "credits": self.credits, "sessions": int(self.opens)}[metric]


def counted_apart(limit: Rule, subject: Subject) -> tuple:
    """What makes a limit a new one, that starts from the ledger again."""
    moved_by = {"minute": (), "total": (), "hour": (subject.zone,), "day": (subject.zone,)}
    return limit.key_id, limit.metric, limit.cycle, moved_by.get(limit.cycle, (subject.zone, subject.start_day))


def in_window(call: Call, limit: Rule, subject: Subject, now: int) -> bool:
    if limit.key_id not in (0, call.key):
        return False
    if limit.cycle == "minute":
        return call.admitted_at // SECOND > now // SECOND - 61
    start, end = window(limit.cycle, now, subject.zone, subject.start_day)
    return start <= call.admitted_at and (end is None or call.admitted_at < end)


def judging(subject: Subject, key: int) -> list[Rule]:
    """The client's own limits and those of the key."""
    return [limit for limit in subject.rules if limit.key_id in (0, key)]


KEYS = (1, 2)
limits = st.lists(
    st.tuples(
        st.sampled_from(METRICS),
        st.sampled_from(CYCLES),
        st.sampled_from([0, 1, 2, 5, 9, 20, 50]),
        st.sampled_from([0, 0, *KEYS]),
    ),
    max_size=5,
    unique_by=lambda limit: (limit[0], limit[1], limit[3]),
)


class Gateway(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = MemoryLimits()
        self.now = START
        self.calls: dict[str, Call] = {}
        self.reservations: dict[str, Reservation] = {}
        self.judged_by: dict[int, Subject] = {}  # the directory's snapshot
        self.wanted: dict[int, Subject] = {}  # what the operator has saved
        self.missing: Missing | None = None

    def teardown(self) -> None:
        self.runner.close()

    # --- the ledger and the model -----------------------------------------------------------------------------------

    def ledger(self, missing: Missing) -> Balances:
        counters: dict = {}
        seconds: dict = {}
        sessions: dict = {}
        settled = [call for call in self.calls.values() if call.state == "settled" and call.settled_at <= missing.until]
        for key in missing.counters:
            mine = [
                call
                for call in settled
                if call.client == key.client_id and call.admitted_at >= key.start and key.key_id in (0, call.key)
            ]
            if key.cycle == "minute":
                seconds[key] = {}
                for call in mine:
                    second = call.admitted_at // SECOND
                    seconds[key][second] = seconds[key].get(second, 0) + call.amount(key.metric)
            else:
                counters[key] = sum(call.amount(key.metric) for call in mine)
        for client in missing.session_clients:
            sessions[client] = {
                call.session: call.admitted_at
                for call in settled
                if call.client == client and call.opens and missing.until - call.admitted_at < DAY
            }
        return Balances(counters, seconds, sessions)

    def sums(self, limit: Rule, subject: Subject) -> tuple[int, int]:
        spent = held = 0
        for call in self.calls.values():
            if call.client == subject.client_id and in_window(call, limit, subject, self.now):
                if call.state == "settled":
                    spent += call.amount(limit.metric)
                elif call.state == "open":
                    held += call.cut.get(counted_apart(limit, subject), call.amount(limit.metric))
        return spent, held

    def expected_refusal(self, subject: Subject, key: int, demand: Demand, opens: bool) -> tuple | None:
        found = []
        for limit in judging(subject, key):
            spent, held = self.sums(limit, subject)
            need = {"requests": 1, "tokens": demand.tokens, "credits": demand.credits, "sessions": int(opens)}[
                limit.metric
            ]
            open_ended = demand.open_ended and limit.metric in ("tokens", "credits")
            fine = spent + held < limit.amount if open_ended else spent + held + need <= limit.amount
            if need == 0 or fine:
                continue
            kind = "held"
            if spent >= limit.amount:
                kind = "spent"
            elif spent + need > limit.amount and not open_ended:
                kind = "too_large"
            _, end = window(limit.cycle, self.now, subject.zone, subject.start_day)
            back = None if limit.amount == 0 else "minute" if limit.cycle == "minute" else end
            left = max(0, limit.amount - spent - held)
            found.append((kind, limit.id, left, max(0, limit.amount - spent), back))
        order = {"minute": self.now}
        return max(
            found,
            key=lambda one: (one[0] != "held", float("inf") if one[4] is None else order.get(one[4], one[4])),
            default=None,
        )

    # --- calls ------------------------------------------------------------------------------------------------------

    @initialize(first=limits, second=limits, zone=st.sampled_from(ZONES), start_day=st.integers(1, 31))
    def start(self, first: list, second: list, zone: ZoneInfo, start_day: int) -> None:
        self.save(1, first, zone, start_day)
        self.save(2, second, ZONES[0], 1)
        self.announce()
        self.load()

    @precondition(lambda self: self.judged_by)
    @rule(
        data=st.data(),
        tokens=st.integers(0, 8),
        credits=st.integers(0, 8),
        open_ended=st.booleans(),
        session=st.sampled_from(["anna", "ben", None]),
        key=st.sampled_from(KEYS),
    )
    def reserve(
        self, data: st.DataObject, tokens: int, credits: int, open_ended: bool, session: str | None, key: int
    ) -> None:
        subject = self.judged_by[data.draw(st.sampled_from(sorted(self.judged_by)))]
        demand = Demand(tokens, credits, open_ended, session)
        current = [
            call
            for call in self.calls.values()
            if (call.client, call.session, call.opens) == (subject.client_id, session, True)
            and call.state != "released"
            and self.now - call.admitted_at < DAY
        ]
        opens = session is not None and not current
        refused = self.expected_refusal(subject, key, demand, opens)
        name = str(len(self.calls))
        answer = self.runner.run(self.engine.reserve(name, subject, demand, self.now, key))
        if isinstance(answer, Refusal):
            back = "minute" if answer.rule.cycle == "minute" and answer.resets_at is not None else answer.resets_at
            if refused is None or refused[4] != "minute" or back != "minute":
                assert (answer.kind, answer.rule.id, answer.left, answer.fits, back) == refused
            else:  # between several minute limits the exact second decides, which test_minute checks
                assert (answer.kind != "held") == (refused[0] != "held")
            return
        assert refused is None
        assert answer.opens_session == opens
        call = Call(subject.client_id, key, self.now, tokens, credits, session, opens, len(self.calls))
        if session is not None and not opens:
            call.session_no = current[-1].session_no
        if open_ended:
            for limit in judging(subject, key):
                spent, held = self.sums(limit, subject)
                if limit.metric in ("tokens", "credits") and call.amount(limit.metric):
                    call.cut[counted_apart(limit, subject)] = min(
                        call.amount(limit.metric), limit.amount - spent - held
                    )
        self.calls[name] = call
        self.reservations[name] = answer
        self.now += 1

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), tokens=st.integers(0, 12), credits=st.integers(0, 12), again=st.booleans())
    def settle(self, data: st.DataObject, tokens: int, credits: int, again: bool) -> None:
        self.now += 1
        name = data.draw(st.sampled_from(sorted(self.reservations)))
        reservation, call = self.reservations.pop(name), self.calls[name]
        assert self.runner.run(self.engine.settle(reservation, tokens, credits)) == call.opens
        call.state, call.settled_at, call.tokens, call.credits = "settled", self.now, tokens, credits
        if again:
            assert self.runner.run(self.engine.settle(reservation, 99, 99)) == call.opens
            self.runner.run(self.engine.release(reservation))

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), again=st.booleans())
    def release(self, data: st.DataObject, again: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.reservations)))
        reservation, call = self.reservations.pop(name), self.calls[name]
        self.runner.run(self.engine.release(reservation))
        call.state = "released"
        heirs = [
            other
            for other in self.calls.values()
            if (other.client, other.session_no, other.state) == (call.client, call.session_no, "open")
            and call.session is not None
        ]
        if call.opens and heirs:
            heirs[0].opens = True
        if again:
            self.runner.run(self.engine.release(reservation))
            assert self.runner.run(self.engine.settle(reservation, 99, 99)) is False

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from([1, SECOND // 3, SECOND, 59 * SECOND, 61 * SECOND, HOUR, DAY - 1, DAY, 9 * DAY]))
    def tick(self, step: int) -> None:
        self.now += step

    @precondition(lambda self: any(subject.rules for subject in self.judged_by.values()))
    @rule(data=st.data(), before=st.sampled_from([1, 0]))
    def rollover(self, data: st.DataObject, before: int) -> None:
        everything = [(subject, limit) for subject in self.judged_by.values() for limit in subject.rules]
        subject, limit = data.draw(st.sampled_from(everything))
        _, end = window(limit.cycle, self.now, subject.zone, subject.start_day)
        if end is not None:
            self.now = max(self.now, end - before)

    # --- the operator, the directory, the power cord ----------------------------------------------------------------

    def save(self, client: int, rules: list, zone: ZoneInfo, start_day: int) -> None:
        numbered = tuple(
            Rule(100 * client + n, metric, amount, cycle, key) for n, (metric, cycle, amount, key) in enumerate(rules)
        )
        self.wanted[client] = Subject(client, numbered, zone, start_day)

    @rule(
        client=st.sampled_from([1, 2]), new=limits, zone=st.sampled_from(ZONES), start_day=st.sampled_from([1, 15, 31])
    )
    def change_rules(self, client: int, new: list, zone: ZoneInfo, start_day: int) -> None:
        self.save(client, new, zone, start_day)

    @rule(client=st.sampled_from([1, 2]), more=st.integers(0, 5))
    def change_amounts(self, client: int, more: int) -> None:
        if old := self.wanted.get(client):
            rules = [(limit.metric, limit.cycle, limit.amount + more, limit.key_id) for limit in old.rules]
            self.save(client, rules, old.zone, old.start_day)

    @rule(client=st.sampled_from([1, 2]))
    def revoke(self, client: int) -> None:
        self.wanted.pop(client, None)

    @rule()
    def announce(self) -> None:
        self.now += 1
        self.missing = self.engine.unloaded(self.wanted.values(), self.now)
        self.announced = dict(self.wanted)
        if self.missing is None:
            self.put_in_force()
        else:
            # A client that is gone, and one whose change needs no ledger, need not wait for the others.
            waiting = {key.client_id for key in self.missing.counters} | set(self.missing.session_clients)
            kept = {client: subject for client, subject in self.judged_by.items() if client in self.announced}
            ready = {client: subject for client, subject in self.announced.items() if client not in waiting}
            self.drop_cuts(ready)
            self.judged_by = kept | ready
        self.now += 1

    @precondition(lambda self: self.missing is not None)
    @rule()
    def load(self) -> None:
        assert self.missing is not None
        balances = self.ledger(self.missing)
        assert not self.engine.load(balances, self.missing.until - 1)
        assert self.engine.load(balances, self.missing.until)
        assert not self.engine.load(balances, self.missing.until)
        self.missing = None
        self.put_in_force()

    def put_in_force(self) -> None:
        self.drop_cuts(self.announced)
        self.judged_by = dict(self.announced)

    def drop_cuts(self, subjects: dict[int, Subject]) -> None:
        for call in self.calls.values():
            if subject := subjects.get(call.client):
                stay = {counted_apart(limit, subject) for limit in subject.rules}
                call.cut = {limit: amount for limit, amount in call.cut.items() if limit in stay}

    @rule()
    def kill(self) -> None:
        self.now += 1
        for name in self.reservations:  # what was in flight is on record as interrupted, at its estimate
            self.calls[name].state, self.calls[name].settled_at = "settled", self.now
        self.reservations.clear()
        self.engine = MemoryLimits()
        self.announce()
        if self.missing is not None:
            self.load()

    # --- what must hold at any moment -------------------------------------------------------------------------------

    @invariant()
    def standings_equal_the_list_of_calls(self) -> None:
        for subject in self.judged_by.values():
            for key in (0, *KEYS):
                found = self.engine.standings(subject, self.now, key)
                for standing, limit in zip(found, judging(subject, key), strict=True):
                    assert standing.rule == limit
                    spent, held = self.sums(limit, subject)
                    assert (standing.spent, standing.held) == (spent, held), limit
                    assert standing.left == max(0, limit.amount - spent - held)

    @invariant()
    def counters_equal_the_ledger(self) -> None:
        if self.missing is not None:
            return
        dump = self.engine.dump(self.now)
        keys = tuple(key for key in (*dump.counters, *dump.seconds) if key.client_id in self.judged_by)
        truth = self.ledger(Missing(self.now, keys, ()))
        assert {key: spent for key, spent in dump.counters.items() if key in keys} == truth.counters
        assert dump.seconds.keys() >= truth.seconds.keys()
        for key, by_second in truth.seconds.items():
            assert dump.seconds[key] == {second: spent for second, spent in by_second.items() if spent}

    @invariant()
    def nothing_is_kept_that_is_over(self) -> None:
        assert self.engine.in_flight() == len(self.reservations)


Gateway.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
test_engine_equals_model = Gateway.TestCase
