"""Parquet files of records: what is in their columns, how one is written, and how it is read piece by piece.

Only `usage.archive.reading` and `usage.archive.moving` import it, where there is an archive: pyarrow is large.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.db import models

from usage.archive.reading import MissingArchive
from usage.models import UsageRecord

GROUP: Final = 10_000
"""Records of a row group: what is in memory at once."""
_TYPES: Final[dict[str, Any]] = {
    "UUIDField": pa.string(),
    "ForeignKey": pa.int64(),
    "CharField": pa.string(),
    "DateTimeField": pa.timestamp("us", tz="UTC"),
    "PositiveSmallIntegerField": pa.int32(),
    "BigIntegerField": pa.int64(),
    "BooleanField": pa.bool_(),
}
_MONEY: Final = {"cost": "cost_picodollars", "charge": "charge_picodollars"}


def column(field: str) -> str:
    """Return what a column of records is called in a file: money says its unit."""
    return _MONEY.get(field, field)


_FIELDS: Final[Sequence["models.Field[Any, Any]"]] = UsageRecord._meta.concrete_fields
NAMES: Final = tuple(field.attname for field in _FIELDS)
"""The columns of a record, in the order of the file's."""
SCHEMA: Final = pa.schema(
    [pa.field(column(field.attname), _TYPES[field.get_internal_type()], nullable=field.null) for field in _FIELDS]
)


def write(path: Path, records: Iterable[Sequence[Any]]) -> None:
    """Write records, tuples in the order of NAMES. The file is there whole or not at all."""
    left = iter(records)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
            while some := list(islice(left, GROUP)):
                columns = [list(values) for values in zip(*some, strict=True)]
                columns[0] = [str(request_id) for request_id in columns[0]]
                arrays = [pa.array(values, one.type) for values, one in zip(columns, SCHEMA, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def described(path: Path) -> tuple[int, datetime, datetime]:
    """Return how many records a file has, and when its first and its last were admitted. Raises MissingArchive."""
    with _opened(path) as file:
        admitted = file.schema_arrow.get_field_index("admitted_at")
        first, last = (file.metadata.row_group(at).column(admitted) for at in (0, file.num_row_groups - 1))
        return file.metadata.num_rows, first.statistics.min, last.statistics.max


def ids(path: Path, first: int, count: int) -> list[str]:
    """Return the request ids of up to `count` records from the `first` on. Raises MissingArchive."""
    found: list[str] = []
    with _opened(path) as file:
        at = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at + rows > first:
                wanted = file.read_row_group(group, columns=["request_id"])
                found += wanted.slice(max(0, first - at), count - len(found))["request_id"].to_pylist()
                if len(found) == count:
                    break
            at += rows
    return found


def pieces(path: Path, taken: int, columns: Sequence[str], start: datetime, end: datetime) -> Iterator[Any]:
    """Yield tables of `columns`, of those among the first `taken` records that were admitted in [start, end).

    Raises MissingArchive.
    """
    with _opened(path) as file:
        admitted = file.schema_arrow.get_field_index("admitted_at")
        at = 0
        for group in range(file.num_row_groups):
            described = file.metadata.row_group(group)
            times = described.column(admitted).statistics
            if at >= taken or times.min >= end:
                return
            if times.max >= start:
                table = file.read_row_group(group, columns=list(columns)).slice(0, taken - at)
                admitted_at = table["admitted_at"]
                table = table.filter(pc.and_(pc.greater_equal(admitted_at, start), pc.less(admitted_at, end)))
                if table.num_rows:
                    yield table
            at += described.num_rows


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    except FileNotFoundError as error:
        raise MissingArchive(
            f"The archive's file {path} is not there: put it back from a backup. Sums need its records."
        ) from error
