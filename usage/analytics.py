"""Sums of usage over any range, exact at every moment: rollups, and from the records what they do not have.

That is calls still due (`usage.due`), and hours of UTC through which a border of the range or of a day goes.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from clients import access
from clients.models import Client, check_time_zone
from keys.models import APIKey
from pricing.models import Model, Provider
from usage import packs
from usage.archive.reading import archived_calls
from usage.columns import Columns, Row
from usage.days import HOUR as ONE_HOUR
from usage.days import Days, hour_of
from usage.due import due_in, listed
from usage.folding import DIMENSIONS, Call, Series, Sums, calls_of, calls_with
from usage.models import ALL, HOUR, AgencyDay, RolledZone, UsageRecord, UsageRollup, UsageSeries
from usage.packs import Pack
from usage.snapshot import one_moment

LONGEST: Final = timedelta(days=5 * 366)
LONGEST_BY_HOUR: Final = timedelta(days=32)
_CHUNK: Final = 2_000
_MUCH: Final = 0.25  # of the clients of a zone
_NAMED: Final = {"client": Client, "key": APIKey, "provider": Provider, "model": Model}


@dataclass(frozen=True, slots=True)
class Slice:
    """What to sum up: calls admitted in [start, end), in steps of an hour, of a day of `zone`, or in all.

    Raises ValidationError where that cannot be answered. A range that ends now or later reaches to the end of its step,
    so that what comes in meanwhile is in it. Fast are whole days of a zone in use (the installation's, a client's
    own), and whole hours; through other borders a few hours of records are read.
    """

    start: datetime
    end: datetime
    zone: str
    step: str = ""
    """'hour', 'day', or '' for one sum."""
    group_by: tuple[str, ...] = ()
    """Some of `usage.folding.DIMENSIONS`; of those with ids, the id."""
    only: Mapping[str, Collection[Any]] = field(default_factory=dict)
    """Dimension -> the values wanted."""
    reader: access.Person | None = None
    """Whose eyes it is for; None sees all, as whoever has the machine's shell does."""

    def __post_init__(self) -> None:
        """Judge it."""
        check_time_zone(self.zone)
        if self.end <= self.start:
            raise ValidationError("The range ends before it begins: exchange its days.")
        if self.end - self.start > (LONGEST_BY_HOUR if self.step == "hour" else LONGEST):
            raise ValidationError("The range is too long: ask for it in parts, or by days.")
        if self.step not in {"", "hour", "day"}:
            raise ValidationError(f"There are no steps of {self.step!r:.50}: use hour or day.")
        for name in (*self.group_by, *self.only):
            if name not in DIMENSIONS:
                raise ValidationError(f"{name!r:.50} is nothing to group by: use {', '.join(DIMENSIONS)}.")
            if not sees(self.reader, name):
                raise ValidationError(f"Your role does not see {name}s: leave {name} out.")


def sees(reader: access.Person | None, dimension: str) -> bool:
    """Tell whether sums may be told apart by that dimension to `reader`; None sees all."""
    return reader is None or dimension not in _NAMED or access.may(reader, "view", _NAMED[dimension])


def narrowed(rows: QuerySet[Any], asked: Slice) -> QuerySet[Any]:
    """Leave what `asked` is about, of series, of records, or of sums by tag."""
    for name, values in asked.only.items():
        rows = rows.filter(**{f"{name}__in": values})
    return rows if asked.reader is None else access.visible(asked.reader, rows)


def load(asked: Slice, *, times: bool = False, among: Mapping[int, Series] | None = None) -> Columns:
    """Return the usage that is asked for, to be summed up by anything; with histograms where `times` is asked for.

    In one state of the database; `among` are its series in that state, for whoever loads several slices within it.
    What it is grouped by in `asked` does not matter.
    """
    reading = _Reading(asked, times)
    with one_moment():
        return reading.load(series_of(asked) if among is None else among)


def series_of(asked: Slice) -> dict[int, Series]:
    """Return the series that a slice is about, by their ids."""
    rows = narrowed(UsageSeries.objects.all(), asked).values_list("pk", *map(column, DIMENSIONS))
    return {pk: tuple(one) for pk, *one in rows.iterator(_CHUNK)}


def read(asked: Slice, *, times: bool = False) -> list[Row]:
    """Return the rows that have calls, in order; with histograms where `times` is asked for."""
    return load(asked, times=times).sums(asked.group_by, by_step=bool(asked.step), times=times)


class Borders:
    """Where a slice begins, where its steps do, and what of it days and hours make up."""

    def __init__(self, asked: Slice) -> None:
        days = Days(asked.zone)
        self.start, self.end = asked.start, asked.end
        if self.end >= timezone.now() - timedelta(seconds=1):
            last = self.end - timedelta(microseconds=1)
            self.end = days.end(last) if asked.step == "day" else hour_of(last) + ONE_HOUR
        self.whole_days = (
            asked.step != "hour" and days.start(self.start) == self.start and days.start(self.end) == self.end
        )
        self.steps = [self.start]
        if asked.step == "day":
            self.steps += [day for day in days.between(self.start, self.end) if day > self.start]
        elif asked.step == "hour":
            at = hour_of(self.start) + ONE_HOUR
            while at < self.end:
                self.steps.append(at)
                at += ONE_HOUR
        self.cut = {hour_of(at) for at in (*self.steps, self.end) if hour_of(at) != at}
        """Hours that a border goes through."""

    def step(self, at: datetime) -> datetime:
        """Return when the step begins that a moment of the slice is in."""
        return self.steps[bisect_right(self.steps, at) - 1]


class _Reading:
    """One slice, being looked for."""

    def __init__(self, asked: Slice, times: bool) -> None:
        self.asked, self.times = asked, times
        self.borders = Borders(asked)
        self.by_day: set[int] = set()
        """Clients whose sums come from days; all others' come from hours."""
        self.packs: list[tuple[datetime, Pack]] = []
        self.series: dict[int, Series] = {}
        self.numbers: dict[Series, int] = {}

    def load(self, among: Mapping[int, Series]) -> Columns:
        """Find what makes it up, of these series. To be called in one state of the database."""
        asked = self.asked
        self.series = dict(among)
        self.numbers = {one: pk for pk, one in self.series.items()}
        clients = {one[0] for one in self.series.values()}
        joined: Collection[datetime] = ()
        if self.borders.whole_days:
            self.by_day = set(RolledZone.objects.filter(zone=asked.zone).values_list("client_id", flat=True))
            if clients <= self.by_day:
                joined = self._joined(clients)
            self._packed(asked.zone, clients & self.by_day, joined)
        self._packed(HOUR, clients - self.by_day)
        unrolled: dict[datetime, dict[int, Sums]] = defaultdict(lambda: defaultdict(Sums))
        for call in self._unrolled():
            unrolled[self.borders.step(call.at)][self._number(call.series)].count(call, times=self.times)
        self.packs += [(at, packs.add(Pack(), sums)) for at, sums in unrolled.items()]
        return Columns(self.packs, self.series, self.borders.steps, times=self.times)

    def _joined(self, clients: Collection[int]) -> Collection[datetime]:
        """Take days that are joined up, where much of them is asked for; return which. Others' series are left out."""
        if len(clients) < _MUCH * len(self.by_day):
            return ()
        within = AgencyDay.objects.filter(
            grain=self.asked.zone, start__gte=self.borders.start, start__lt=self.borders.end
        )
        fields = Pack._fields if self.times else ("rows",)
        days = {start: Pack(*pack) for start, *pack in within.values_list("start", *fields)}
        self.packs += days.items()
        return days

    def _packed(self, grain: str, clients: Collection[int], without: Collection[datetime] = ()) -> None:
        rows = UsageRollup.objects.filter(grain=grain, start__gte=self.borders.start, start__lt=self.borders.end)
        if without:
            days = Days(grain).between(self.borders.start, self.borders.end)
            rows = rows.filter(start__in=[day for day in days if day not in without])
        fields = Pack._fields if self.times else ("rows",)
        if grain == HOUR and self.borders.cut:
            rows = rows.exclude(start__in=sorted(self.borders.cut))
        if "client" in self.asked.only or self.asked.reader is not None:
            rows = rows.filter(client__in=sorted(clients))
        for start, client, *pack in rows.order_by().values_list("start", "client_id", *fields).iterator(_CHUNK):
            if client in clients:
                self.packs.append((start, Pack(*pack)))

    def _number(self, one: Series) -> int:
        """Return the id of a series, or, of one that was never rolled, a number of its own."""
        if one not in self.numbers:
            self.numbers[one] = -len(self.numbers) - 1
            self.series[self.numbers[one]] = one
        return self.numbers[one]

    def _unrolled(self) -> Iterator[Call]:
        """Yield from the records what rollups cannot tell apart, and what is not in them yet."""
        for hour in sorted(self.borders.cut):
            start, end = max(hour, self.borders.start), min(hour + ONE_HOUR, self.borders.end)
            records = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)
            archived = (call for call in archived_calls(start, end) if call.series in self.numbers)
            for call in chain(calls_of(narrowed(records, self.asked)), archived):
                if call.series[0] not in self.by_day:
                    yield call
        borders = self.borders
        records = UsageRecord.objects.filter(admitted_at__gte=borders.start, admitted_at__lt=borders.end)
        records = narrowed(records, self.asked)
        for row in due_in([HOUR, self.asked.zone], borders.start, borders.end).order_by("pk").iterator(chunk_size=10):
            for call in calls_with(listed([row]), records):
                if call.series[0] in self.by_day:
                    missing = row.grain in {ALL, self.asked.zone}
                else:
                    missing = row.grain in {ALL, HOUR} and hour_of(call.at) not in self.borders.cut
                if missing:
                    yield call


def column(dimension: str) -> str:
    """Return the column that says a dimension, in records and in series."""
    return dimension if dimension in {"endpoint", "outcome", "estimated"} else f"{dimension}_id"
