"""All that the engine knows of one client: its windows, calls in flight, sessions, and the rules in force."""

from zoneinfo import ZoneInfo

from proxy.limits.reservation import Reservation
from proxy.limits.rules import KINDS, CounterKey, Rule, Subject
from proxy.limits.sessions import SessionMap
from proxy.limits.windows import CalendarWindow, MinuteWindow, Window

Slot = tuple[str, str, ZoneInfo | None, int, int]
"""Metric, cycle, of zone and start day what moves that cycle, and key: rules that share all that share a counter."""


def _slot(rule: Rule, subject: Subject) -> Slot:
    if rule.cycle in ("minute", "total"):
        return rule.metric, rule.cycle, None, 0, rule.key_id
    if rule.cycle in ("hour", "day"):
        return rule.metric, rule.cycle, subject.zone, 0, rule.key_id
    return rule.metric, rule.cycle, subject.zone, subject.start_day, rule.key_id


def _limits(subject: Subject, key_id: int) -> bool:
    """Whether the key has limits of its own."""
    return any(rule.key_id == key_id != 0 for rule in subject.rules)


class Plan:
    """What a reserve with one key goes through: the rules to judge by, and `others`, windows only counted on.

    Others exist while a change of rules waits for the ledger: the new windows count before they judge.
    """

    __slots__ = ("entries", "others")

    def __init__(self, entries: tuple[tuple[Rule, int, int, Window], ...], others: tuple[Window, ...]) -> None:
        self.entries = entries  # rule, amount, kind of metric, window
        self.others = others


class ClientState:
    """Windows are followed from the moment they are announced: each counts all that is settled or in flight since.

    `announced` are the newest rules; `in_force` the newest whose windows are all loaded. A call that read its subject
    before a change of rules is judged by the rules it read while their windows are there, then by those in force.
    """

    __slots__ = (
        "_plans",
        "announced",
        "client_id",
        "in_force",
        "open",
        "sessions",
        "sessions_loaded",
        "windows",
    )

    def __init__(self, subject: Subject) -> None:
        self.client_id = subject.client_id
        self.announced = subject
        self.in_force: Subject | None = None
        self.windows: dict[Slot, Window] = {}
        self.open: dict[str, Reservation] = {}
        self.sessions: SessionMap = {}
        self.sessions_loaded = False
        self._plans: dict[int, tuple[Subject, Plan]] = {}  # by key: what was asked last, and the answer

    def plan(self, subject: Subject, key_id: int) -> Plan | None:
        """Return what to judge a call of `subject` with that key by; None while the ledger has not been read.

        Rules that say nothing of a key which has limits of its own are no answer: they may be older than the key.
        """
        asked = self._plans.get(key_id)
        if asked is not None and asked[0] is subject:
            return asked[1]
        if not self.sessions_loaded:
            return None
        limited = _limits(subject, key_id)
        for candidate in (subject, self.announced, self.in_force):
            if candidate is None or (limited and not _limits(candidate, key_id)):
                continue
            if (plan := self._planned(candidate, key_id)) is not None:
                self._plans[key_id] = (subject, plan)
                return plan
        return None

    def _planned(self, subject: Subject, key_id: int) -> Plan | None:
        strictest: dict[Slot, Rule] = {}
        for rule in subject.rules:
            if rule.key_id and rule.key_id != key_id:
                continue
            slot = _slot(rule, subject)
            if slot not in self.windows or not self.windows[slot].loaded:
                return None
            if slot not in strictest or rule.amount < strictest[slot].amount:
                strictest[slot] = rule
        return Plan(
            tuple((rule, rule.amount, KINDS[rule.metric], self.windows[slot]) for slot, rule in strictest.items()),
            tuple(
                window
                for slot, window in self.windows.items()
                if slot not in strictest and window.key_id in (0, key_id)
            ),
        )

    def announce(self, subject: Subject, now: int) -> list[Window]:
        """Take note of the newest rules; return the windows of theirs that the ledger must be asked for.

        These count from now on, from nothing; calls in flight join them.
        """
        self.announced = subject
        missing = []
        for rule in subject.rules:
            slot = _slot(rule, subject)
            window = self.windows.get(slot)
            if window is None:
                window = MinuteWindow(rule, now) if rule.cycle == "minute" else CalendarWindow(rule, subject, now)
                self.windows[slot] = window
                for reservation in self.open.values():
                    reservation.join(window)
            elif now >= window.turn:
                window.advance(now)
            if not window.loaded and window not in missing:
                window.forget_spent()
                missing.append(window)
        self.settle_rules()
        return missing

    def settle_rules(self) -> None:
        """Put the announced rules in force once all their windows are loaded; drop the windows nobody needs."""
        slots = {_slot(rule, self.announced) for rule in self.announced.rules}
        if self.sessions_loaded and all(self.windows[slot].loaded for slot in slots):
            self.in_force = self.announced
        elif self.in_force is not None:
            slots |= {_slot(rule, self.in_force) for rule in self.in_force.rules}
        for slot in self.windows.keys() - slots:
            del self.windows[slot]
        self._plans.clear()

    def key(self, window: Window) -> CounterKey:
        """Return the key under which the ledger knows the window."""
        return CounterKey(self.client_id, window.metric, window.cycle, window.start, window.key_id)
