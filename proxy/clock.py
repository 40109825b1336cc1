"""The one clock of the data plane: µs since the epoch, never running backwards, never standing still."""

import time


class Clock:
    """Follows the machine's clock forwards; when that is set back, goes on at the pace of the monotonic one.

    Counters and the ledger are compared by time, so a call settled later must never carry an earlier time.
    """

    __slots__ = ("_monotonic", "_now")

    def __init__(self) -> None:
        self._monotonic = time.monotonic_ns() // 1000
        self._now = time.time_ns() // 1000

    def __call__(self) -> int:
        """Now, in µs; each call later than the one before."""
        monotonic = time.monotonic_ns() // 1000
        wall = time.time_ns() // 1000
        steady = self._now + max(1, monotonic - self._monotonic)
        self._monotonic = monotonic
        self._now = max(wall, steady)
        return self._now

    def not_before(self, moment: int) -> None:
        """Go on from `moment` (µs) if that is later than now: what is on record already must not lie in the future."""
        self._now = max(self._now, moment)
