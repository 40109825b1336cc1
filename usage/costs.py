"""What calls of a time cost and what was charged for them, summed up as finance asks: by calendar days of a zone.

Sums are made by the database and read one by one; money is integers of picodollars all the way.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db.models import BigIntegerField, Case, CharField, Count, F, Func, Q, QuerySet, Sum, Value, When
from django.db.models.expressions import Combinable
from django.utils import timezone

from clients import access
from clients.models import Client, check_time_zone
from keys.lifecycle import parse_duration
from keys.models import APIKey
from pricing.models import Model, Provider
from usage import cost_sums, outcomes
from usage.analytics import Slice
from usage.archive.due import oldest_settled
from usage.archive.reading import is_archived
from usage.days import midnight
from usage.models import UsageRecord, UsageSeries
from usage.seconds import Seconds
from usage.snapshot import one_moment

LONGEST: Final = timedelta(days=5 * 366)
EARLIEST: Final = date(2000, 1, 1)
LATEST: Final = date(9000, 1, 1)
NAMED: Final = {"client": Client, "key": APIKey, "model": Model, "provider": Provider}
"""What rows are grouped by that has a name of its own, which not everybody reads."""
TIMES: Final = ("day", "week", "month")
DIMENSIONS: Final = (*NAMED, "endpoint", *TIMES, "workflow", "env")
TAGS: Final = ("workflow", "env")
"""What `tag` stands for."""

_NARROWED = ("client", "model", "provider")
_COUNTED = Q(outcome__in=sorted(outcomes.COUNTED))
_DAY = 86_400
_SPLIT = 10**6
"""Money is summed in two parts: SQLite refuses sums beyond 2^63, nine million dollars in picodollars."""
_EPOCH = date(1970, 1, 1)
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """What a cost report is asked: calls admitted in [start, end), in rows by `group_by`, days as in `zone`."""

    start: datetime
    end: datetime
    zone: str
    group_by: tuple[str, ...] = ("client",)
    client: int | None = None
    model: int | None = None
    provider: int | None = None
    reader: access.Person | None = None
    """Whose eyes it is for; None sees all, as whoever has the machine's shell does."""

    def __post_init__(self) -> None:
        """Raise ValidationError where it cannot be answered, or not to this reader."""
        check_time_zone(self.zone)
        if self.end <= self.start:
            raise ValidationError("The range ends before it begins: exchange its days.")
        if self.end - self.start > LONGEST:
            raise ValidationError("The range is longer than five years: ask for it in parts.")
        if self.start > timezone.now():
            raise ValidationError("The range lies in the future: there are no calls yet.")
        if len(set(self.group_by)) != len(self.group_by):
            raise ValidationError("Something is named twice to group by.")
        for name in self.group_by:
            if name not in DIMENSIONS:
                raise ValidationError(f"{name!r:.50} is nothing to group by: use {', '.join(DIMENSIONS)} or tag.")
        unread = {name for name in NAMED if not reads(self.reader, name)}
        asked = {*self.group_by, *(name for name in _NARROWED if getattr(self, name) is not None)}
        for name in sorted(unread & asked):
            raise ValidationError(f"Your role does not see {name}s: leave {name} out.")


@dataclass(frozen=True, slots=True)
class Row:
    """Sums of one group; money is picodollars. Calls that were refused, or failed at the provider, are uncounted."""

    groups: tuple[str, ...]
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int
    charge: int
    cache_write_tokens: int
    audio_input_tokens: int
    reasoning_tokens: int
    audio_output_tokens: int
    sessions: int
    estimated_requests: int
    uncounted_requests: int

    @property
    def margin(self) -> int:
        """What is left of the charge."""
        return self.charge - self.cost


SUMS: Final = tuple(field.name for field in fields(Row) if field.name != "groups")
"""What rows sum up."""
_SUMMED = [name for name in SUMS if name.endswith("_tokens")]


def reads(reader: access.Person | None, dimension: str) -> bool:
    """Tell whether a report for `reader` may name what `dimension` is about."""
    return reader is None or dimension not in NAMED or access.may(reader, "view", NAMED[dimension])


def rows(question: Question) -> Iterator[Row]:
    """Yield the rows in the order of what they are grouped by, ids where that has names; none where nothing happened.

    What is gone, or belongs to others, stands there as #id.
    """
    return _rows(question, _sums(question))


def preview(question: Question, shown: int) -> tuple[list[Row], Row]:
    """Return the first rows, one more than are shown where there are more, and the sums over all of them.

    From rollups, at once, where they tell apart what is asked; else from the records.
    """
    if not cost_sums.known(question.group_by):
        return list(islice(rows(question), shown + 1)), total(question)
    only = {name: [wanted] for name in _NARROWED if (wanted := getattr(question, name)) is not None}
    step = "day" if {*question.group_by} & {*TIMES} else ""
    asked = Slice(question.start, question.end, question.zone, step, (), only, question.reader)
    found = cost_sums.rolled_sums(asked, question.group_by)
    whole = dict.fromkeys(SUMS, 0)
    for amounts in found.values():
        for name in SUMS:
            whole[name] += amounts[name]
    first = ((group, {name: amounts[name] for name in SUMS}) for group, amounts in islice(found.items(), shown + 1))
    return list(_rows(question, first)), Row((), **whole)


def _rows(question: Question, sums: Iterable[tuple[tuple[Any, ...], dict[str, int]]]) -> Iterator[Row]:
    names = [_names(question.reader, dimension) for dimension in question.group_by]
    for groups, amounts in sums:
        yield Row(tuple(map(_told, question.group_by, names, groups)), **amounts)


def total(question: Question) -> Row:
    """Return the sums over all of it."""
    if question.start >= oldest_settled():
        return Row((), **_amounts(_records(question).aggregate(**_aggregates())))
    with one_moment():
        amounts = _amounts(_records(question).aggregate(**_aggregates()))
        archived = _archived(question, ()).get((), {})
    return Row((), **{name: amount + archived.get(name, 0) for name, amount in amounts.items()})


def whole_days(first: date, last: date, zone: str) -> tuple[datetime, datetime]:
    """Return the range of the calendar days from `first` to `last`, both among them. Raises ValidationError."""
    check_time_zone(zone)
    if not EARLIEST <= min(first, last) <= max(first, last) < LATEST:
        raise ValidationError(f"Days are from {EARLIEST} to {LATEST}.")
    there = ZoneInfo(zone)
    return midnight(first, there), midnight(last + timedelta(days=1), there)


def last(text: str, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """Return the range that ends `now`: of `7d` or `2w` calendar days, today the last; of `24h` so many hours.

    Raises ValidationError.
    """
    check_time_zone(zone)
    duration = parse_duration(text)
    if not duration:
        raise ValidationError("The range is empty: the last 30d, say.")
    if duration > LONGEST:
        raise ValidationError("The range is longer than five years: ask for it in parts.")
    if text.strip()[-1] in "dw":
        there = ZoneInfo(zone)
        return midnight(now.astimezone(there).date() - timedelta(days=duration.days - 1), there), now
    return now - duration, now


def parse_group_by(text: str) -> tuple[str, ...]:
    """Return what `client,day` or `client,tag` names, in that order; `Question` judges it."""
    names = [name.strip() for name in text[:200].split(",")]
    return tuple(part for name in names for part in (TAGS if name == "tag" else (name,)))


def _records(question: Question) -> QuerySet[UsageRecord]:
    """Return the records that it is about. All reading starts here."""
    records = UsageRecord.objects.filter(admitted_at__gte=question.start, admitted_at__lt=question.end)
    for name in _NARROWED:
        if (wanted := getattr(question, name)) is not None:
            records = records.filter(**{f"{name}_id": wanted})
    return records if question.reader is None else access.visible(question.reader, records)


def _sums(question: Question) -> Iterator[tuple[tuple[Any, ...], dict[str, int]]]:
    """Yield the groups as the database has them, with their sums, one by one."""
    if not question.group_by:
        sums = total(question)
        if sums.requests or sums.uncounted_requests:
            yield (), {name: getattr(sums, name) for name in SUMS}
        return
    groups: dict[str, Any] = {f"by_{name}": _expression(name, question) for name in question.group_by}
    found = _records(question).order_by().values(**groups).annotate(**_aggregates()).order_by(*groups)
    row: dict[str, Any]
    if question.start >= oldest_settled():  # nothing of it can be in the archive
        for row in found.iterator(chunk_size=_CHUNK):  # type: ignore[assignment]  # its names are made above
            yield tuple(row[name] for name in groups), _amounts(row)
        return
    with one_moment():  # table and archive of one state, between which calls move
        every = _archived(question, question.group_by)
        if not every:  # as above: a report as long as its calls is never held in memory
            for row in found.iterator(chunk_size=_CHUNK):  # type: ignore[assignment]
                yield tuple(row[name] for name in groups), _amounts(row)
            return
        for row in found.iterator(chunk_size=_CHUNK):  # type: ignore[assignment]
            group, amounts = tuple(row[name] for name in groups), _amounts(row)
            archived = every.get(group, {})
            every[group] = {name: amount + archived.get(name, 0) for name, amount in amounts.items()}
    for group in sorted(every, key=lambda group: [(value is not None, value) for value in group]):
        yield group, every[group]


def _archived(question: Question, group_by: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, int]]:
    """Return the sums of archived calls by the groups that the database has. Raises MissingArchive."""
    if not is_archived(question.start, question.end):
        return {}
    from usage.archive.sums import archived_sums  # noqa: PLC0415 - pyarrow is loaded where there is an archive to read

    only: dict[str, frozenset[int]] = {
        f"{name}_id": frozenset({wanted}) for name in _NARROWED if (wanted := getattr(question, name)) is not None
    }
    if question.reader is not None:
        seen = access.visible(question.reader, UsageSeries.objects.all())
        clients = frozenset(seen.values_list("client_id", flat=True).distinct())
        only["client_id"] = clients & only.get("client_id", clients)
    stretches = _stretches(question)
    columns = tuple(f"{name}_id" if name in NAMED else name for name in group_by)
    return archived_sums(question.start, question.end, columns, stretches, only)


def _aggregates() -> dict[str, Any]:
    whole = {name: Sum(name) for name in _SUMMED}
    big = {
        f"{name}_{part}": Sum(value, output_field=BigIntegerField())
        for name in ("cost", "charge")
        for part, value in (("high", F(name) / Value(_SPLIT)), ("low", F(name) % Value(_SPLIT)))
    }
    return {
        **{f"sum_{name}": value for name, value in (whole | big).items()},
        "n_requests": Count("pk", filter=_COUNTED),
        "n_sessions": Count("pk", filter=Q(session_opened=True)),
        "n_estimated": Count("pk", filter=_COUNTED & Q(estimated=True)),
        "n_uncounted": Count("pk", filter=~_COUNTED),
    }


def _amounts(row: Mapping[str, Any]) -> dict[str, int]:
    def money(name: str) -> int:
        return int(row[f"sum_{name}_high"] or 0) * _SPLIT + int(row[f"sum_{name}_low"] or 0)

    return {
        **{name: int(row[f"sum_{name}"] or 0) for name in _SUMMED},
        "cost": money("cost"),
        "charge": money("charge"),
        "requests": row["n_requests"],
        "sessions": row["n_sessions"],
        "estimated_requests": row["n_estimated"],
        "uncounted_requests": row["n_uncounted"],
    }


def _expression(dimension: str, question: Question) -> Any:
    if dimension in NAMED:
        # Grouped by the bare column, SQLite walks all records there ever were, along the index of clients.
        return F(f"{dimension}_id") + Value(0)
    if dimension not in TIMES:
        return F(dimension)
    seconds = Seconds(F("admitted_at")) + _offset(question)
    if dimension == "month":
        return _Month(seconds)
    days = seconds / Value(_DAY)
    return days if dimension == "day" else (days + Value(3)) / Value(7)  # 1 January 1970 was a Thursday


def _told(dimension: str, names: Mapping[int, str], value: Any) -> str:
    if value is None:
        return ""
    if dimension in NAMED:
        return names.get(value) or f"#{value}"
    if dimension == "day":
        return (_EPOCH + timedelta(days=value)).isoformat()
    if dimension == "week":
        return (_EPOCH + timedelta(days=value * 7 - 3)).isoformat()
    return str(value)


def _names(reader: access.Person | None, dimension: str) -> dict[int, str]:
    model: Any = NAMED.get(dimension)
    if model is None:
        return {}
    known = model._base_manager.all()
    seen = known if reader is None else access.visible(reader, known)
    if model is APIKey:
        return {key.pk: str(key) for key in seen.only("name", "hint").iterator(chunk_size=_CHUNK)}
    return dict(seen.values_list("pk", "name"))


def _offset(question: Question) -> Combinable:
    """Return the zone's offset from UTC, in seconds, at the time of a record: a case for each stretch between changes.

    So that the database needs to know nothing of zones: SQLite does not, and PostgreSQL's may be of another year.
    """
    *stretches, (_, seconds) = _stretches(question)
    final = Value(seconds, output_field=BigIntegerField())
    if not stretches:
        return final
    whens = [When(admitted_at__lt=until, then=Value(seconds)) for until, seconds in stretches]
    return Case(*whens, default=final, output_field=BigIntegerField())


def _stretches(question: Question) -> list[tuple[datetime, int]]:
    """Return until when the zone's offset from UTC was how many seconds, in order, to the end of the range."""
    zone, at = ZoneInfo(question.zone), question.start
    stretches: list[tuple[datetime, int]] = []  # until when, seconds
    while at < question.end:
        following = min(at + timedelta(days=1), question.end)
        if _seconds_at(following, zone) != _seconds_at(at, zone):
            following = _change(at, following, zone)
            stretches.append((following, _seconds_at(at, zone)))
        at = following
    stretches.append((question.end, _seconds_at(question.end - timedelta(microseconds=1), zone)))
    return stretches


def _seconds_at(moment: datetime, zone: ZoneInfo) -> int:
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment between the two at which the offset changes."""
    before = _seconds_at(low, zone)
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if _seconds_at(middle, zone) == before else (low, middle)
    return high


class _Month(Func):
    """The month, as 2026-01, that so many seconds after 1970 are in."""

    output_field = CharField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """As SQLite writes it."""
        return self.as_sql(compiler, connection, template="strftime('%%%%Y-%%%%m', %(expressions)s, 'unixepoch')")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """As PostgreSQL writes it."""
        template = "to_char(to_timestamp(%(expressions)s) AT TIME ZONE 'UTC', 'YYYY-MM')"
        return self.as_sql(compiler, connection, template=template)
