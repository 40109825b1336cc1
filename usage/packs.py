"""A client's sums of an hour, or of a day, in one row of the database: thousands of them are read as columns.

A pack is three strings of bytes: its series one behind the other in ROW, and the words of their histograms of latency
and of time to first byte (`usage.histograms`), in the same order. Rows of a database for each series were ten times as
many, and took ten times as long to sum up and to write.
"""

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple

from usage import histograms
from usage.folding import AMOUNTS, Sums

ROW: Final = Struct(f"<qII{len(AMOUNTS)}q")
"""The id of a series, how many words of either histogram are its, and its amounts in the order of AMOUNTS.

What an amount cannot hold goes on in another row of the same series.
"""
WORD: Final = 2
"""Bytes of a word of a histogram."""
_MOST: Final = 2**63 - 1


class Pack(NamedTuple):
    """As the database has it."""

    rows: bytes = b""
    latency: bytes = b""
    first_byte: bytes = b""


class _Packed(NamedTuple):
    """What a pack says of one series, its histograms as they are stored."""

    amounts: list[int]
    latency: bytes
    first_byte: bytes


def unpack(pack: Pack) -> dict[int, Sums]:
    """Return the sums of each series, by its id."""
    found = {}
    for series, packed in _series(pack).items():
        found[series] = sums = Sums(packed.amounts)
        sums.latency = histograms.decode([packed.latency])
        sums.first_byte = histograms.decode([packed.first_byte])
    return found


def add(pack: Pack, added: Mapping[int, Sums]) -> Pack:
    """Return `pack` with the sums of some series added to it. The same sums give the same bytes."""
    every = _series(pack)
    for series, sums in added.items():
        old = every.get(series, _Packed([0] * len(AMOUNTS), b"", b""))
        total = Sums(old.amounts)
        total.latency = histograms.decode([old.latency])
        total.first_byte = histograms.decode([old.first_byte])
        total.add(sums)
        times = (histograms.encode(histogram) for histogram in (total.latency, total.first_byte))
        every[series] = _Packed(total.amounts, *times)
    rows = []
    for series in sorted(every):
        packed = every[series]
        words = [len(times) // WORD for times in packed[1:]]
        for amounts in _parts(packed.amounts):
            rows.append(ROW.pack(series, *words, *amounts))
            words = [0, 0]
    ordered = [every[series] for series in sorted(every)]
    latency = b"".join(one.latency for one in ordered)
    return Pack(b"".join(rows), latency, b"".join(one.first_byte for one in ordered))


def _series(pack: Pack) -> dict[int, _Packed]:
    found: dict[int, _Packed] = {}
    at = [0, 0]
    for series, *rest in ROW.iter_unpack(pack.rows):
        times = []
        for of, words in enumerate(rest[:2]):
            times.append(pack[1 + of][at[of] : at[of] + words * WORD])
            at[of] += words * WORD
        if (before := found.get(series)) is None:
            found[series] = _Packed(rest[2:], *times)
        else:
            amounts = [old + new for old, new in zip(before.amounts, rest[2:], strict=True)]
            found[series] = before._replace(amounts=amounts)
    return found


def _parts(amounts: list[int]) -> Iterable[list[int]]:
    """Yield `amounts` as rows can hold them: mostly one, else as many as it takes."""
    left = amounts
    while True:
        yield [min(amount, _MOST) for amount in left]
        left = [max(0, amount - _MOST) for amount in left]
        if not any(left):
            return
