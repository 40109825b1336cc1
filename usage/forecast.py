"""When a limit will be used up, were the coming time like the last weeks: by weekday and hour, with a range.

An estimate for the eye, in whole numbers nevertheless.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from clients.models import Client
from keys.models import APIKey
from usage import analytics, outcomes
from usage.days import HOUR, hour_of
from usage.folding import Sums

WEEKS: Final = 4  # looked back upon
FARTHEST: Final = timedelta(days=366)  # looked ahead, for limits that never reset
FORESEEN: Final = ("day", "week", "month", "total")
"""The cycles long enough to foresee anything in."""
_DAY: Final = 24  # hours
_WEEK: Final = 7 * _DAY
_SECONDS: Final = 3600  # an hour


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a limit will be used up; None stands for 'not before it resets', or not within a year."""

    likely: datetime | None
    """At the pace of the last seven days."""
    earliest: datetime | None
    """Were all that is to come like the busiest of the last weeks (of the last days, where there are no two weeks)."""
    latest: datetime | None
    """Were it like the quietest."""
    at_reset: int | None
    """What will likely be used then, in the metric's own unit; None where it never resets."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was used in each of the last whole hours, the oldest first."""

    hours: Sequence[int]
    zone: str
    """Whose weekdays and hours of the day count."""

    def forecast(self, amount: int, taken: int, now: datetime, resets_at: datetime | None) -> Forecast | None:
        """Say when `amount` will be reached from `taken`; None where a day of usage is not there yet to tell.

        With two weeks and more each hour is expected to be like the same hours of the same weekday; with less, all
        hours are alike.
        """
        period = _WEEK if len(self.hours) >= 2 * _WEEK else _DAY
        used = self.hours[len(self.hours) % period :]
        if not used:
            return None
        totals = [sum(used[at : at + period]) for at in range(0, len(used), period)]
        recent = totals[-1] if period == _WEEK else sum(totals) // len(totals)
        week = _week_like(used, now, self.zone) if period == _WEEK else _Week([1] * _WEEK, _DAY, self.zone)
        end = now + FARTHEST if resets_at is None else resets_at
        likely, earliest, latest = (
            now if taken >= amount else week.reached(pace, amount - taken, now, end)
            for pace in (recent, max(totals), min(totals))
        )
        at_reset = None if resets_at is None else taken + week.used(recent, now, end)
        return Forecast(likely, earliest, latest, at_reset)


@dataclass(frozen=True, slots=True)
class _Week:
    """How usage spreads over the hours of a week: an hour's share of a period's usage is its weight / `whole`."""

    weights: Sequence[int]
    whole: int
    zone: str

    def reached(self, pace: int, amount: int, now: datetime, end: datetime) -> datetime | None:
        """Return when `amount` is used at a pace of so much a period; None where not before `end`."""
        wanted = amount * self.whole * _SECONDS
        at, sum_so_far = self._whole_weeks(pace, wanted, now, end)
        for begins, seconds, rate in self._hours(pace, at, end):
            if rate and sum_so_far + rate * seconds >= wanted:
                return begins + timedelta(seconds=-(-(wanted - sum_so_far) // rate))
            sum_so_far += rate * seconds
        return None

    def used(self, pace: int, now: datetime, end: datetime) -> int:
        """Return what is used until `end`."""
        at, sum_so_far = self._whole_weeks(pace, None, now, end)
        sum_so_far += sum(rate * seconds for _, seconds, rate in self._hours(pace, at, end))
        return sum_so_far // (self.whole * _SECONDS) if self.whole else 0

    def _whole_weeks(self, pace: int, wanted: int | None, now: datetime, end: datetime) -> tuple[datetime, int]:
        """Return the moment so many weeks ahead that not one more fits before `end` or `wanted`, and what they use."""
        one = sum(self.weights) * pace * _SECONDS
        weeks = (end - now) // (_WEEK * HOUR)
        if wanted is not None and one:
            weeks = min(weeks, (wanted - 1) // one)
        return now + weeks * _WEEK * HOUR, weeks * one

    def _hours(self, pace: int, at: datetime, end: datetime) -> Iterator[tuple[datetime, int, int]]:
        """Yield each hour, the first and the last in part: when it begins, its seconds, and the usage of one."""
        there = ZoneInfo(self.zone)
        while at < end:
            following = min(hour_of(at) + HOUR, end)
            yield at, (following - at) // timedelta(seconds=1), self.weights[_hour_of_week(at, there)] * pace
            at = following


def _week_like(used: Sequence[int], now: datetime, zone: str) -> _Week:
    weights = [0] * _WEEK
    first = hour_of(now) - len(used) * HOUR
    there = ZoneInfo(zone)
    for number, amount in enumerate(used):
        weights[_hour_of_week(first + number * HOUR, there)] += amount
    return _Week(weights, sum(used), zone)


def _hour_of_week(at: datetime, zone: ZoneInfo) -> int:
    local = at.astimezone(zone)
    return local.weekday() * _DAY + local.hour


def paces(of: Client | APIKey, metrics: Collection[str], now: datetime) -> dict[str, Pace]:
    """Return by metric the pace of a client, or of a key, over the last four weeks, or since its first call in them."""
    client = of if isinstance(of, Client) else of.client
    last = hour_of(now)
    only: dict[str, Any] = {"client": [client.pk], "outcome": sorted(outcomes.COUNTED)}
    if isinstance(of, APIKey):
        only["key"] = [of.pk]
    asked = analytics.Slice(last - WEEKS * _WEEK * HOUR, last, "UTC", step="hour", only=only)
    by_hour = {row.at: row.sums for row in analytics.read(asked) if row.at is not None}
    hours = (last - min(by_hour, default=last)) // HOUR
    sums = [by_hour.get(last - number * HOUR, Sums()) for number in range(hours, 0, -1)]
    return {metric: Pace([_used(metric, one) for one in sums], client.time_zone) for metric in metrics}


def _used(metric: str, sums: Sums) -> int:
    match metric:
        case "requests":
            return sums.calls
        case "tokens":
            return sums.input_tokens + sums.output_tokens
        case "credits":
            return sums.charge
        case _:
            return sums.sessions
