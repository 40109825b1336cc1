"""Sums of usage by what callers put on it: workflow and environment. By day and client, and by nothing else."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.db.models import Case, F, FloatField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Cast

from usage import outcomes
from usage.analytics import Borders, Slice, column, narrowed
from usage.archive.reading import archived_calls
from usage.columns import Group, Row, in_order
from usage.days import hour_of
from usage.due import due_in, listed
from usage.folding import AMOUNTS, DIMENSIONS, Call, Sums, calls_with
from usage.models import RolledZone, TagRollup, UsageRecord, UsageSeries
from usage.seconds import Seconds
from usage.snapshot import one_moment

TAGS: Final = (TagRollup.WORKFLOW, TagRollup.ENV)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FEW: Final = 100  # groups named in one query: SQLite's expressions are no deeper than 1,000
_SPLIT: Final = 10**9  # what one column may hold is summed in two parts: a sum beyond 2^63 is an error in SQLite


def read_tag(
    asked: Slice, tag: str, amounts: Sequence[str] = AMOUNTS, values: Collection[str] | None = None
) -> list[Row]:
    """Return the sums of calls that count by a tag, 'workflow' or 'env': the last of each group is its value.

    Untagged calls are left out, and so are all of AMOUNTS but those asked for: they are 0. `values` are those wanted,
    None all. The slice may name no dimension but client. Raises ValidationError.
    """
    if tag not in TAGS:
        raise ValidationError(f"{tag!r:.50} is no tag: use {' or '.join(TAGS)}.")
    if {*asked.group_by, *asked.only} - {"client"}:
        raise ValidationError("Tags are summed up by client, and by nothing else.")
    with one_moment():
        found = _TagReading(asked, tag, amounts, values).read()
    return in_order([Row(at, group, sums) for (at, group), sums in found.items()])


def dearest(asked: Slice, tag: str, amounts: Sequence[str], count: int) -> list[Row]:
    """Return the same of the `count` groups that were charged most, these first; charge and calls must be asked for."""
    with one_moment():
        found = _TagReading(asked, tag, amounts, None, count).read()
    rows = [Row(at, group, sums) for (at, group), sums in found.items()]
    return sorted(rows, key=lambda row: (-row.sums.charge, -row.sums.calls, row.group[-1]))[:count]


class _TagReading:
    """One slice, being summed up by the values of a tag. Tags have no hours: what days cannot tell, records do."""

    def __init__(
        self, asked: Slice, tag: str, amounts: Sequence[str], values: Collection[str] | None, dearest: int | None = None
    ) -> None:
        self.asked, self.tag, self.amounts, self.values, self.dearest = asked, tag, amounts, values, dearest
        self.borders = Borders(asked)
        self.found: dict[tuple[datetime | None, Group], Sums] = defaultdict(Sums)

    def read(self) -> dict[tuple[datetime | None, Group], Sums]:
        """Sum it up. To be called in one state of the database."""
        asked, start, end = self.asked, self.borders.start, self.borders.end
        records = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)
        records = narrowed(records.exclude(**{self.tag: ""}), asked)
        if self.values is not None:
            records = records.filter(**{f"{self.tag}__in": self.values})
        if not self.borders.whole_days:
            self._add_records(records)
            self._count(self._archived())
            return self.found
        # Clients that this zone is nobody's for. Whoever has no series has nothing rolled: all of it is due.
        by_day = RolledZone.objects.filter(zone=asked.zone).values("client")
        series = UsageSeries.objects.exclude(client__in=by_day)
        others = set(series.values_list("client_id", flat=True).distinct())
        if others:
            self._add_records(records.filter(client__in=sorted(others)))
            self._count(call for call in self._archived() if call.series[0] in others)
        for row in due_in([asked.zone], start, end).order_by("pk").iterator(chunk_size=10):
            self._count(call for call in calls_with(listed([row]), records) if call.series[0] not in others)
        self._add_rolled()
        return self.found

    def _add_records(self, records: "QuerySet[UsageRecord]") -> None:
        """Add records, summed up by the database in parts of an hour that no step goes through."""
        whole_hours = all(hour_of(step) == step for step in self.borders.steps[1:])
        seconds = 3600 if whole_hours else 900  # zones are a number of quarters of an hour from UTC
        rows = records.filter(outcome__in=sorted(outcomes.COUNTED)).annotate(
            calls=Value(1),
            sessions=Case(When(session_opened=True, then=Value(1)), default=Value(0)),
            part=Seconds(F("admitted_at")) / Value(seconds),
        )

        def step(part: int) -> datetime:
            return self.borders.step(max(_EPOCH + timedelta(seconds=part * seconds), self.borders.start))

        self._take(rows, "part", self.tag, step)

    def _add_rolled(self) -> None:
        """Add what is rolled; of as many groups, where only the dearest are asked for, as may be among them."""
        within = {"start__gte": self.borders.start, "start__lt": self.borders.end}
        rows = narrowed(TagRollup.objects.filter(grain=self.asked.zone, tag=self.tag, **within), self.asked)
        if self.values is not None:
            rows = rows.filter(value__in=self.values)
        unrolled = {group for _, group in self.found}  # which may bring them there
        few = self.dearest is not None and len(unrolled) <= _FEW
        taken = self._take(rows, "start", "value", self.borders.step, self.dearest if few else None)
        if few and (left := unrolled - taken):
            by = [*map(column, self.asked.group_by), "value"]
            alike = reduce(or_, (Q(**dict(zip(by, group, strict=True))) for group in left))
            self._take(rows.filter(alike), "start", "value", self.borders.step)

    def _archived(self) -> Iterator[Call]:
        """Yield the calls in the archive that `records` would have."""
        seen = set(narrowed(UsageSeries.objects.all(), self.asked).values_list("client_id", flat=True).distinct())
        for call in archived_calls(self.borders.start, self.borders.end):
            value = call.workflow if self.tag == TagRollup.WORKFLOW else call.env
            if value and call.series[0] in seen and (self.values is None or value in self.values):
                yield call

    def _take(
        self,
        rows: "QuerySet[TagRollup] | QuerySet[UsageRecord]",
        at: str,
        value: str,
        step: Callable[[Any], datetime],
        dearest: int | None = None,
    ) -> set[Group]:
        """Add sums of rows, of the dearest groups or of all; return of which. `at` and `value` are columns."""
        by = [*([at] if self.asked.step else []), *map(column, self.asked.group_by), value]
        groups = set()
        for row in _summed(rows.order_by(), by, self.amounts, dearest):
            moment, *group = row[: len(by)] if self.asked.step else (None, *row[: len(by)])
            sums = dict(zip(self.amounts, map(int, row[len(by) :]), strict=True))
            total = Sums(sums.get(name, 0) for name in AMOUNTS)
            self.found[None if moment is None else step(moment), tuple(group)].add(total)
            groups.add(tuple(group))
        return groups

    def _count(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if not call.counts:
                continue
            value = call.workflow if self.tag == TagRollup.WORKFLOW else call.env
            group = tuple(call.series[DIMENSIONS.index(name)] for name in self.asked.group_by)
            at = self.borders.step(call.at) if self.asked.step else None
            self.found[at, (*group, value)].count(call, times=False)


def _summed(
    rows: "QuerySet[TagRollup] | QuerySet[UsageRecord]", by: Sequence[str], amounts: Sequence[str], dearest: int | None
) -> Iterable[Sequence[Any]]:
    """Return rows of `by` and of the sums of `amounts`; those charged most where not all are wanted."""
    groups: Any = rows.values(*by)
    if dearest is not None:
        groups = groups.annotate(charged=Sum(Cast("charge", FloatField()))).order_by("-charged")[:dearest]
    plain = {f"{name}_sum": Sum(name) for name in amounts}
    try:
        return list(groups.annotate(**plain).values_list(*by, *plain))
    except DatabaseError as error:  # in SQLite, of a sum beyond 2^63
        if "overflow" not in str(error):
            raise
    halves = {
        f"{name}_{part}": Sum(value)
        for name in amounts
        for part, value in (("high", F(name) / Value(_SPLIT)), ("low", F(name) % Value(_SPLIT)))
    }
    found = groups.annotate(**halves).values_list(*by, *halves)
    return [(*row[: len(by)], *map(_whole, row[len(by) :: 2], row[len(by) + 1 :: 2])) for row in found]


def _whole(high: Any, low: Any) -> int:
    return int(high) * _SPLIT + int(low)
