"""From records to rollups: each record is added to each grain's rows exactly once, whatever is killed when.

What is not in the rows of a grain yet is listed as due (`usage.due`), in the transaction that makes it so, and a
transaction that adds it takes it off the list. Rolling a range again empties its rows and lists its records. So at
every moment rows and list make up the records, and everything may be done twice, or by two processes at once.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Min, QuerySet

from clients.models import Client, default_time_zone, time_zones
from usage import packs
from usage.archive.reading import archived_calls, is_archived
from usage.days import EVER, Days, hour_of
from usage.days import HOUR as ONE_HOUR
from usage.due import LISTED, due_in, listed, put_down
from usage.folding import (
    AMOUNTS,
    DIMENSIONS,
    FIELDS,
    Call,
    Fold,
    RollupKey,
    Series,
    Sums,
    TagKey,
    calls_of,
    calls_with,
)
from usage.models import ALL, HOUR, AgencyDay, RolledZone, RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.packs import Pack
from usage.snapshot import one_moment

_MOST: Final = 2**63 - 1  # the widest column of both databases
_KEYS: Final = 500  # a query
_ROWS_OF_LIST: Final = 200  # looked at in a transaction
_CHUNK: Final = 2_000
_LONGEST_PAUSE: Final = 0.2  # seconds
_SERIES: Final = tuple(name if name in {"endpoint", "outcome", "estimated"} else f"{name}_id" for name in DIMENSIONS)


class Archived(Exception):
    """Rollups cannot be made anew of a time whose records are in the archive."""


def roll_due(limit_seconds: float | None = None) -> int:
    """Add to rollups all that is due, some 2,000 records a transaction; return how many.

    After `limit_seconds` the rest is left for the next time. Between transactions it gives other writers their turn:
    SQLite has one at a time. Raises django.db.Error when the database refuses; nothing is half done then.
    """
    began = time.monotonic()
    rolled = 0
    while True:
        turn = time.monotonic()
        some = _roll_some()
        rolled += some
        now = time.monotonic()
        if not some or (limit_seconds is not None and now - began >= limit_seconds):
            return rolled
        time.sleep(min(now - turn, _LONGEST_PAUSE))


def roll_up(start: datetime, end: datetime) -> int:
    """Make the rollups of all hours and days that [start, end) touches anew from the records; return of how many.

    Meanwhile, and after being killed, sums are right: what is emptied is due. A clean range gives the same rows again.
    Raises Archived where records of that time are in the archive, with nothing lost.
    """
    _refuse_archived(start - timedelta(days=1), end + timedelta(days=1))
    roll_due()
    _enrol_all(start, end)
    listed_again = sum(_empty(HOUR, hour, hour + ONE_HOUR) for hour in _hours(hour_of(start), end))
    for zone in _zones():
        days = Days(zone)
        for day in _days(days, start, end):
            listed_again += _empty(zone, day, days.end(day))
    roll_due()
    return listed_again


@contextmanager
def alone() -> Iterator[None]:
    """A transaction that no other change of rollups goes on beside. Ingest does: it only adds to the list."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                if outermost:  # one state for all queries, of the time when the lock was got
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute(f'LOCK TABLE "{UsageRollup._meta.db_table}" IN SHARE ROW EXCLUSIVE MODE')
        yield


def _roll_some() -> int:
    """Add what the list names first; return how many records that were."""
    if not RollupDue.objects.exists():  # without a writer's lock
        return 0
    with alone():
        rows: list[RollupDue] = []
        room = LISTED * 16
        for row in RollupDue.objects.order_by("pk")[:_ROWS_OF_LIST]:
            room -= len(bytes(row.ids))
            if rows and room < 0:
                break
            rows.append(row)
        if not rows:
            return 0
        by_grain: dict[str, list[UUID]] = defaultdict(list)
        for row in rows:
            by_grain[row.grain].extend(listed([row]))
        calls = {grain: list(calls_with(ids, UsageRecord.objects.all())) for grain, ids in by_grain.items()}
        zones = _zones_of({call.series[0] for some in calls.values() for call in some})
        fold = Fold()
        for grain, some in calls.items():
            for call in some:
                in_zones = zones[call.series[0]] if grain == ALL else [grain] * (grain != HOUR)
                fold.count(call, hour=grain in {ALL, HOUR}, zones=in_zones)
        _write(fold)
        RollupDue.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return sum(map(len, by_grain.values()))


def shift(changes: Iterable[tuple[Mapping[str, Any], int, int]]) -> None:
    """Add to rollups how much more each call cost and was charged, picodollars; the call as columns of its record.

    To be called `alone`, in the transaction that changes the records. Grains that a call is due in get it from there.
    """
    every = list(changes)
    if not every:
        return
    zones = _zones_of({call["client_id"] for call, _, _ in every})
    moments = [call["admitted_at"] for call, _, _ in every]
    grains = [HOUR, *set(chain.from_iterable(zones.values()))]
    due: dict[str, set[UUID]] = defaultdict(set)
    for row in due_in(grains, min(moments), max(moments) + timedelta(microseconds=1)):
        due[row.grain].update(listed([row]))
    fold = Fold()
    for call, cost, charge in every:
        pk = call["pk"]
        if pk in due[ALL]:
            continue
        amounts = [0] * (len(AMOUNTS) - 2) + [cost, charge]
        one = Call(tuple(call[name] for name in FIELDS[:7]), *(call[name] for name in FIELDS[7:12]), amounts)  # type: ignore[call-arg]  # as FIELDS says
        in_zones = [zone for zone in zones[one.series[0]] if pk not in due[zone]]
        fold.count(one, hour=pk not in due[HOUR], zones=in_zones, times=False)
    _write(fold)


# --- checking ---


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what its records make up."""

    grain: str
    start: datetime
    what: str
    rolled: Mapping[str, Any]
    """Name -> what rollups say, of what differs; money is picodollars."""
    recorded: Mapping[str, Any]
    """Name -> what the records say."""


def check(start: datetime, end: datetime) -> Iterator[Difference]:
    """Yield where the rollups of hours and days that [start, end) touches differ from the records, in every grain.

    Records that are due are no part of it. Each hour or day is looked at in one state of the database.
    """
    series: dict[int, Series] = {}
    for hour in _hours(hour_of(start), end):
        yield from _differences(HOUR, hour, hour + ONE_HOUR, series)
    for zone in _zones():
        days = Days(zone)
        for day in _days(days, start, end):
            yield from _differences(zone, day, days.end(day), series)


def _differences(grain: str, start: datetime, end: datetime, series: dict[int, Series]) -> Iterator[Difference]:
    """Look at one row of each client; `series` are those known by id, to which others are added as they are met."""
    rolled, recorded = Fold(), Fold()
    with one_moment():
        due = set(listed(due_in([grain], start, end)))
        clients = None if grain == HOUR else set(_rolled_by(grain))
        archived = (call for call in archived_calls(start, end) if clients is None or call.series[0] in clients)
        for call in chain(calls_of(_records(grain, start, end), without=due), archived):
            recorded.count(call, hour=grain == HOUR, zones=[grain] * (grain != HOUR))
        rows = UsageRollup.objects.filter(grain=grain, start__gte=start, start__lt=end)
        for at, *pack in rows.values_list("start", *Pack._fields).iterator(_CHUNK):
            of_series = packs.unpack(Pack(*map(bytes, pack)))
            if not series.keys() >= of_series.keys():
                series |= {pk: tuple(one) for pk, *one in UsageSeries.objects.values_list("pk", *_SERIES)}
            for pk, sums in of_series.items():
                rolled.rollups[grain, at, series[pk]].add(sums)
        tags = TagRollup.objects.filter(grain=grain, start__gte=start, start__lt=end)
        for at, client, tag, value, *values in tags.values_list("start", "client_id", "tag", "value", *AMOUNTS):
            rolled.tags[grain, at, client, tag, value].add(Sums(values))
    yield from _compared(rolled.rollups, recorded.rollups, lambda key: dict(zip(DIMENSIONS, key[2], strict=True)))
    yield from _compared(rolled.tags, recorded.tags, lambda key: {"client": key[2], key[3]: key[4]})


def _compared(
    rolled: Mapping[Any, Sums], recorded: Mapping[Any, Sums], what: Callable[[Any], Mapping[str, Any]]
) -> Iterator[Difference]:
    for key in dict.fromkeys([*recorded, *rolled]):
        one, other = (sums.get(key, Sums()).told() for sums in (rolled, recorded))
        if names := [name for name in one if one[name] != other[name]]:
            told = ", ".join(f"{name} {value}" for name, value in what(key).items())
            values = [{name: amounts[name] for name in names} for amounts in (one, other)]
            yield Difference(key[0], key[1], told, *values)


# --- the zones by whose days a client's calls are rolled ---


def _zones_of(clients: Collection[int]) -> Mapping[int, Collection[str]]:
    """Return in which zones the days of each client are rolled, after adding those that came into use."""
    wanted = {client: {default_time_zone()} for client in clients}
    for some in _pieces(sorted(clients)):
        for client, zone in Client.objects.filter(pk__in=some).values_list("pk", "time_zone"):
            if zone in time_zones():
                wanted[client].add(zone)
    rolled: dict[int, set[str]] = {client: set() for client in clients}
    new = set()
    for some in _pieces(sorted(clients)):
        for client, zone in RolledZone.objects.filter(client__in=some).values_list("client_id", "zone"):
            rolled[client].add(zone)
    for client, zones in wanted.items():
        new |= {(client, zone) for zone in zones - rolled[client]}
        rolled[client] |= zones
    RolledZone.objects.bulk_create([RolledZone(client_id=client, zone=zone) for client, zone in sorted(new)])
    for client, zone in sorted(new):
        if UsageSeries.objects.filter(client=client).exists():  # else nothing of it was ever rolled
            _list_all(UsageRecord.objects.filter(client=client), ALL, zone)
    _add_archived(new)
    return rolled


def _add_archived(new: Collection[tuple[int, str]]) -> None:
    """Add archived calls of clients to the days of zones that came into use for them. They are never due."""
    clients: dict[int, list[str]] = defaultdict(list)
    known = set(UsageSeries.objects.values_list("client_id", flat=True).distinct()) if new else set()
    for client, zone in new:
        if client in known:
            clients[client].append(zone)
    if not clients:
        return
    fold = Fold()
    for call in archived_calls(*EVER):
        if (zones := clients.get(call.series[0])) is not None:
            fold.count(call, hour=False, zones=zones)
    _write(fold)


def _rolled_by(zone: str) -> "QuerySet[RolledZone, int]":
    """Return the clients whose calls are rolled by the days of a zone."""
    return RolledZone.objects.filter(zone=zone).values_list("client_id", flat=True)


def _zones() -> list[str]:
    return list(RolledZone.objects.order_by("zone").values_list("zone", flat=True).distinct())


def _enrol_all(start: datetime, end: datetime) -> None:
    """Have zones for clients whose records nobody ever listed."""
    found = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end).order_by()
    clients = set(found.values_list("client_id", flat=True).distinct())
    with alone():
        _zones_of(clients)


# --- rolling again ---


def _hours(first: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the hours in which anything was called or rolled."""
    records = UsageRecord.objects.filter(admitted_at__lt=end)
    rollups = UsageRollup.objects.filter(grain=HOUR, start__lt=end)
    while True:
        found = [
            records.filter(admitted_at__gte=first).aggregate(at=Min("admitted_at"))["at"],
            rollups.filter(start__gte=first).aggregate(at=Min("start"))["at"],
        ]
        moments = [at for at in found if at is not None]
        if not moments:
            return
        yield (hour := hour_of(min(moments)))
        first = hour + ONE_HOUR


def _days(days: Days, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the days in which anything was called or rolled."""
    at = days.start(start)
    for hour in _hours(hour_of(at), end):
        for moment in (hour, hour + ONE_HOUR - timedelta(microseconds=1)):  # a day may begin within an hour
            day = days.start(moment)
            if day >= at and day < end:
                yield day
                at = days.end(moment)


def _empty(grain: str, start: datetime, end: datetime) -> int:
    """Delete the rows of a grain that begin in [start, end) and list their records as due; return how many."""
    with alone():
        _refuse_archived(start, end)
        for model in (UsageRollup, AgencyDay):
            model._default_manager.filter(grain=grain, start__gte=start, start__lt=end).delete()
        TagRollup.objects.filter(grain=grain, start__gte=start, start__lt=end).delete()
        return _list_all(_records(grain, start, end), grain, grain)


def _refuse_archived(start: datetime, end: datetime) -> None:
    """Raise Archived where records of that time are out of the table: its rollups would lose them."""
    if is_archived(start, end):
        raise Archived(
            "Records of that range are in the archive: their rollups stay as they are. Begin the range after them."
        )


def _records(grain: str, start: datetime, end: datetime) -> "QuerySet[UsageRecord]":
    """Return the records of that time that the grain has."""
    records = UsageRecord.objects.filter(admitted_at__gte=start, admitted_at__lt=end)
    if grain == HOUR:
        return records
    return records.filter(client__in=RolledZone.objects.filter(zone=grain).values("client_id"))


def _list_all(records: "QuerySet[UsageRecord]", already: str, grain: str) -> int:
    """List as due in `grain` all of `records` but those that are due there, or in `already`; return how many."""
    spans = records.aggregate(first=Min("admitted_at"))["first"]
    if spans is None:
        return 0
    last = records.order_by("-admitted_at").values_list("admitted_at", flat=True)[0]
    pending = {id.bytes for id in listed(due_in([already, grain], spans, last + timedelta(microseconds=1)))}
    found = records.order_by("admitted_at").values_list("request_id", "admitted_at").iterator(chunk_size=LISTED)
    return put_down(((id, at) for id, at in found if id.bytes not in pending), grain)


# --- writing ---


def _write(fold: Fold) -> None:
    series = _series({key[2] for key in fold.rollups})
    _add_rollups(fold.rollups, series)
    _add_tags(fold.tags)


def _series(wanted: Collection[Series]) -> dict[Series, int]:
    """Return the ids of series, made where there were none. To be called alone."""
    known = _known_series(wanted)
    UsageSeries.objects.bulk_create(
        UsageSeries(**dict(zip(_SERIES, one, strict=True))) for one in wanted if one not in known
    )
    return known if len(known) == len(wanted) else _known_series(wanted)


def _known_series(wanted: Collection[Series]) -> dict[Series, int]:
    known: dict[Series, int] = {}
    for some in _pieces(sorted({one[0] for one in wanted})):
        for pk, *values in UsageSeries.objects.filter(client__in=some).values_list("pk", *_SERIES):
            one: Any = tuple(values)
            if one in wanted:
                known[one] = pk
    return known


def _add_rollups(sums: Mapping[RollupKey, Sums], series: Mapping[Series, int]) -> None:
    by_start: dict[tuple[str, datetime], dict[int, dict[int, Sums]]] = defaultdict(lambda: defaultdict(dict))
    for (grain, start, one), added in sums.items():
        by_start[grain, start][one[0]][series[one]] = added
    rows: list[UsageRollup] = []
    for (grain, start), of_client in sorted(by_start.items()):
        if grain != HOUR:
            AgencyDay.objects.filter(grain=grain, start=start).delete()
        there: dict[int, Pack] = {}
        for some in _pieces(sorted(of_client)):
            found = UsageRollup.objects.filter(grain=grain, start=start, client__in=some)
            there |= {
                client: Pack(*map(bytes, pack)) for client, *pack in found.values_list("client_id", *Pack._fields)
            }
        for client, by_series in of_client.items():
            pack = packs.add(there.get(client, Pack()), by_series)
            rows.append(UsageRollup(grain=grain, start=start, client_id=client, **pack._asdict()))
    _upsert(UsageRollup, rows, ["grain", "start", "client"], [*Pack._fields])


def _add_tags(sums: Mapping[TagKey, Sums]) -> None:
    by_start: dict[tuple[str, datetime], dict[tuple[int, str, str], Sums]] = defaultdict(dict)
    for (grain, start, client, tag, value), added in sums.items():
        by_start[grain, start][client, tag, value] = added
    rows: list[TagRollup] = []
    for (grain, start), of_value in sorted(by_start.items()):
        clients = sorted({client for client, _, _ in of_value})
        there: dict[tuple[int, str, str], int] = defaultdict(int)
        for some in _pieces(sorted({value for _, _, value in of_value})):
            found = TagRollup.objects.filter(grain=grain, start=start, client__in=clients, value__in=some)
            for client, tag, value, *values in found.values_list("client_id", "tag", "value", *AMOUNTS):
                if (total := of_value.get((client, tag, value))) is not None:
                    total.add(Sums(values))
                    there[client, tag, value] += 1
        for (client, tag, value), total in of_value.items():
            key: dict[str, Any] = {"grain": grain, "start": start, "client_id": client, "tag": tag, "value": value}
            parts = list(_parts(total.amounts))
            parts += [dict.fromkeys(AMOUNTS, 0)] * (there[client, tag, value] - len(parts))  # it may have become less
            rows += [TagRollup(**key, part=part, **amounts) for part, amounts in enumerate(parts)]
    _upsert(TagRollup, rows, ["grain", "start", "client", "tag", "value", "part"], [*AMOUNTS])


def _parts(amounts: Sequence[int]) -> Iterator[dict[str, int]]:
    """Yield `amounts` as columns can hold them: mostly one row, else as many as it takes."""
    left = list(amounts)
    while True:
        yield {name: min(amount, _MOST) for name, amount in zip(AMOUNTS, left, strict=True)}
        left = [max(0, amount - _MOST) for amount in left]
        if not any(left):
            return


def _upsert(model: type[UsageRollup | TagRollup], rows: Sequence[Any], unique: list[str], changed: list[str]) -> None:
    manager: Any = model._default_manager
    manager.bulk_create(rows, batch_size=_KEYS, update_conflicts=True, unique_fields=unique, update_fields=changed)


def _pieces(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[at : at + _KEYS] for at in range(0, len(values), _KEYS))
