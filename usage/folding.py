"""Records summed up in memory by the rows that they belong in. Integers only, of any size."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from usage import outcomes
from usage.days import Days, hour_of
from usage.histograms import Histogram, add, bucket
from usage.models import HOUR, TagRollup, UsageRecord

DIMENSIONS: Final = ("client", "key", "provider", "model", "endpoint", "outcome", "estimated")
"""What a series says, in this order."""
TOKENS: Final = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
AMOUNTS: Final = ("calls", "sessions", *TOKENS, "cost", "charge")
"""What sums hold, in this order; money is picodollars."""
_OUTCOME: Final = DIMENSIONS.index("outcome")
_IDS: Final = 500  # a query
_CHUNK: Final = 2_000

FIELDS: Final = (
    *("client_id", "key_id", "provider_id", "model_id", "endpoint", "outcome", "estimated"),
    *("admitted_at", "workflow", "env", "latency_us", "first_byte_us"),
    *("session_opened", *TOKENS, "cost", "charge"),
)
"""The columns of a record that a `Call` is made of, in its order."""

Series = tuple[int, int | None, int | None, int | None, str, str, bool]


class Call(NamedTuple):
    """What of a record is summed up."""

    series: Series
    at: datetime
    workflow: str
    env: str
    latency: int
    first_byte: int | None
    amounts: Sequence[int]  # in the order of AMOUNTS

    @property
    def counts(self) -> bool:
        """Whether it consumed anything: of the others nothing is summed up by tag."""
        return self.series[_OUTCOME] in outcomes.COUNTED


class Sums:
    """Sums over calls."""

    __slots__ = ("amounts", "first_byte", "latency")

    def __init__(self, amounts: Iterable[int] = ()) -> None:
        self.amounts = list(amounts) or [0] * len(AMOUNTS)
        self.latency: Histogram = {}
        self.first_byte: Histogram = {}

    def __getattr__(self, name: str) -> int:
        """Return the amount of that name."""
        try:
            return self.amounts[AMOUNTS.index(name)]
        except ValueError:
            raise AttributeError(name) from None

    def __eq__(self, other: object) -> bool:
        """Tell whether all is the same."""
        return isinstance(other, Sums) and self.told() == other.told()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Sums({self.told()})"

    def told(self) -> dict[str, Any]:
        """Return all of it, by name."""
        return {**dict(zip(AMOUNTS, self.amounts, strict=True)), "latency": self.latency, "first_byte": self.first_byte}

    def count(self, call: Call, *, times: bool = True) -> None:
        """Add a call, without its times where they are not asked for."""
        self.amounts = [old + new for old, new in zip(self.amounts, call.amounts, strict=True)]
        if times:
            number = bucket(call.latency)
            self.latency[number] = self.latency.get(number, 0) + 1
            if call.first_byte is not None:
                number = bucket(call.first_byte)
                self.first_byte[number] = self.first_byte.get(number, 0) + 1

    def add(self, other: "Sums") -> None:
        """Add other sums."""
        self.amounts = [old + new for old, new in zip(self.amounts, other.amounts, strict=True)]
        add(self.latency, other.latency)
        add(self.first_byte, other.first_byte)


RollupKey = tuple[str, datetime, Series]
TagKey = tuple[str, datetime, int, str, str]


class Fold:
    """Sums by rows of `UsageRollup` and of `TagRollup`."""

    def __init__(self) -> None:
        self.rollups: dict[RollupKey, Sums] = defaultdict(Sums)
        self.tags: dict[TagKey, Sums] = defaultdict(Sums)
        self._days: dict[str, Days] = {}

    def count(self, call: Call, *, hour: bool, zones: Iterable[str], times: bool = True) -> None:
        """Add a call to its hour, where asked to, and to its day in each of `zones`; without its times if so asked."""
        if hour:
            self.rollups[HOUR, hour_of(call.at), call.series].count(call, times=times)
        for zone in zones:
            days = self._days.get(zone) or self._days.setdefault(zone, Days(zone))
            start = days.start(call.at)
            self.rollups[zone, start, call.series].count(call, times=times)
            if not call.counts:
                continue
            for tag, value in ((TagRollup.WORKFLOW, call.workflow), (TagRollup.ENV, call.env)):
                if value:
                    self.tags[zone, start, call.series[0], tag, value].count(call, times=False)


def calls_of(records: "QuerySet[UsageRecord]", without: Collection[UUID] = ()) -> Iterator[Call]:
    """Yield what of `records` is summed up."""
    fields = ("pk", *FIELDS) if without else FIELDS
    for row in records.order_by().values_list(*fields).iterator(chunk_size=_CHUNK):
        values: tuple[Any, ...] = row
        if without:
            if values[0] in without:
                continue
            values = values[1:]
        yield Call(values[:7], *values[7:12], (1, *values[12:]))  # type: ignore[call-arg]  # as FIELDS says


def calls_with(ids: Iterable[Any], among: "QuerySet[UsageRecord]") -> Iterator[Call]:
    """Yield those with these ids."""
    wanted = list(ids)
    for at in range(0, len(wanted), _IDS):
        yield from calls_of(among.filter(pk__in=wanted[at : at + _IDS]))
