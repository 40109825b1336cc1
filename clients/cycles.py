"""When a limit's cycle starts and ends, on the calendar of the client's own time zone. Pure; instants are µs, UTC.

A day starts the first time the local clock shows midnight, or, where a clock change skips midnight, at the first
instant after it. So windows follow one another without gap or overlap whatever clocks do. Holds from 1970 to 9998.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

CYCLES: Final = ("minute", "hour", "day", "week", "month", "total")

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


def window(cycle: str, at_us: int, zone: ZoneInfo, start_day: int) -> tuple[int, int | None]:
    """Return start (inclusive) and end (exclusive; None: never) of the window of `cycle` that contains `at_us`.

    `start_day` is the day of the month (1..31; the last day where a month is shorter) on which months start; weeks
    start on its weekday (1 Monday … 7 Sunday, 8 Monday again). A minute slides: 60 s to both sides of `at_us`, for
    display only. Raises ValueError for an unknown cycle.
    """
    if cycle == "minute":
        return at_us - MINUTE, at_us + MINUTE
    if cycle == "total":
        return 0, None
    if cycle == "hour":
        return _hour(at_us, zone)
    first = _first_day(cycle, _local(at_us, zone).date(), start_day)
    start, following = _midnight(first, zone), _next_first_day(cycle, first, start_day)
    # A clock set back across midnight shows yesterday's date again: the new day has begun nevertheless.
    while (end := _midnight(following, zone)) <= at_us:
        start, following = end, _next_first_day(cycle, following, start_day)
    return start, end


def _hour(at_us: int, zone: ZoneInfo) -> tuple[int, int]:
    """An hour of elapsed time between full hours of the local clock.

    Only a change by a part of an hour (Lord Howe Island moves by 30 minutes) cuts one short and starts the next.
    """
    offset = _offset(at_us, zone)
    start = at_us - (at_us + offset) % HOUR
    end = start + HOUR
    if (_offset(start, zone) - offset) % HOUR:
        start = _change(start, at_us, zone)
    if (_offset(end, zone) - offset) % HOUR:
        end = _change(at_us, end, zone)
    return start, end


def _first_day(cycle: str, day: date, start_day: int) -> date:
    if cycle == "day":
        return day
    if cycle == "week":
        return day - timedelta(days=(day.weekday() - (start_day - 1)) % 7)
    if cycle == "month":
        first = _day_of_month(day.year, day.month, start_day)
        if first <= day:
            return first
        before = day.replace(day=1) - _DAY
        return _day_of_month(before.year, before.month, start_day)
    raise ValueError(f"Unknown cycle {cycle!r}.")


def _next_first_day(cycle: str, first: date, start_day: int) -> date:
    if cycle == "day":
        return first + _DAY
    if cycle == "week":
        return first + 7 * _DAY
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return _day_of_month(after.year, after.month, start_day)


def _day_of_month(year: int, month: int, start_day: int) -> date:
    return date(year, month, min(start_day, monthrange(year, month)[1]))


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The first instant at which the local clock shows `day` 00:00 or, skipping it, anything later."""
    midnight = datetime.combine(day, time(), zone)
    instant = micros(midnight)
    if _local(instant, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return instant
    return _change(micros(midnight.replace(fold=1)), instant, zone)


def _change(before: int, after: int, zone: ZoneInfo) -> int:
    """The instant of the one clock change in (before, after]; changes happen on full seconds."""
    low, high = before // SECOND, -(-after // SECOND)
    old = _offset(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle * SECOND, zone) == old:
            low = middle
        else:
            high = middle
    return high * SECOND


def _local(at_us: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_us // SECOND, zone)


def _offset(at_us: int, zone: ZoneInfo) -> int:
    offset = _local(at_us, zone).utcoffset()
    assert offset is not None  # a ZoneInfo always knows
    return offset // timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return a moment in µs since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
