"""From the table to the archive: each record is in one of the two at every moment, whatever is killed when.

A month is written whole; then its records leave the table in batches, each in one transaction that adds what they
consumed to `ArchivedUse` and moves the file's `taken` on. Readers take from the file what is before that mark.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import BigIntegerField, Count, F, Q, Sum

from usage import outcomes
from usage.archive import files
from usage.archive.due import awaits_rolling, due_month, next_month
from usage.archive.models import ArchivedUse, ArchiveFile
from usage.archive.reading import folder
from usage.models import UsageRecord
from usage.rollups import alone

BATCH: Final = 1_000
"""Records that leave the table in one transaction."""
_LONGEST_PAUSE: Final = 0.2  # seconds


class NotAsWritten(Exception):
    """Records of a file are missing from the table before they were taken out of it."""


@dataclass(slots=True)
class Moved:
    """What was done."""

    files: int = 0
    records: int = 0


def go_on(now: datetime, limit_seconds: float | None = None) -> Moved:
    """Move what is due; after `limit_seconds` the rest is left for the next time, a month being written excepted.

    Nothing where another process is at it. Raises MissingArchive, NotAsWritten.
    """
    began, moved = time.monotonic(), Moved()
    with _lock() as alone_at_it:
        while alone_at_it and (limit_seconds is None or time.monotonic() - began < limit_seconds):
            turn = time.monotonic()
            file = ArchiveFile.objects.filter(taken__lt=F("records")).order_by("pk").first()
            if file is not None:
                if not (taken := _take(file)):
                    break
                moved.records += taken
                time.sleep(min(time.monotonic() - turn, _LONGEST_PAUSE))
            elif (month := due_month(now)) is not None:
                _write(month)
                moved.files += 1
            else:
                break
    return moved


@contextmanager
def _lock() -> Iterator[bool]:
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write(month: datetime) -> None:
    """Write a month whole. A file that a killed process left without its row is written again."""
    before = ArchiveFile.objects.filter(month=month).count()
    path = folder() / f"usage-{month:%Y-%m}{f'-{before + 1}' if before else ''}.parquet"
    records = UsageRecord.objects.filter(admitted_at__gte=month, admitted_at__lt=next_month(month))
    in_order = records.order_by("admitted_at", "pk").values_list(*files.NAMES)
    files.write(path, in_order.iterator(chunk_size=files.GROUP))
    count, earliest, latest = files.described(path)
    size = path.stat().st_size
    ArchiveFile.objects.create(name=path.name, month=month, earliest=earliest, latest=latest, records=count, size=size)


def _take(file: ArchiveFile) -> int:
    """Take the next batch out of the table; return how many, 0 where rollups are to be made of that time first."""
    ids = [UUID(one) for one in files.ids(folder() / file.name, file.taken, BATCH)]
    with alone():
        if awaits_rolling(file.earliest, file.latest + timedelta(microseconds=1)):
            return 0
        records = UsageRecord.objects.filter(pk__in=ids)
        _add_use([tuple(map(_whole, row)) for row in _consumed(ids)])
        deleted, _ = records.delete()
        if deleted != len(ids):
            raise NotAsWritten(f"Of {len(ids)} records of {file.name} only {deleted} were in the table: nothing moved.")
        ArchiveFile.objects.filter(pk=file.pk).update(taken=F("taken") + deleted)
    return deleted


def _consumed(ids: list[UUID]) -> Iterator[tuple[Any, ...]]:
    records = UsageRecord.objects.filter(pk__in=ids, outcome__in=sorted(outcomes.COUNTED))
    yield from (
        records.order_by()
        .values("client_id", "key_id")
        .annotate(
            _requests=Count("pk"),
            _tokens=Sum(F("input_tokens") + F("output_tokens"), output_field=BigIntegerField()),
            _charge=Sum("charge"),
            _sessions=Count("pk", filter=Q(session_opened=True)),
        )
        .values_list("client_id", "key_id", "_requests", "_tokens", "_charge", "_sessions")
    )


def _whole(value: int | None) -> int | None:
    """Return an integer for what PostgreSQL sums up as a decimal."""
    return None if value is None else int(value)


def _add_use(consumed: list[tuple[Any, ...]]) -> None:
    for client, key, requests, tokens, charge, sessions in consumed:
        row, _ = ArchivedUse.objects.get_or_create(client_id=client, key_id=key)
        ArchivedUse.objects.filter(pk=row.pk).update(
            requests=F("requests") + requests,
            tokens=F("tokens") + tokens,
            charge=F("charge") + charge,
            sessions=F("sessions") + sessions,
        )
