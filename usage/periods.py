"""The range that analytics are about, as an address says it: 24h, 7d, 30d, 90d, or two dates, by the days of a zone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError

from clients.models import check_time_zone
from usage.analytics import LONGEST, LONGEST_BY_HOUR
from usage.days import HOUR, hour_of, midnight

PRESETS: Final = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
USUAL: Final = "7d"
_DAY: Final = timedelta(days=1)
_BY_HOUR: Final = 2  # so many days and fewer are shown by the hour


@dataclass(frozen=True, slots=True)
class Period:
    """A range, and in which steps it is shown."""

    start: datetime
    end: datetime
    zone: str
    step: str
    """'hour' or 'day'."""
    now: datetime
    name: str
    """A key of PRESETS; '' for a range of dates."""

    @property
    def running(self) -> bool:
        """Whether it reaches to this moment: its last step is not over."""
        return self.start <= self.now < self.end

    @property
    def first_day(self) -> date:
        """The day it begins on."""
        return self.start.astimezone(ZoneInfo(self.zone)).date()

    @property
    def last_day(self) -> date:
        """The day it ends on."""
        return (self.end - timedelta(microseconds=1)).astimezone(ZoneInfo(self.zone)).date()

    @property
    def query(self) -> dict[str, str]:
        """What says it in an address."""
        if self.name:
            return {"range": self.name, "zone": self.zone}
        return {"from": self.first_day.isoformat(), "to": self.last_day.isoformat(), "zone": self.zone}

    def before(self) -> list[tuple[datetime, datetime]]:
        """Return the range before, in parts that are quick to sum up; of one that runs, no more than has run of it."""
        if self.name == "24h":
            return [(self.start - _DAY, min(self.end, self.now) - _DAY)]
        there = ZoneInfo(self.zone)
        days = (self.last_day - self.first_day).days + 1
        start, end = (midnight(day - days * _DAY, there) for day in (self.first_day, self.last_day + _DAY))
        if not self.running:
            return [(start, end)]
        today = self.now.astimezone(there)
        whole_until = midnight(today.date() - days * _DAY, there)
        until = (today.replace(tzinfo=None) - days * _DAY).replace(tzinfo=there)
        return [part for part in ((start, whole_until), (whole_until, until)) if part[0] < part[1]]

    def steps(self) -> Iterator[datetime]:
        """Yield when each step begins."""
        if self.step == "hour":
            at = self.start
            while at < self.end:
                yield at
                at = hour_of(at) + HOUR
            return
        there = ZoneInfo(self.zone)
        for number in range((self.last_day - self.first_day).days + 1):
            yield midnight(self.first_day + number * _DAY, there)


def parse(query: Mapping[str, str], zone: str, now: datetime) -> Period:
    """Return what an address says; `zone` is whose days count where it names none. Raises ValidationError."""
    zone = query.get("zone") or zone
    check_time_zone(zone)
    there = ZoneInfo(zone)
    if query.get("from") or query.get("to"):
        first, last = (_day(query.get(name, ""), name) for name in ("from", "to"))
        if last < first:
            raise ValidationError("The range ends before it begins: exchange its days.")
        start, end = midnight(first, there), midnight(last + _DAY, there)
        if end - start > LONGEST:
            raise ValidationError("The range is too long: five years at most.")
        if start > now:
            raise ValidationError("The range lies in the future: nothing was called there yet.")
        by_hour = (last - first).days < _BY_HOUR and end - start <= LONGEST_BY_HOUR
        return Period(start, end, zone, "hour" if by_hour else "day", now, "")
    name = query.get("range") or USUAL
    if name not in PRESETS:
        raise ValidationError(f"There is no range {name!r:.30}: use {', '.join(PRESETS)}, or two dates.")
    if name == "24h":
        end = hour_of(now) + HOUR
        return Period(end - 24 * HOUR, end, zone, "hour", now, name)
    today = now.astimezone(there).date()
    first = today - (int(name.removesuffix("d")) - 1) * _DAY
    return Period(midnight(first, there), midnight(today + _DAY, there), zone, "day", now, name)


def _day(text: str, name: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not 1971 <= day.year <= 9000:
        raise ValidationError(f"{name!r} is a day such as 2026-01-31, not {text!r:.30}.")
    return day
