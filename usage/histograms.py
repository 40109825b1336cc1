"""Histograms of microseconds that can be added up: p95 of a year from those of its hours, within 1.6 percent.

Up to 63 µs a bucket holds one value; above, each power of two is cut into 32 of equal width. A histogram is stored as
words of 16 bits, each a bucket and a power of two of calls in it: two are added by writing one behind the other.
Pure: no Django, integers only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from struct import pack, unpack
from typing import Final

Histogram = dict[int, int]  # bucket -> calls

_FINE: Final = 32  # buckets for each power of two; half of one's width is the error: 1 in 64
_FINE_BITS: Final = _FINE.bit_length()
_BUCKETS: Final = 1024  # enough for 2^36 µs, 19 hours; what took longer counts as that
_LONGEST: Final = 2**36 - 1
_HIGHEST: Final = 1 << 63


def bucket(us: int) -> int:
    """Return the number of the bucket that holds `us`; what is negative counts as 0."""
    us = min(max(us, 0), _LONGEST)
    shift = max(0, us.bit_length() - _FINE_BITS)
    return shift * _FINE + (us >> shift)


def middle(number: int) -> int:
    """Return the µs that stand for a bucket."""
    if number < 2 * _FINE:
        return number
    shift = number // _FINE - 1
    return ((number - shift * _FINE) << shift) + (1 << shift >> 1)


def encode(histogram: Mapping[int, int]) -> bytes:
    """Return `histogram` as it is stored, the same for equal ones."""
    words = []
    for number in sorted(histogram):
        calls, power = histogram[number], 0
        while calls >= _HIGHEST:  # no machine counts so far; a sum must still come out right
            words.append(63 * _BUCKETS + number)
            calls -= _HIGHEST
        while calls:
            if calls & 1:
                words.append(power * _BUCKETS + number)
            calls >>= 1
            power += 1
    return pack(f"<{len(words)}H", *words)


def decode(stored: Iterable[bytes]) -> Histogram:
    """Return the sum of stored histograms."""
    joined = b"".join(stored)
    histogram: Histogram = {}
    for word, times in Counter(unpack(f"<{len(joined) // 2}H", joined)).items():
        number = word % _BUCKETS
        histogram[number] = histogram.get(number, 0) + (times << word // _BUCKETS)
    return histogram


def add(to: Histogram, other: Mapping[int, int]) -> None:
    """Add `other` to `to`."""
    if not to:
        to.update(other)
        return
    for number, calls in other.items():
        to[number] = to.get(number, 0) + calls


def percentile(histogram: Mapping[int, int], percent: int) -> int | None:
    """Return the µs that `percent` of the calls did not exceed, right within 1/64; None where there were none.

    It is the smallest value that at least so many calls stayed within ("nearest rank").
    """
    calls = sum(histogram.values())
    if not calls:
        return None
    rank = max(1, -(-calls * percent // 100))
    for number in sorted(histogram):
        rank -= histogram[number]
        if rank <= 0:
            return middle(number)
    raise AssertionError("the ranks of a histogram end before its calls")
