"""The limit engine in process. Belongs to one event loop: every method runs through without waiting, so it is atomic.

The methods of a call are coroutines only because a store of several processes needs them to be.

Counters come from the ledger wherever it may know more than the engine. At start, and whenever clients, limits, zones
or start days change, the caller, in this order:

1. `missing = limits.unloaded(subjects, now)` with all clients. From here the engine counts what is settled;
2. in a thread, `read_balances(journal_dir, missing)` (ledger.py): what is settled at or before `missing.until`, the
   `now` of step 1, each call in the window of its admission. Calls must carry an end later than `until` exactly if they
   were settled after step 1, which a clock that never runs backwards gives;
3. `limits.load(balances, missing.until)`. What was settled in between is added, neither lost nor doubled.

Until 3, known clients are judged by their old rules, and `reserve` raises LimitsNotLoaded for others. A window that
begins while its rule is followed needs no ledger. After a failure, begin at 1 again.
"""

from collections.abc import Iterable

from proxy.limits.client import ClientState, Plan
from proxy.limits.reservation import Reservation
from proxy.limits.rules import (
    CREDITS,
    SECOND,
    SESSION_LENGTH,
    TOKENS,
    Balances,
    CounterKey,
    Demand,
    LimitsNotLoaded,
    Missing,
    Refusal,
    RefusalKind,
    Rule,
    Standing,
    Subject,
)
from proxy.limits.sessions import Expiry, Session
from proxy.limits.windows import MinuteWindow, Window

# Standings are made for every answer: this makes one in 0.16 µs, Standing(…) in 0.42.
_tuple = tuple.__new__


class MemoryLimits:
    """Counters of all clients. `now` is µs since the epoch; it may stand still or step back, windows never do."""

    def __init__(self) -> None:
        self._clients: dict[int, ClientState] = {}
        self._expiry = Expiry()
        self._until: int | None = None
        self._pending: list[tuple[CounterKey, ClientState, Window]] = []

    async def reserve(
        self, call_id: str, subject: Subject, demand: Demand, now: int, key_id: int = 0
    ) -> Reservation | Refusal:
        """Hold what the call may need of every limit of its client and key, or nothing and say which is in the way.

        A limit of which the call needs nothing (no session named or it is open, a free model's credits) never refuses.
        A call id in flight gets its reservation again. Raises LimitsNotLoaded.
        """
        state, plan = self._plan(subject, key_id)
        if call_id in state.open:
            return state.open[call_id]
        if now >= self._expiry.turn:
            self._expiry.prune(now)
        tokens, credits, open_ended, digest = demand
        session = None if digest is None else state.sessions.get(digest)
        opens = digest is not None and (session is None or now - session.opened_at >= SESSION_LENGTH)
        needs = (1, tokens, credits, 1 if opens else 0)
        holds = []
        refusals = None
        for rule, amount, kind, window in plan.entries:
            if now >= window.turn:
                window.advance(now)
            need = needs[kind]
            if need:
                counter = window.counter
                left = amount - counter.spent - counter.held
                if need > left:
                    estimated = open_ended and kind in (TOKENS, CREDITS)
                    if estimated and left > 0:
                        need = left
                    else:
                        refusal = _refusal(rule, window, need, estimated)
                        refusals = [refusal] if refusals is None else [*refusals, refusal]
            holds.append((window.target, need))
        if refusals is not None:
            return max(refusals, key=_binding)
        for window in plan.others:
            if now >= window.turn:
                window.advance(now)
            holds.append((window.target, needs[window.target.kind]))
        for counter, need in holds:
            counter.held += need
            if (total := counter.total) is not None:
                total.held += need
        state.open[call_id] = reservation = Reservation(call_id, subject, demand, now, holds, key_id)
        reservation.state = state
        if digest is not None:
            if opens:
                session = state.sessions[digest] = Session(digest, now, reservation)
                self._expiry.add(state.sessions, session)
                reservation.opens_session = True
            elif session is not None and session.others is not None:
                session.others[call_id] = reservation
            reservation.session = session
        return reservation

    async def settle(self, reservation: Reservation, tokens: int, credits: int) -> bool:
        """Turn what the call held into what it used, more or less, in the windows it was admitted in.

        Return whether a session is counted for this call. Again, or after a release, changes nothing.
        """
        if (holds := reservation.holds) is None:
            return reservation.opens_session
        reservation.holds = None
        opens = reservation.opens_session
        used = (1, tokens, credits, 1 if opens else 0)
        for counter, need in holds:
            actual = used[counter.kind]
            counter.held -= need
            counter.spent += actual
            if (total := counter.total) is not None:
                total.held -= need
                total.spent += actual
        del reservation.state.open[reservation.call_id]
        if (session := reservation.session) is not None:
            if opens:
                session.opener = session.others = None
            elif session.others is not None:
                del session.others[reservation.call_id]
        return opens

    async def release(self, reservation: Reservation) -> str | None:
        """Give back all that the call held: it consumes nothing. Again, or after a settle, changes nothing.

        A session that it opened goes over to the earliest call in flight that named it, whose id is returned, or has
        never been.
        """
        if (holds := reservation.holds) is None:
            return None
        reservation.holds = None
        for counter, need in holds:
            counter.hold(-need)
        state = reservation.state
        del state.open[reservation.call_id]
        session = reservation.session
        if session is None or session.others is None:
            return None
        if not reservation.opens_session:
            del session.others[reservation.call_id]
            return None
        reservation.opens_session = False
        if session.others:
            heir = session.others.pop(next(iter(session.others)))
            session.opener, session.opened_at = heir, heir.admitted_at
            heir.take_session()
            return heir.call_id
        session.opener = session.others = None
        if state.sessions.get(session.digest) is session:
            del state.sessions[session.digest]
        return None

    def standings(self, subject: Subject, now: int, key_id: int = 0) -> list[Standing]:
        """Return how each limit of the client, and of that key, stands; nothing for a client that is not loaded."""
        state = self._clients.get(subject.client_id)
        plan = None if state is None else state.plan(subject, key_id)
        standings: list[Standing] = []
        if plan is None:
            return standings
        for rule, amount, _, window in plan.entries:
            if now >= window.turn:
                window.advance(now)
            counter = window.counter
            spent, held = counter.spent, counter.held
            left = amount - spent - held
            standings.append(_tuple(Standing, (rule, spent, held, left if left > 0 else 0, window.resets_at)))
        return standings

    def unloaded(self, subjects: Iterable[Subject], now: int) -> Missing | None:
        """Take note of all clients and their rules as they are now; return what to ask the ledger for, if anything.

        Clients not among them are forgotten once their last call is over. Only the newest answer can be loaded.
        """
        known = self._clients
        self._clients = {}
        self._pending = []
        unknown_sessions = []
        for subject in subjects:
            state = known.pop(subject.client_id, None) or ClientState(subject)
            self._clients[subject.client_id] = state
            if state.in_force != subject or state.announced != subject:
                self._pending += [(state.key(window), state, window) for window in state.announce(subject, now)]
            if not state.sessions_loaded:
                unknown_sessions.append(subject.client_id)
        self._clients |= {client_id: state for client_id, state in known.items() if state.open}
        if not self._pending and not unknown_sessions:
            self._until = None
            return None
        self._until = now
        return Missing(now, tuple(key for key, _, _ in self._pending), tuple(unknown_sessions))

    def load(self, balances: Balances, until: int) -> bool:
        """Take over the ledger's answer to the newest `unloaded`; an answer to an older one does nothing: False."""
        if until != self._until:
            return False
        self._until = None
        for key, _, window in self._pending:
            if window.loaded:
                continue  # its window ended meanwhile, and the new one began under our eyes
            if isinstance(window, MinuteWindow):
                for second, amount in balances.seconds.get(key, {}).items():
                    if (bucket := window.at(second * SECOND)) is not None:
                        bucket.spend(amount)
            else:
                window.counter.spend(balances.counters.get(key, 0))
            window.loaded = True
        self._pending = []
        for client_id, state in self._clients.items():
            if not state.sessions_loaded:
                state.sessions_loaded = True
                for digest, opened_at in balances.sessions.get(client_id, {}).items():
                    session = state.sessions[digest] = Session(digest, opened_at, None)
                    self._expiry.add(state.sessions, session)
            if state.in_force != state.announced:
                state.settle_rules()
        return True

    def asked(self, now: int) -> Missing:
        """Return what the ledger has to be asked for to compare all that `dump` tells."""
        counters = [
            state.key(window) for state in self._clients.values() for window in state.windows.values() if window.loaded
        ]
        return Missing(now, tuple(counters), tuple(self._clients))

    def dump(self, now: int) -> Balances:
        """Return what is settled, zeros left out, as `load` takes it: with nothing in flight it equals the ledger."""
        counters, seconds = {}, {}
        for state in self._clients.values():
            for window in state.windows.values():
                if now >= window.turn:
                    window.advance(now)
                if isinstance(window, MinuteWindow):
                    if by_second := window.spent_by_second():
                        seconds[state.key(window)] = by_second
                elif window.counter.spent:
                    counters[state.key(window)] = window.counter.spent
        sessions = {}
        for client_id, state in self._clients.items():
            if settled := {
                session.digest: session.opened_at
                for session in state.sessions.values()
                if session.opener is None and now - session.opened_at < SESSION_LENGTH
            }:
                sessions[client_id] = settled
        return Balances(counters, seconds, sessions)

    def in_flight(self) -> int:
        """Return the number of reservations neither settled nor released."""
        return sum(len(state.open) for state in self._clients.values())

    def _plan(self, subject: Subject, key_id: int) -> tuple[ClientState, Plan]:
        state = self._clients.get(subject.client_id)
        if state is None or (plan := state.plan(subject, key_id)) is None:
            raise LimitsNotLoaded(subject.client_id)
        return state, plan


def _refusal(rule: Rule, window: Window, need: int, estimated: bool) -> Refusal:
    counter = window.counter
    fits = max(0, rule.amount - counter.spent)
    left = max(0, fits - counter.held)
    kind: RefusalKind = "held"
    if not fits:
        kind = "spent"
    elif need > fits and not estimated:
        kind = "too_large"
    missing = (1 if estimated else need) - (rule.amount - counter.spent - counter.held)
    return Refusal(kind, rule, left, fits, window.back_at(missing) if rule.amount else None, need)


def _binding(refusal: Refusal) -> tuple[bool, float]:
    return refusal.kind != "held", float("inf") if refusal.resets_at is None else refusal.resets_at
