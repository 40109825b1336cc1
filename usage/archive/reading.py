"""The calls that are in the archive and no longer in the table: together with the table's they are all calls, once.

To be read in one state of the database with the table's (`usage.snapshot`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Sum

from usage.archive.models import ArchiveFile
from usage.folding import FIELDS, Call


class MissingArchive(Exception):
    """A file of the archive is not where it was put; the message names it."""


def folder() -> Path:
    """Return where the files are."""
    return Path(settings.ARCHIVE_DIR)


@dataclass(frozen=True, slots=True)
class Archive:
    """All of it."""

    files: int
    records: int
    size: int
    """Bytes."""
    first: datetime | None
    """When its first month begins; None where there is no file."""
    last: datetime | None
    folder: Path


def archive() -> Archive:
    """Return what there is."""
    found = ArchiveFile.objects.aggregate(
        files=Count("pk"), records=Sum("records"), size=Sum("size"), first=Min("month"), last=Max("month")
    )
    return Archive(found["files"], found["records"] or 0, found["size"] or 0, found["first"], found["last"], folder())


def archived_until() -> datetime | None:
    """Return when the last call was admitted that is in the archive, None where none is."""
    latest: datetime | None = ArchiveFile.objects.filter(taken__gt=0).aggregate(at=Max("latest"))["at"]
    return latest


def is_archived(start: datetime, end: datetime) -> bool:
    """Tell whether calls admitted in [start, end) may be in the archive."""
    return ArchiveFile.objects.filter(taken__gt=0, earliest__lt=end, latest__gte=start).exists()


def archived_calls(start: datetime, end: datetime) -> Iterator[Call]:
    """Yield the calls admitted in [start, end) that are in the archive alone. Raises MissingArchive."""
    for table in archived_tables(start, end, FIELDS):
        for values in zip(*(column.to_pylist() for column in table.columns), strict=True):
            yield Call(values[:7], *values[7:12], (1, int(values[12]), *values[13:]))  # type: ignore[call-arg]  # as FIELDS says


def archived_tables(start: datetime, end: datetime, fields: Sequence[str]) -> Iterator[Any]:
    """Yield them as Arrow tables of a moderate size with columns of records, `admitted_at` among them, in that order.

    Raises MissingArchive.
    """
    found = list(ArchiveFile.objects.filter(taken__gt=0, earliest__lt=end, latest__gte=start).order_by("month", "pk"))
    if not found:
        return
    from usage.archive import files  # noqa: PLC0415 - pyarrow is loaded where there is an archive to read

    columns = [files.column(name) for name in fields]
    for file in found:
        for table in files.pieces(folder() / file.name, file.taken, columns, start, end):
            yield table.select(columns)
