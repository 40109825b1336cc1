"""The runaway brake: one workflow, or one end user, that calls like a loop is slowed or stopped before it costs money.

Each gateway process counts for itself and begins anew with it: this protects a client from its own automation, it is
no limit. Those are exact, and hold beside it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import DO_NOT_RETRY, Headers, RunawayBrake

_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND
QUIET: Final = 5 * _MINUTE
"""After so long without a call, one that was stopped may go on."""
MOST: Final = 50_000
"""Workflows and sessions counted at a time; beyond it the one that called longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class BrakeRule:
    """How many calls a minute one workflow, or one session, of a client may make, and what becomes of more."""

    per_minute: int | None
    """Of each of them; None: as many as their own rate says."""
    stops: bool
    """All its calls are refused until it was quiet for five minutes; else only those above the rate."""
    workflows: Mapping[str, int] = field(default_factory=dict)
    """Rates of single workflows, beside."""
    user: int | None = None
    """Rate of every session, beside."""

    def rate(self, kind: str, tag: str) -> int | None:
        """Return the lower one of the rates of a workflow or session, None where it has none."""
        own = self.user if kind == "session" else self.workflows.get(tag)
        if own is None or self.per_minute is None:
            return self.per_minute if own is None else own
        return min(own, self.per_minute)


class _Pace:
    """Calls of one workflow or session, by minutes."""

    __slots__ = ("before", "begins", "now", "stopped_until")

    def __init__(self, begins: int) -> None:
        self.begins = begins
        self.now = 0
        self.before = 0
        self.stopped_until = 0

    def roll(self, at: int) -> None:
        """Go on to the minute of `at` (µs)."""
        minutes = (at - self.begins) // _MINUTE
        if minutes > 0:
            self.before = self.now if minutes == 1 else 0
            self.now = 0
            self.begins += minutes * _MINUTE

    def wait(self, at: int, per_minute: int) -> int:
        """Return in how many µs a call may be made: what the last 60 s had is taken to be even over their minutes."""
        elapsed = at - self.begins
        if self.now < per_minute:
            if not self.before:
                return 0
            # before * (60 s - elapsed) / 60 s + now < per_minute
            return max(0, _MINUTE - (per_minute - self.now) * _MINUTE // self.before + 1 - elapsed)
        return _MINUTE - elapsed + _MINUTE - per_minute * _MINUTE // self.now + 1


class Brake:
    """What each workflow and session of clients with a brake called lately."""

    def __init__(self) -> None:
        self._paces: OrderedDict[tuple[int, str, str], _Pace] = OrderedDict()

    def check(
        self, rule: BrakeRule, client_id: int, session: str | None, workflow: str | None, at: int
    ) -> RunawayBrake | None:
        """Count a call, or return what it is refused with; a call without both tags passes. `at` in µs."""
        paces: list[_Pace] = []
        for kind, tag in (("session", session), ("workflow", workflow)):
            rate = rule.rate(kind, tag) if tag else None
            if not tag or rate is None:
                continue
            pace = self._pace((client_id, kind, tag), at)
            wait = pace.stopped_until - at if pace.stopped_until > at else pace.wait(at, rate)
            if wait > 0:
                if rule.stops:
                    wait = QUIET
                    pace.stopped_until = at + QUIET
                return _refusal(rule, rate, kind, tag, wait)
            paces.append(pace)
        for pace in paces:
            pace.now += 1
        return None

    def _pace(self, key: tuple[int, str, str], at: int) -> _Pace:
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = _Pace(at)
            if len(self._paces) > MOST:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(key)
            pace.roll(at)
        return pace


def _refusal(rule: BrakeRule, rate: int, kind: str, tag: str, wait: int) -> RunawayBrake:
    who = f"The workflow {tag[:200]!r}" if kind == "workflow" else "One user (session)"
    seconds = max(1, -(-wait // _SECOND))
    headers: Headers = ((b"retry-after", b"%d" % seconds),)
    if rule.stops:
        told, headers = "is stopped until it has made no call for 5 minutes", headers + DO_NOT_RETRY
    else:
        told = f"is slowed down: the next call is let through in {seconds} s"
    return RunawayBrake(
        f"{who} of this account calls like a loop, more than {rate:,} times a minute, and {told}. "
        "Whoever runs this gateway can set another rate.",
        headers=headers,
    )
