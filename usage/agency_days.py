"""Joins up the rollups of all clients of a zone of a day that is over: of thousands of rows, one is read."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.db.models import Count, Min

from usage.days import Days
from usage.models import AgencyDay, RolledZone, RollupDue, UsageRollup
from usage.packs import Pack
from usage.rollups import alone

FEWEST: Final = 20
"""Clients of a zone; of fewer, what is saved is less than the work."""
_OVER: Final = timedelta(hours=1)  # so long ago the day must have ended
_AT_A_TIME: Final = 300  # days


def join_up(now: datetime) -> int:
    """Join up days that are not, while no record of them or of earlier ones is due; return how many."""
    many = RolledZone.objects.values("zone").annotate(clients=Count("pk")).filter(clients__gte=FEWEST)
    joined = 0
    for zone in many.order_by("zone").values_list("zone", flat=True):
        for start in islice(_missing(zone, now), _AT_A_TIME - joined):
            with alone():
                _join(zone, start)
            joined += 1
    return joined


def _missing(zone: str, now: datetime) -> Iterator[datetime]:
    first = UsageRollup.objects.filter(grain=zone).aggregate(at=Min("start"))["at"]
    if first is None:
        return
    days = Days(zone)
    end = days.start(now - _OVER)
    due = RollupDue.objects.filter(earliest__lt=end).aggregate(at=Min("earliest"))["at"]
    if due is not None:
        end = min(end, days.start(due))
    there = set(AgencyDay.objects.filter(grain=zone).values_list("start", flat=True))
    yield from (start for start in days.between(first, end) if start not in there)


def _join(zone: str, start: datetime) -> None:
    rows = UsageRollup.objects.filter(grain=zone, start=start).order_by("client_id").values_list(*Pack._fields)
    columns = [b"".join(map(bytes, column)) for column in zip(*rows, strict=True)] or [b""] * len(Pack._fields)
    AgencyDay.objects.get_or_create(grain=zone, start=start, defaults=dict(zip(Pack._fields, columns, strict=True)))
