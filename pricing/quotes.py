"""What a call costs: usage and prices in, integer picodollars out.

Pure and on the path of every call: no ORM, no Decimal, no clock.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

DEFAULT_TIER = "default"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WHOLE_BP = 10_000  # basis points in one


class RateRow(Protocol):
    """Rates for calls with more than `above_tokens` input tokens: picodollars per token, None for that of the whole."""

    @property
    def id(self) -> int: ...
    @property
    def above_tokens(self) -> int: ...
    @property
    def input(self) -> int: ...
    @property
    def cached_input(self) -> int | None: ...
    @property
    def cache_write(self) -> int | None: ...
    @property
    def output(self) -> int: ...
    @property
    def audio_input(self) -> int | None: ...
    @property
    def audio_output(self) -> int | None: ...


class PriceRow(RateRow, Protocol):
    """A row of a price list, as `pricing.models.Price` is."""

    @property
    def service_tier(self) -> str: ...
    @property
    def effective_from(self) -> datetime: ...


class Usage(NamedTuple):
    """Tokens of one call.

    Cached, cache-write and audio input are parts of the input; reasoning and audio output are parts of the output.
    """

    input_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """Picodollars per token for calls with more than `above_tokens` input tokens; every kind has its rate."""

    price_id: int
    above_tokens: int
    input: int
    cached_input: int
    cache_write: int
    output: int
    audio_input: int
    audio_output: int
    dearest_input: int = field(init=False, repr=False)
    dearest_output: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        dearest_input = max(self.input, self.cached_input, self.cache_write, self.audio_input)
        object.__setattr__(self, "dearest_input", dearest_input)
        object.__setattr__(self, "dearest_output", max(self.output, self.audio_output))


@dataclass(frozen=True, slots=True)
class RateCard:
    """All rates of a model at one moment: per service tier its steps, ascending, the first of them from token 0."""

    tiers: Mapping[str, tuple[Rates, ...]]

    def __post_init__(self) -> None:
        if DEFAULT_TIER not in self.tiers:
            raise ValueError("A rate card needs the tier 'default'.")
        for tier, steps in self.tiers.items():
            starts = [step.above_tokens for step in steps]
            if not starts or starts[0] != 0 or starts != sorted(set(starts)):
                raise ValueError(f"The steps of tier {tier!r} must ascend from 0, not {starts}.")

    def steps(self, tier: str | None) -> tuple[Rates, ...]:
        """Return the steps of a tier; of 'default' where the tier is None, 'auto' or has no price of its own."""
        if tier is not None and tier in self.tiers:
            return self.tiers[tier]
        return self.tiers[DEFAULT_TIER]

    def rates(self, tier: str | None, input_tokens: int) -> Rates:
        """Return the rates of a whole call with that many input tokens."""
        steps = self.steps(tier)
        chosen = steps[0]
        for step in steps:
            if input_tokens <= step.above_tokens:
                break
            chosen = step
        return chosen


def quote(card: RateCard, usage: Usage, tier: str | None) -> tuple[int, int]:
    """Return (cost in picodollars, id of the price that applied).

    Parts that overlap or exceed their whole (a provider may call the same tokens cached and audio) never make the
    call pay for more tokens than the whole: cached counts first, then cache writes, then audio.
    """
    rates = card.rates(tier, usage.input_tokens)
    plain = usage.input_tokens
    cost = 0
    if usage.cached_tokens or usage.cache_write_tokens or usage.audio_input_tokens:
        cached = min(usage.cached_tokens, plain)
        plain -= cached
        written = min(usage.cache_write_tokens, plain)
        plain -= written
        audio = min(usage.audio_input_tokens, plain)
        plain -= audio
        cost = cached * rates.cached_input + written * rates.cache_write + audio * rates.audio_input
    spoken = min(usage.audio_output_tokens, usage.output_tokens)
    cost += plain * rates.input + (usage.output_tokens - spoken) * rates.output + spoken * rates.audio_output
    return cost, rates.price_id


def charged(cost: int, usage: Usage, markup_bp: int, own: RateCard | None) -> int:
    """Return what a client pays for a call, picodollars: by its own price of the model, or else by its markup."""
    return charge(cost, markup_bp) if own is None else quote(own, usage, None)[0]


def charge(cost: int, markup_bp: int) -> int:
    """Return what a client pays for `cost` under a markup in basis points (>= -10,000); half-even, the one rounding."""
    quotient, remainder = divmod(cost * (_WHOLE_BP + markup_bp), _WHOLE_BP)
    if 2 * remainder > _WHOLE_BP or (2 * remainder == _WHOLE_BP and quotient & 1):
        quotient += 1
    return quotient


def bound(card: RateCard, input_tokens: int, output_tokens: int, tier: str | None) -> int:
    """Return the most that any usage of at most these tokens can cost, in picodollars.

    Whatever the split into kinds and whichever step it ends on; over the asked tier and 'default', because a provider
    that is short of the asked one serves the call as default.
    """
    asked = card.steps(tier)
    most = _dearest(asked, input_tokens, output_tokens)
    standard = card.tiers[DEFAULT_TIER]
    if standard is asked:
        return most
    return max(most, _dearest(standard, input_tokens, output_tokens))


def _dearest(steps: tuple[Rates, ...], input_tokens: int, output_tokens: int) -> int:
    most = 0
    for index, step in enumerate(steps):
        if index and step.above_tokens >= input_tokens:
            break
        # A call on this step has no more input than the next step's threshold: beyond it, the next step's rates hold.
        reach = input_tokens
        if index + 1 < len(steps):
            reach = min(reach, steps[index + 1].above_tokens)
        most = max(most, reach * step.dearest_input + output_tokens * step.dearest_output)
    return most


def microseconds(moment: datetime) -> int:
    """Return an aware datetime as integer microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def card_at(prices: Iterable[PriceRow], at: int) -> RateCard | None:
    """Return the rates in force at `at` (µs since the epoch), or None where the default tier has none then.

    A version of a tier is all its rows with the same effective_from. One without a row for 0 tokens is not in force,
    so that a long-context step entered alone can not leave short calls without a price.
    """
    versions: dict[str, dict[int, list[PriceRow]]] = defaultdict(lambda: defaultdict(list))
    for price in prices:
        start = microseconds(price.effective_from)
        if start <= at:
            versions[price.service_tier][start].append(price)
    tiers: dict[str, tuple[Rates, ...]] = {}
    for tier, by_start in versions.items():
        whole = [start for start, rows in by_start.items() if any(row.above_tokens == 0 for row in rows)]
        if whole:
            rows = sorted(by_start[max(whole)], key=lambda row: row.above_tokens)
            tiers[tier] = tuple(rates_of(row) for row in rows)
    return RateCard(tiers) if DEFAULT_TIER in tiers else None


def schedule(prices: Iterable[PriceRow]) -> tuple[tuple[int, RateCard], ...]:
    """Return every rate card the prices make, past and to come, as (in force from, µs; card), ascending."""
    rows = list(prices)
    cards: list[tuple[int, RateCard]] = []
    for start in sorted({microseconds(row.effective_from) for row in rows}):
        card = card_at(rows, start)
        if card is not None and (not cards or card != cards[-1][1]):
            cards.append((start, card))
    return tuple(cards)


def rates_of(row: RateRow) -> Rates:
    """Return the rates of a row; an empty one is that of the whole, input or output."""
    return Rates(
        price_id=row.id,
        above_tokens=row.above_tokens,
        input=row.input,
        cached_input=row.input if row.cached_input is None else row.cached_input,
        cache_write=row.input if row.cache_write is None else row.cache_write,
        output=row.output,
        audio_input=row.input if row.audio_input is None else row.audio_input,
        audio_output=row.output if row.audio_output is None else row.audio_output,
    )
