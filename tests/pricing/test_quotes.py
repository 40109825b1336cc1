from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import to_dollars
from pricing.quotes import RateCard, Rates, Usage, bound, card_at, charge, microseconds, quote, schedule

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KINDS = ("input", "cached_input", "cache_write", "output", "audio_input", "audio_output")


@dataclass
class Row:
    """A price list's row, as the database holds it."""

    id: int = 1
    service_tier: str = "default"
    above_tokens: int = 0
    effective_from: datetime = NOON
    input: int = 2_000_000
    cached_input: int | None = None
    cache_write: int | None = None
    output: int = 8_000_000
    audio_input: int | None = None
    audio_output: int | None = None


def card_of(*rows: Row, at: datetime = NOON) -> RateCard:
    card = card_at(rows, microseconds(at))
    assert card is not None
    return card


rates = st.integers(0, 10**9)
tokens = st.integers(0, 10**7)


@st.composite
def rate_cards(draw: st.DrawFn) -> RateCard:
    tiers = {}
    for tier in ["default", *draw(st.lists(st.sampled_from(["flex", "priority"]), unique=True))]:
        starts = [0, *sorted(draw(st.sets(st.integers(1, 10**6), max_size=3)))]
        tiers[tier] = tuple(Rates(draw(st.integers(1, 99)), start, *(draw(rates) for _ in KINDS)) for start in starts)
    return RateCard(tiers)


@st.composite
def usages(draw: st.DrawFn, most_input: int = 10**7, most_output: int = 10**7) -> Usage:
    """Usage with parts that fit into their wholes."""
    input_tokens = draw(st.integers(0, most_input))
    cuts = sorted(draw(st.lists(st.integers(0, input_tokens), min_size=3, max_size=3)))
    output_tokens = draw(st.integers(0, most_output))
    return Usage(
        input_tokens=input_tokens,
        cached_tokens=cuts[0],
        cache_write_tokens=cuts[1] - cuts[0],
        audio_input_tokens=cuts[2] - cuts[1],
        output_tokens=output_tokens,
        reasoning_tokens=draw(st.integers(0, output_tokens)),
        audio_output_tokens=draw(st.integers(0, output_tokens)),
    )


wild_usages = st.builds(Usage, *[tokens] * 7)
tiers = st.sampled_from([None, "auto", "default", "flex", "priority", "unheard-of"])


@given(rate_cards(), usages(), tiers)
def test_a_quote_is_the_sum_of_its_parts_in_dollars(card: RateCard, usage: Usage, tier: str | None) -> None:
    steps = card.tiers.get(tier or "default") or card.tiers["default"]
    row = [step for step in steps if step.above_tokens == 0 or usage.input_tokens > step.above_tokens][-1]
    usd = {kind: Decimal(getattr(row, kind)) / 10**6 for kind in KINDS}  # per 1M tokens
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.audio_input_tokens
    with localcontext(prec=60):
        expected = (
            plain * usd["input"]
            + usage.cached_tokens * usd["cached_input"]
            + usage.cache_write_tokens * usd["cache_write"]
            + usage.audio_input_tokens * usd["audio_input"]
            + (usage.output_tokens - usage.audio_output_tokens) * usd["output"]
            + usage.audio_output_tokens * usd["audio_output"]
        ) / 10**6
    cost, price_id = quote(card, usage, tier)
    assert to_dollars(cost) == expected
    assert price_id == row.price_id


@given(rate_cards(), tokens, tokens, tiers, st.data())
def test_no_usage_within_the_tokens_costs_more_than_the_bound(
    card: RateCard, input_tokens: int, output_tokens: int, tier: str | None, data: st.DataObject
) -> None:
    most = bound(card, input_tokens, output_tokens, tier)
    usage = data.draw(usages(input_tokens, output_tokens))
    assert quote(card, usage, tier)[0] <= most
    assert quote(card, usage, "default")[0] <= most


@given(rate_cards(), wild_usages, tiers)
def test_parts_beyond_their_whole_are_not_charged(card: RateCard, usage: Usage, tier: str | None) -> None:
    cost, _ = quote(card, usage, tier)
    assert 0 <= cost <= bound(card, usage.input_tokens, usage.output_tokens, tier)


def test_a_bound_is_reached() -> None:
    card = card_of(Row(), Row(above_tokens=1000, input=5_000_000))
    assert bound(card, 1000, 10, None) == quote(card, Usage(1000, output_tokens=10), None)[0]
    assert bound(card, 1001, 10, None) == quote(card, Usage(1001, output_tokens=10), None)[0]


def test_a_bound_covers_a_cheaper_step_below() -> None:
    """A card whose long calls are cheaper: the dearest call is the longest one short of the step."""
    card = card_of(Row(input=9), Row(above_tokens=1000, input=1))
    assert bound(card, 2000, 0, None) == 9000


def test_a_bound_covers_being_served_as_default() -> None:
    card = card_of(Row(), Row(service_tier="flex", input=1_000_000, output=4_000_000))
    assert bound(card, 100, 10, "flex") == bound(card, 100, 10, None)
    assert quote(card, Usage(100, output_tokens=10), "flex")[0] < bound(card, 100, 10, "flex")


def test_cached_and_reasoning_tokens_are_charged_once() -> None:
    card = card_of(Row(input=10, cached_input=1, output=100))
    assert quote(card, Usage(1000, cached_tokens=400, output_tokens=50, reasoning_tokens=50), None)[0] == (
        600 * 10 + 400 * 1 + 50 * 100
    )


def test_a_step_holds_for_the_whole_call_beyond_it() -> None:
    card = card_of(Row(id=1, input=1), Row(id=2, above_tokens=200_000, input=2))
    assert quote(card, Usage(200_000), None) == (200_000, 1)
    assert quote(card, Usage(200_001), None) == (400_002, 2)


def test_kinds_without_a_price_cost_as_their_whole() -> None:
    usage = Usage(
        10, cached_tokens=2, cache_write_tokens=3, audio_input_tokens=4, output_tokens=10, audio_output_tokens=5
    )
    card = card_of(Row(input=7, output=11))
    assert quote(card, usage, None)[0] == 10 * 7 + 10 * 11


@pytest.mark.parametrize("tier", [None, "auto", "default", "never-heard-of"])
def test_a_tier_without_a_price_costs_as_default(tier: str | None) -> None:
    card = card_of(Row(input=5), Row(service_tier="priority", input=9))
    assert quote(card, Usage(1), tier)[0] == 5
    assert quote(card, Usage(1), "priority")[0] == 9


@given(st.integers(0, 10**18), st.integers(-10_000, 10**6))
def test_a_charge_rounds_once_half_to_even(cost: int, markup_bp: int) -> None:
    with localcontext(prec=60):
        exact = Decimal(cost) * (10_000 + markup_bp) / 10_000
        assert charge(cost, markup_bp) == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.mark.parametrize(("cost", "charged"), [(1, 2), (3, 4), (5, 8), (2, 3)])
def test_halves_go_to_the_even_neighbour(cost: int, charged: int) -> None:
    assert charge(cost, 5000) == charged


@given(st.integers(0, 10**15), st.integers(0, 10**6), st.integers(-10_000, 10**5))
def test_a_charge_never_falls_when_the_cost_rises(cost: int, more: int, markup_bp: int) -> None:
    """So that the charge of a bound is the bound of a charge."""
    assert charge(cost, markup_bp) <= charge(cost + more, markup_bp)


def test_the_newest_version_that_has_come_is_in_force() -> None:
    rows = [Row(id=1), Row(id=2, effective_from=NOON + timedelta(hours=1), input=3)]
    before = microseconds(NOON + timedelta(hours=1)) - 1
    assert card_at(rows, microseconds(NOON) - 1) is None
    card = card_at(rows, before)
    later = card_at(rows, before + 1)
    assert card is not None
    assert later is not None
    assert card.rates(None, 1).price_id == 1
    assert later.rates(None, 1).price_id == 2


def test_a_version_replaces_all_steps_of_its_tier_and_no_other_tier() -> None:
    hour = timedelta(hours=1)
    rows = [
        Row(id=1),
        Row(id=2, above_tokens=1000),
        Row(id=3, service_tier="flex"),
        Row(id=4, effective_from=NOON + hour),
    ]
    card = card_of(*rows, at=NOON + hour)
    assert [step.price_id for step in card.tiers["default"]] == [4]
    assert [step.price_id for step in card.tiers["flex"]] == [3]


def test_a_step_alone_leaves_the_version_before_it_in_force() -> None:
    hour = timedelta(hours=1)
    card = card_of(Row(id=1), Row(id=2, above_tokens=1000, effective_from=NOON + hour), at=NOON + hour)
    assert card.rates(None, 5000).price_id == 1
    assert card_at([Row(above_tokens=1000)], microseconds(NOON)) is None


def test_a_price_for_another_tier_alone_is_no_price() -> None:
    assert card_at([Row(service_tier="flex")], microseconds(NOON)) is None


versions = st.lists(
    st.builds(
        Row,
        id=st.integers(1, 10**6),
        service_tier=st.sampled_from(["default", "flex"]),
        above_tokens=st.sampled_from([0, 0, 1000]),
        effective_from=st.integers(-5, 5).map(lambda hours: NOON + timedelta(hours=hours)),
        input=st.integers(0, 5),
    ),
    max_size=8,
    unique_by=lambda row: (row.service_tier, row.above_tokens, row.effective_from),
)


@given(versions, st.integers(-6, 6))
def test_the_schedule_says_at_any_time_what_the_table_says(rows: list[Row], hours: int) -> None:
    at = microseconds(NOON + timedelta(hours=hours))
    past = [card for start, card in schedule(rows) if start <= at]
    assert (past[-1] if past else None) == card_at(rows, at)


@given(versions)
def test_the_schedule_ascends(rows: list[Row]) -> None:
    starts = [start for start, _ in schedule(rows)]
    assert starts == sorted(set(starts))


@given(st.integers(0, 4 * 10**15))
def test_microseconds_are_exact(at: int) -> None:
    assert microseconds(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)) == at


@pytest.mark.parametrize(
    "broken",
    [{}, {"flex": (Rates(1, 0, *[1] * 6),)}, {"default": ()}, {"default": (Rates(1, 5, *[1] * 6),)}],
)
def test_a_card_that_leaves_calls_without_a_rate_cannot_be_made(broken: dict[str, tuple[Rates, ...]]) -> None:
    with pytest.raises(ValueError):
        RateCard(broken)
