"""Sums of usage over any range, exact at every moment: rollups, and from the records what they do not have.

That is calls still due (`usage.due`), and hours of UTC through which a border of the range or of a day goes.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import F, Q, QuerySet, Sum, Value
from django.utils import timezone

from clients import access
from clients.models import Client, check_time_zone
from keys.models import APIKey
from pricing.models import Model, Provider
from usage import histograms
from usage.days import HOUR as ONE_HOUR
from usage.days import Days, hour_of
from usage.due import due_in, listed
from usage.folding import AMOUNTS, DIMENSIONS, Call, Sums, calls_of, calls_with
from usage.models import ALL, HOUR, RolledZone, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.snapshot import one_moment

LONGEST: Final = timedelta(days=5 * 366)
LONGEST_BY_HOUR: Final = timedelta(days=32)
TAGS: Final = (TagRollup.WORKFLOW, TagRollup.ENV)
_SPLIT: Final = 10**9  # what one column may hold is summed in two parts: a sum beyond 2^63 is an error in SQLite
_CHUNK: Final = 2_000
_NAMED: Final = {"client": Client, "key": APIKey, "provider": Provider, "model": Model}

Group = tuple[Any, ...]
Sorted = dict[tuple[datetime | None, Group], Sums]


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
            if self.reader is not None and name in _NAMED and not access.may(self.reader, "view", _NAMED[name]):
                raise ValidationError(f"Your role does not see {name}s: leave {name} out.")


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one group in one step; `at` is when the step begins, None where there is only one."""

    at: datetime | None
    group: Group
    sums: Sums


def read(asked: Slice, *, times: bool = False) -> list[Row]:
    """Return the rows that have calls, in order; with histograms where `times` is asked for. In one state of all."""
    reading = _Reading(asked, times)
    with one_moment():
        reading.read()
    return _rows(reading.found)


def read_tag(asked: Slice, tag: str) -> list[Row]:
    """Return the sums of calls by a tag, 'workflow' or 'env': the last of each group is its value.

    Untagged calls are left out. The slice may name no dimension but client. Raises ValidationError.
    """
    if tag not in TAGS:
        raise ValidationError(f"{tag!r:.50} is no tag: use {' or '.join(TAGS)}.")
    if {*asked.group_by, *asked.only} - {"client"}:
        raise ValidationError("Tags are summed up by client, and by nothing else.")
    reading = _TagReading(asked, tag)
    with one_moment():
        reading.read()
    return _rows(reading.found)


def _rows(found: Sorted) -> list[Row]:
    def order(key: tuple[datetime | None, Group]) -> Any:
        at, group = key
        return (at is not None and at.timestamp(), [(value is not None, value or 0) for value in group])

    return [Row(at, group, found[at, group]) for at, group in sorted(found, key=order)]


class _Reading:
    """One slice, being summed up."""

    def __init__(self, asked: Slice, times: bool) -> None:
        self.asked, self.times = asked, times
        self.found: Sorted = defaultdict(Sums)
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
        self.by_day: set[int] = set()
        """Clients whose sums come from days; all others' come from hours."""

    def read(self) -> None:
        """Sum it up. To be called in one state of the database."""
        asked = self.asked
        clients = set(self._series(UsageSeries.objects.all(), "").values_list("client_id", flat=True).distinct())
        if self.whole_days:
            rolled = RolledZone.objects.filter(zone=asked.zone)
            self.by_day = set(rolled.values_list("client_id", flat=True))
            if clients & self.by_day:
                self._rolled(asked.zone, Q())
        by_hour = clients - self.by_day
        if by_hour:
            some = Q() if by_hour == clients else self._of_clients(by_hour)
            self._rolled(HOUR, some & self._not_cut())
        self._cut_hours()
        self._due()

    def _of_clients(self, clients: Collection[int]) -> Q:
        return Q(series__client__in=sorted(clients))

    def _not_cut(self) -> Q:
        return ~Q(start__in=sorted(self.cut)) if self.cut else Q()

    def _series(self, rows: QuerySet[Any], path: str) -> QuerySet[Any]:
        """Leave the rows that are wanted, of those with the dimensions of a series under `path`."""
        for name, values in self.asked.only.items():
            rows = rows.filter(**{f"{path}{name}__in": values})
        if self.asked.reader is not None:
            seen = access.visible(self.asked.reader, UsageSeries.objects.all())
            rows = (
                rows.filter(**{f"{path}pk__in": seen.values("pk")}) if path else access.visible(self.asked.reader, rows)
            )
        return rows

    def _rolled(self, grain: str, which: Q) -> None:
        rows = self._series(
            UsageRollup.objects.filter(which, grain=grain, start__gte=self.start, start__lt=self.end), "series__"
        )
        groups = [f"series__{_column(name)}" for name in self.asked.group_by]
        self._add_sums(rows, groups)
        if self.times:
            self._add_times(rows, groups)

    def _add_sums(self, rows: QuerySet[Any], groups: list[str]) -> None:
        by = [*(["start"] if self.asked.step else []), *groups]
        # `whole`: where there is nothing to group by, it groups all; SQLite and PostgreSQL see one constant.
        sums = rows.order_by().values(*by, whole=Value(1)).annotate(**_aggregates())
        for row in sums.values_list(*by, *_aggregates()).iterator(chunk_size=_CHUNK):
            at, *rest = row if self.asked.step else (self.start, *row)
            group, amounts = tuple(rest[: len(groups)]), rest[len(groups) :]
            if amounts[0] is None:
                continue
            pairs = zip(amounts[::2], amounts[1::2], strict=True)
            total = [int(high) * _SPLIT + int(low) for high, low in pairs]
            self.found[self._step(at), group].add(Sums(total))

    def _add_times(self, rows: QuerySet[Any], groups: list[str]) -> None:
        stored: dict[tuple[datetime | None, Group], tuple[list[bytes], list[bytes]]] = defaultdict(lambda: ([], []))
        found = rows.filter(part=0).order_by().values_list("start", "latency", "first_byte", *groups)
        for start, latency, first_byte, *group in found.iterator(chunk_size=_CHUNK):
            of_latency, of_first_byte = stored[self._step(start), tuple(group)]
            of_latency.append(latency)
            of_first_byte.append(first_byte)
        for key, (of_latency, of_first_byte) in stored.items():
            histograms.add(self.found[key].latency, histograms.decode(of_latency))
            histograms.add(self.found[key].first_byte, histograms.decode(of_first_byte))

    def _cut_hours(self) -> None:
        """Add from the records what rollups cannot tell apart."""
        for hour in sorted(self.cut):
            start, end = max(hour, self.start), min(hour + ONE_HOUR, self.end)
            records = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)
            for call in calls_of(self._records(records)):
                if call.series[0] not in self.by_day:
                    self._count(call)

    def _due(self) -> None:
        """Add what is not in the rollups yet."""
        records = self._records(UsageRecord.objects.filter(admitted_at__gte=self.start, admitted_at__lt=self.end))
        for row in due_in([HOUR, self.asked.zone], self.start, self.end).order_by("pk").iterator(chunk_size=10):
            for call in calls_with(listed([row]), records):
                if call.series[0] in self.by_day:
                    missing = row.grain in {ALL, self.asked.zone}
                else:
                    missing = row.grain in {ALL, HOUR} and hour_of(call.at) not in self.cut
                if missing:
                    self._count(call)

    def _records(self, records: "QuerySet[UsageRecord]") -> "QuerySet[UsageRecord]":
        for name, values in self.asked.only.items():
            records = records.filter(**{f"{name}__in": values})
        return records if self.asked.reader is None else access.visible(self.asked.reader, records)

    def _count(self, call: Call) -> None:
        group = tuple(call.series[DIMENSIONS.index(name)] for name in self.asked.group_by)
        self.found[self._step(call.at), group].count(call, times=self.times)

    def _step(self, at: datetime) -> datetime | None:
        return self.steps[bisect_right(self.steps, at) - 1] if self.asked.step else None


class _TagReading(_Reading):
    """One slice, being summed up by the values of a tag. Tags have no hours: what days cannot tell, records do."""

    def __init__(self, asked: Slice, tag: str) -> None:
        super().__init__(asked, times=False)
        self.tag = tag

    def read(self) -> None:
        """Sum it up. To be called in one state of the database."""
        asked = self.asked
        records = self._records(UsageRecord.objects.filter(admitted_at__gte=self.start, admitted_at__lt=self.end))
        records = records.exclude(**{self.tag: ""})
        if not self.whole_days:
            for call in calls_of(records):
                self._count(call)
            return
        rolled = RolledZone.objects.filter(zone=asked.zone)
        self.by_day = set(rolled.values_list("client_id", flat=True))
        rows = TagRollup.objects.filter(grain=asked.zone, start__gte=self.start, start__lt=self.end, tag=self.tag)
        if "client" in asked.only:
            rows = rows.filter(client__in=asked.only["client"])
        if asked.reader is not None:
            rows = access.visible(asked.reader, rows)
        self._add_sums(rows, [*(_column(name) for name in asked.group_by), "value"])
        # Clients that this zone is nobody's for. Whoever has no series has nothing rolled: all of it is due.
        others = set(UsageSeries.objects.values_list("client_id", flat=True).distinct()) - self.by_day
        if others:
            for call in calls_of(records.filter(client__in=sorted(others))):
                self._count(call)
        for row in due_in([asked.zone], self.start, self.end).order_by("pk").iterator(chunk_size=10):
            for call in calls_with(listed([row]), records):
                if call.series[0] not in others:
                    self._count(call)

    def _count(self, call: Call) -> None:
        value = call.workflow if self.tag == TagRollup.WORKFLOW else call.env
        group = tuple(call.series[DIMENSIONS.index(name)] for name in self.asked.group_by)
        self.found[self._step(call.at), (*group, value)].count(call, times=False)


def _column(dimension: str) -> str:
    return dimension if dimension in {"endpoint", "outcome", "estimated"} else f"{dimension}_id"


def _aggregates() -> dict[str, Any]:
    split = Value(_SPLIT)
    return {
        f"{name}_{part}": Sum(value)
        for name in AMOUNTS
        for part, value in (("high", F(name) / split), ("low", F(name) % split))
    }
