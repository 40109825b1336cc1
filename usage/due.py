"""The list of records that are not in rollups yet: what keeps sums exact however late or often anything is done."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from usage.models import ALL, RollupDue, UsageRecord

LISTED: Final = 2_000  # records a row, at most about: what one transaction rolls


def put_down(admitted: Iterable[tuple[UUID | str, datetime]], grain: str = ALL) -> int:
    """List records, by id and time of admission, as due in `grain`; return how many.

    To be called in the transaction that writes the records, or takes them out of that grain's rollups.
    """
    count = 0
    left = iter(admitted)
    while some := list(islice(left, LISTED)):
        times = [at for _, at in some]
        ids = b"".join(id.bytes if isinstance(id, UUID) else bytes.fromhex(id) for id, _ in some)
        RollupDue.objects.create(grain=grain, earliest=min(times), latest=max(times), ids=ids)
        count += len(some)
    return count


def put_all_down() -> int:
    """List all records as due, those of a time together; return how many. For records that ingest did not write."""
    found = UsageRecord.objects.order_by("admitted_at").values_list("request_id", "admitted_at")
    return put_down(found.iterator(chunk_size=LISTED))


def listed(rows: Iterable[RollupDue]) -> Iterator[UUID]:
    """Yield the ids that `rows` list."""
    for row in rows:
        ids = bytes(row.ids)
        for at in range(0, len(ids), 16):
            yield UUID(bytes=ids[at : at + 16])


def due_in(grains: Iterable[str], start: datetime, end: datetime) -> "QuerySet[RollupDue]":
    """Return the rows that may list records of `grains` admitted in [start, end)."""
    return RollupDue.objects.filter(grain__in=[ALL, *grains], latest__gte=start, earliest__lt=end)
