"""Counters of one rule's window: the calendar's, and the minute that slides. Not shared between threads."""

from bisect import bisect_left
from typing import Final

from clients.cycles import window
from proxy.limits.rules import KINDS, SECOND, Rule, Subject

_NEVER: Final = 1 << 62
# A call at the very end of a second counts until 60 full seconds after it: the 60 seconds before the current one,
# and the current one. So nothing comes back before 60 s, and all of it within 61.
_BACK_AFTER: Final = 61
_BACK_AFTER_TURN: Final = 60 * SECOND


class Counter:
    """Spent and held of one window, or of one second of a sliding minute, whose sum is then `total`."""

    __slots__ = ("held", "kind", "spent", "total")

    def __init__(self, kind: int, total: "Counter | None" = None) -> None:
        self.kind = kind
        self.spent = 0
        self.held = 0
        self.total = total

    def hold(self, amount: int) -> None:
        """Take `amount` into flight (negative: give it back)."""
        self.held += amount
        if self.total is not None:
            self.total.held += amount

    def spend(self, amount: int) -> None:
        """Add what the ledger knows to be spent."""
        self.spent += amount
        if self.total is not None:
            self.total.spent += amount


class CalendarWindow:
    """The current window of an hour, day, week, month or total.

    `turn` is the instant from which `advance` must be called before `counter` (what is judged) and `target` (what new
    calls are booked on) are read; `resets_at` is when all of the limit is back (None: never). Calls in flight keep the
    counter of their own window alive, nothing else does. A clock set back stays in the window that it had reached: no
    limit is given out twice.
    """

    __slots__ = (
        "_start_day",
        "_zone",
        "counter",
        "cycle",
        "key_id",
        "loaded",
        "metric",
        "resets_at",
        "start",
        "target",
        "turn",
    )

    def __init__(self, rule: Rule, subject: Subject, now: int) -> None:
        self.key_id = rule.key_id
        self.metric = rule.metric
        self.cycle = rule.cycle
        self._zone = subject.zone
        self._start_day = subject.start_day
        self.loaded = False
        self.counter = self.target = Counter(KINDS[rule.metric])
        self._place(now)

    def _place(self, now: int) -> None:
        self.start, end = window(self.cycle, now, self._zone, self._start_day)
        self.turn = _NEVER if end is None else end
        self.resets_at = end

    def advance(self, now: int) -> None:
        """Begin the window of `now`: it starts from nothing, and as it was followed from its start, it is complete."""
        self.counter = self.target = Counter(self.counter.kind)
        self.loaded = True
        self._place(now)

    def at(self, admitted_at: int) -> Counter | None:
        """Return the counter for a call admitted then; None if it belongs to an earlier window."""
        return self.counter if admitted_at >= self.start else None

    def forget_spent(self) -> None:
        """Forget what was settled so far, as the ledger is about to tell it."""
        self.counter.spent = 0

    def back_at(self, missing: int) -> int | None:
        """Return when `missing` more than now can be admitted: on a calendar, when all is back."""
        return self.resets_at


class MinuteWindow:
    """The last 60 s in buckets of one second, by admission. Same use as `CalendarWindow`; `turn` comes each second."""

    __slots__ = ("_buckets", "_seconds", "counter", "cycle", "key_id", "loaded", "metric", "target", "turn")

    def __init__(self, rule: Rule, now: int) -> None:
        self.key_id = rule.key_id
        self.metric = rule.metric
        self.cycle = "minute"
        self.loaded = False
        self.counter = Counter(KINDS[rule.metric])
        self._seconds: list[int] = []  # ascending, at most 61
        self._buckets: list[Counter] = []
        self.target = self._bucket(now // SECOND)
        self.turn = (now // SECOND + 1) * SECOND

    @property
    def start(self) -> int:
        """The first instant whose calls still count."""
        return self.turn - _BACK_AFTER * SECOND

    def _bucket(self, second: int) -> Counter:
        place = bisect_left(self._seconds, second)
        if place == len(self._seconds) or self._seconds[place] != second:
            self._seconds.insert(place, second)
            self._buckets.insert(place, Counter(self.counter.kind, self.counter))
        return self._buckets[place]

    def advance(self, now: int) -> None:
        """Begin the second of `now`; what is older than a minute comes back."""
        second = now // SECOND
        gone = bisect_left(self._seconds, second - _BACK_AFTER + 1)
        for bucket in self._buckets[:gone]:
            self.counter.spent -= bucket.spent
            self.counter.held -= bucket.held
            bucket.total = None
        del self._seconds[:gone], self._buckets[:gone]
        self.turn = (second + 1) * SECOND
        self.target = self._bucket(second)

    def at(self, admitted_at: int) -> Counter | None:
        """Return the bucket for a call admitted then; None if it does not count any more."""
        if admitted_at < self.start:
            return None
        return self._bucket(min(admitted_at, self.turn - 1) // SECOND)

    def forget_spent(self) -> None:
        """Forget what was settled so far, as the ledger is about to tell it."""
        self.counter.spent = 0
        for bucket in self._buckets:
            bucket.spent = 0

    def spent_by_second(self) -> dict[int, int]:
        """Return what is spent by second of admission, zeros left out."""
        return {
            second: bucket.spent for second, bucket in zip(self._seconds, self._buckets, strict=True) if bucket.spent
        }

    @property
    def resets_at(self) -> int:
        """Return when all of the limit is back; with nothing used, an instant gone by."""
        if self.target.spent or self.target.held:
            return self.turn + _BACK_AFTER_TURN
        for place in range(len(self._buckets) - 1, -1, -1):
            if self._buckets[place].spent or self._buckets[place].held:
                return (self._seconds[place] + _BACK_AFTER) * SECOND
        return self.turn - SECOND

    def back_at(self, missing: int) -> int:
        """Return when `missing` more than now can be admitted, if what is in flight settles at what it holds."""
        for second, bucket in zip(self._seconds, self._buckets, strict=True):
            missing -= bucket.spent + bucket.held
            if missing <= 0:
                return (second + _BACK_AFTER) * SECOND
        return self.resets_at


Window = CalendarWindow | MinuteWindow
