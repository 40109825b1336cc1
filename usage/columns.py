"""Packs of sums read as columns, and summed up by whatever they tell apart: exact, and quick for millions of rows.

Integers of 64 bits, cut in two before they are added where a sum could be beyond them: no sum here ever wraps.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from clients.cycles import micros
from usage.folding import AMOUNTS, DIMENSIONS, Series, Sums
from usage.histograms import Histogram
from usage.packs import ROW, Pack

Group = tuple[Any, ...]
Ints = npt.NDArray[np.int64]

_ROW: Final = np.dtype(
    [("series", "<i8"), ("latency", "<u4"), ("first_byte", "<u4"), ("amounts", "<i8", (len(AMOUNTS),))]
)
assert _ROW.itemsize == ROW.size
_MOST: Final = 2**63 - 1
_HALF: Final = 32  # bits
_BUCKETS_BITS: Final = 10  # of a word of a histogram; the power of two is above them
_HIGHEST_POWER: Final = 20  # with more, sums of a column could be beyond its bits: those are few, and added one by one
_WORDS: Final = _HIGHEST_POWER << _BUCKETS_BITS
_POWERS: Final = np.left_shift(1, np.arange(_HIGHEST_POWER))
_DENSE: Final = 2_000_000  # so many groups get a place each, whether they are there or not


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one group in one step; `at` is when the step begins, None where there is only one."""

    at: datetime | None
    group: Group
    sums: Sums


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return `rows` by step and group; of a group's values None comes first."""

    def order(row: Row) -> Any:
        moment = row.at.timestamp() if row.at is not None else 0
        return (moment, [(value is not None, value or 0) for value in row.group])

    return sorted(rows, key=order)


class Columns:
    """Rows of packs, with what their series are, and the steps that they are told in."""

    def __init__(
        self,
        packs: Sequence[tuple[datetime, Pack]],
        series: Mapping[int, Series],
        steps: Sequence[datetime],
        *,
        times: bool,
    ) -> None:
        """`packs` with the moment that each is of; `series` by id: rows of others are left out. Steps in order.

        Without `times` their histograms are not looked at.
        """
        self._steps = steps
        self._series = [series[pk] for pk in sorted(series)]
        self._codes: dict[str, tuple[Ints, list[Any]]] = {}
        rows = np.frombuffer(b"".join(pack.rows for _, pack in packs), _ROW)
        known = np.array(sorted(series), np.int64)
        place = np.searchsorted(known, rows["series"])
        wanted = known[np.minimum(place, len(known) - 1)] == rows["series"] if len(known) else np.zeros(len(rows), bool)
        moments = np.array([micros(at) for at, _ in packs], np.int64)
        at = np.repeat(moments, [len(pack.rows) // ROW.size for _, pack in packs])
        borders = np.array([micros(step) for step in steps], np.int64)
        self._step = (np.searchsorted(borders, at, "right") - 1)[wanted]
        self._place = place[wanted]
        self._amounts = np.ascontiguousarray(rows["amounts"][wanted].T)
        self._words = {
            name: _Words(b"".join(getattr(pack, name) for _, pack in packs), rows[name], wanted)
            for name in (("latency", "first_byte") if times else ())
        }

    def sums(
        self,
        by: tuple[str, ...],
        *,
        by_step: bool = False,
        only: Mapping[str, Collection[Any]] | None = None,
        times: bool = False,
    ) -> list[Row]:
        """Return the sums by some of DIMENSIONS, and by step where asked for, in order; only groups that have calls.

        `only` leaves the series with those values; `times` adds histograms, which must have been read.
        """
        number, names = self._grouped(by, only or {})
        group = number[self._place]
        keys = np.where(group < 0, -1, group * len(self._steps) + (self._step if by_step else 0))
        slots, found = _numbered(keys, len(names) * len(self._steps))
        every = [Sums(amounts) for amounts in self._summed(slots, len(found))]
        if times:
            for name in ("latency", "first_byte"):
                for sums, histogram in zip(every, self._words[name].summed(slots, len(found)), strict=True):
                    setattr(sums, name, histogram)
        rows = []
        for key, sums in zip(found.tolist(), every, strict=True):
            name, step = divmod(key, len(self._steps))
            rows.append(Row(self._steps[step] if by_step else None, names[name], sums))
        return in_order(rows)

    def _grouped(self, by: tuple[str, ...], only: Mapping[str, Collection[Any]]) -> tuple[Ints, list[Group]]:
        """Return the number of each series' group, -1 where it is left out, and what the groups are."""
        number = np.zeros(len(self._series), np.int64)
        for name in by:
            codes, values = self._coded(name)
            _, number = np.unique(number * max(1, len(values)) + codes, return_inverse=True)
        inside = np.ones(len(self._series), bool)
        for name, wanted in only.items():
            codes, values = self._coded(name)
            among = frozenset(wanted)
            inside &= np.fromiter((value in among for value in values), bool, len(values))[codes]
        _, first, number = np.unique(number, return_index=True, return_inverse=True)
        indexes = [DIMENSIONS.index(name) for name in by]
        names = [tuple(self._series[place][index] for index in indexes) for place in first.tolist()]
        return np.where(inside, number, -1), names

    def _coded(self, name: str) -> tuple[Ints, list[Any]]:
        """Return the place of each series' value of a dimension among the values there are, and those."""
        if name not in self._codes:
            index, known = DIMENSIONS.index(name), dict[Any, int]()
            places = [known.setdefault(one[index], len(known)) for one in self._series]
            self._codes[name] = np.array(places, np.int64), list(known)
        return self._codes[name]

    def _summed(self, slots: Ints, count: int) -> Iterable[list[int]]:
        """Yield the amounts of each of `count` groups; the slot of a row that is in none is negative."""
        inside = slots >= 0
        into = slots[inside]
        columns = [_added(column[inside], into, count) for column in self._amounts]
        return (list(amounts) for amounts in zip(*columns, strict=True))


class _Words:
    """The histograms of many rows, one behind the other."""

    def __init__(self, words: bytes, lengths: Any, wanted: Any) -> None:
        """`lengths` says how many words are a row's; only those of `wanted` rows are kept."""
        every = np.frombuffer(words, "<u2")
        self._words = every if wanted.all() else every[np.repeat(wanted, lengths)]
        self._lengths = lengths[wanted].astype(np.int64)
        self._begins = np.cumsum(self._lengths) - self._lengths

    def summed(self, slots: Ints, count: int) -> list[Histogram]:
        """Return the histogram of each of `count` groups; the slot of a row that is in none is negative."""
        order = np.argsort(slots, kind="stable")
        borders = np.searchsorted(slots[order], np.arange(count + 1))
        return [self._histogram(order[first:end]) for first, end in pairwise(borders.tolist())]

    def _histogram(self, rows: Ints) -> Histogram:
        """Return the sum of some rows: equal words are counted, then doubled as often as they say."""
        counts = np.bincount(self._of(rows), minlength=_WORDS)
        sums = _POWERS @ counts[:_WORDS].reshape(_HIGHEST_POWER, 1 << _BUCKETS_BITS)
        found = np.flatnonzero(sums)
        histogram = dict(zip(found.tolist(), sums[found].tolist(), strict=True))
        for word in (_WORDS + np.flatnonzero(counts[_WORDS:])).tolist():
            power, bucket = word >> _BUCKETS_BITS, word & (1 << _BUCKETS_BITS) - 1
            histogram[bucket] = histogram.get(bucket, 0) + (int(counts[word]) << power)
        return histogram

    def _of(self, rows: Ints) -> Any:
        """Return the words of some rows."""
        if not len(rows):
            return self._words[:0]
        lengths, begins = self._lengths[rows], self._begins[rows]
        if len(rows) == rows[-1] - rows[0] + 1:  # all there are between the first and the last: they are in order
            return self._words[begins[0] : begins[-1] + lengths[-1]]
        into = np.cumsum(lengths) - lengths
        return self._words[np.repeat(begins - into, lengths) + np.arange(int(lengths.sum()))]


def _numbered(keys: Ints, most: int) -> tuple[Ints, Ints]:
    """Return for each key its place among those there are, and these in order; negative keys have the place -1."""
    if most > _DENSE:
        found, places = np.unique(keys, return_inverse=True)
        left_out = int(np.searchsorted(found, 0))
        return np.maximum(places - left_out, -1), found[left_out:]
    present = np.zeros(most + 1, bool)
    present[keys] = True  # those of -1 in the last
    found = np.flatnonzero(present[:-1])
    places = np.full(most + 1, -1, np.int64)
    places[found] = np.arange(len(found))
    return places[keys], found


def _added(values: Ints, into: Ints, count: int) -> list[int]:
    """Return the sums of not negative `values` by their slots."""
    if len(values) * int(values.max(initial=0)) <= _MOST:
        return _add(values, into, count)
    high, low = (_add(half, into, count) for half in (values >> _HALF, values & (1 << _HALF) - 1))
    return [(upper << _HALF) + lower for upper, lower in zip(high, low, strict=True)]


def _add(values: Ints, into: Ints, count: int) -> list[int]:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, into, values)
    told: list[int] = sums.tolist()
    return told
