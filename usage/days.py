"""Where calendar days begin and end: by the clock of a zone, whatever it does at night."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

HOUR: Final = timedelta(hours=1)
EVER: Final = (datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC))
"""From when to when anything may have been."""


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins, in UTC: where clocks skip midnight, at the first moment after."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour of UTC that `moment` is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def month_before(day: date) -> tuple[date, date]:
    """Return the first and the last day of the month before the one of `day`."""
    end = day.replace(day=1) - timedelta(days=1)
    return end.replace(day=1), end


class Days:
    """The days of one zone. Asked for moments near each other it computes almost nothing."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._first = self._next = datetime.min.replace(tzinfo=UTC)

    def start(self, moment: datetime) -> datetime:
        """Return when the day began that `moment` is in."""
        if not self._first <= moment < self._next:
            day = moment.astimezone(self._zone).date()
            self._first, self._next = midnight(day, self._zone), midnight(day + timedelta(days=1), self._zone)
        return self._first

    def end(self, moment: datetime) -> datetime:
        """Return when the day ends that `moment` is in: its next begins then."""
        self.start(moment)
        return self._next

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the beginnings of all days that [start, end) touches."""
        at = start
        while at < end:
            yield self.start(at)
            at = self.end(at)
