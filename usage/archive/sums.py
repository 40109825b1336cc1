"""Sums of archived calls as a cost report groups them, row group by row group: memory does not grow with the calls.

Amounts are summed in two halves, so that no sum of 64 bits overflows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clients.cycles import micros
from usage import outcomes
from usage.archive.files import column
from usage.archive.reading import archived_tables

_AMOUNTS: Final = (
    *("input_tokens", "cached_tokens", "output_tokens", "cache_write_tokens", "audio_input_tokens"),
    *("reasoning_tokens", "audio_output_tokens", "cost", "charge"),
)
_HALF: Final = 32  # bits
_DAY: Final = 86_400
_TIMES: Final = ("day", "week", "month")
_COUNTS: Final = ("requests", "sessions", "estimated_requests", "uncounted_requests")

Key = tuple[Any, ...]


def archived_sums(
    start: datetime,
    end: datetime,
    group_by: Sequence[str],
    offsets: Sequence[tuple[datetime, int]],
    only: Mapping[str, frozenset[int]],
) -> dict[Key, dict[str, int]]:
    """Return the sums of archived calls admitted in [start, end), by columns of records and by TIMES.

    `offsets` says until when the zone was how many seconds from UTC; days and weeks are numbered as `usage.costs` does.
    `only` names columns, with the values wanted. Raises MissingArchive.
    """
    wanted = dict.fromkeys((*group_by, *only), None)
    fields = ["admitted_at", "outcome", "session_opened", "estimated", *_AMOUNTS]
    fields += [name for name in wanted if name not in (*_TIMES, *fields)]
    found: dict[Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys((*_AMOUNTS, *_COUNTS), 0))
    for table in archived_tables(start, end, fields):
        kept = table
        for name, values in only.items():
            kept = kept.filter(pc.is_in(kept[name], value_set=pa.array(sorted(values), pa.int64())))
        if kept.num_rows:
            _add(found, kept, group_by, offsets)
    return found


def _add(
    found: dict[Key, dict[str, int]], table: Any, group_by: Sequence[str], offsets: Sequence[tuple[datetime, int]]
) -> None:
    counted = pc.is_in(table["outcome"], value_set=pa.array(sorted(outcomes.COUNTED)))
    columns = {f"by_{name}": table[name] for name in group_by if name not in _TIMES}
    if not set(_TIMES).isdisjoint(group_by):
        times = _times(table["admitted_at"], offsets)
        columns |= {f"by_{name}": times[name] for name in _TIMES if name in group_by}
    for name in _AMOUNTS:
        values = table[column(name)]
        columns[f"{name}_high"] = pc.shift_right(values, _HALF)
        columns[f"{name}_low"] = pc.bit_wise_and(values, (1 << _HALF) - 1)
    flags = (counted, table["session_opened"], pc.and_(counted, table["estimated"]), pc.invert(counted))
    columns |= {name: pc.cast(flag, pa.int64()) for name, flag in zip(_COUNTS, flags, strict=True)}
    keys = [f"by_{name}" for name in group_by]
    summed = [name for name in columns if name not in keys]
    groups = pa.table(columns).group_by(keys).aggregate([(name, "sum") for name in summed])
    for row in groups.to_pylist():
        sums = found[tuple(row[key] for key in keys)]
        for name in _AMOUNTS:
            sums[name] += (row[f"{name}_high_sum"] << _HALF) + row[f"{name}_low_sum"]
        for name in _COUNTS:
            sums[name] += row[f"{name}_sum"]


def _times(admitted: Any, offsets: Sequence[tuple[datetime, int]]) -> dict[str, Any]:
    at = admitted.cast(pa.int64()).to_numpy()
    until = np.array([micros(moment) for moment, _ in offsets], np.int64)
    seconds = np.array([seconds for _, seconds in offsets], np.int64)
    days = (at // 1_000_000 + seconds[np.searchsorted(until, at, "right")]) // _DAY
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(str)
    return {"day": pa.array(days), "week": pa.array((days + 3) // 7), "month": pa.array(months.tolist())}
