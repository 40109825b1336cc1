"""Sums of usage by what callers put on it: workflow and environment. By day and client, and by nothing else."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import F, QuerySet, Sum, Value

from usage.analytics import Borders, Slice, column, narrowed
from usage.archive.reading import archived_calls
from usage.columns import Group, Row, in_order
from usage.due import due_in, listed
from usage.folding import AMOUNTS, DIMENSIONS, Call, Sums, calls_of, calls_with
from usage.models import RolledZone, TagRollup, UsageRecord, UsageSeries
from usage.snapshot import one_moment

TAGS: Final = (TagRollup.WORKFLOW, TagRollup.ENV)
_SPLIT: Final = 10**9  # what one column may hold is summed in two parts: a sum beyond 2^63 is an error in SQLite
_CHUNK: Final = 2_000


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


class _TagReading:
    """One slice, being summed up by the values of a tag. Tags have no hours: what days cannot tell, records do."""

    def __init__(self, asked: Slice, tag: str, amounts: Sequence[str], values: Collection[str] | None) -> None:
        self.asked, self.tag, self.amounts, self.values = asked, tag, amounts, values
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
            self._count(calls_of(records))
            self._count(self._archived())
            return self.found
        rows = TagRollup.objects.filter(grain=asked.zone, start__gte=start, start__lt=end, tag=self.tag)
        if self.values is not None:
            rows = rows.filter(value__in=self.values)
        self._add(narrowed(rows, asked))
        # Clients that this zone is nobody's for. Whoever has no series has nothing rolled: all of it is due.
        by_day = RolledZone.objects.filter(zone=asked.zone).values("client")
        series = UsageSeries.objects.exclude(client__in=by_day)
        others = set(series.values_list("client_id", flat=True).distinct())
        if others:
            self._count(calls_of(records.filter(client__in=sorted(others))))
            self._count(call for call in self._archived() if call.series[0] in others)
        for row in due_in([asked.zone], start, end).order_by("pk").iterator(chunk_size=10):
            self._count(call for call in calls_with(listed([row]), records) if call.series[0] not in others)
        return self.found

    def _archived(self) -> Iterator[Call]:
        """Yield the calls in the archive that `records` would have."""
        seen = set(narrowed(UsageSeries.objects.all(), self.asked).values_list("client_id", flat=True).distinct())
        for call in archived_calls(self.borders.start, self.borders.end):
            value = call.workflow if self.tag == TagRollup.WORKFLOW else call.env
            if value and call.series[0] in seen and (self.values is None or value in self.values):
                yield call

    def _add(self, rows: "QuerySet[TagRollup]") -> None:
        by = [*(["start"] if self.asked.step else []), *map(column, self.asked.group_by), "value"]
        summed = _aggregates(self.amounts)
        for row in rows.order_by().values(*by).annotate(**summed).values_list(*by, *summed).iterator(_CHUNK):
            at, *group = row[: len(by)] if self.asked.step else (None, *row[: len(by)])
            pairs = zip(row[len(by) :: 2], row[len(by) + 1 :: 2], strict=True)
            sums = {name: int(high) * _SPLIT + int(low) for name, (high, low) in zip(self.amounts, pairs, strict=True)}
            total = Sums(sums.get(name, 0) for name in AMOUNTS)
            self.found[at and self.borders.step(at), tuple(group)].add(total)

    def _count(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if not call.counts:
                continue
            value = call.workflow if self.tag == TagRollup.WORKFLOW else call.env
            group = tuple(call.series[DIMENSIONS.index(name)] for name in self.asked.group_by)
            at = self.borders.step(call.at) if self.asked.step else None
            self.found[at, (*group, value)].count(call, times=False)


def _aggregates(amounts: Iterable[str]) -> dict[str, Any]:
    split = Value(_SPLIT)
    return {
        f"{name}_{part}": Sum(value)
        for name in amounts
        for part, value in (("high", F(name) / split), ("low", F(name) % split))
    }
