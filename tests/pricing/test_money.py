from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import PICO, format_dollars, format_sum, from_dollars, rate_from_million, rate_to_million, to_dollars

picodollars = st.integers(-(10**24), 10**24)


@given(picodollars)
def test_money_goes_out_and_in_unchanged(amount: int) -> None:
    assert from_dollars(to_dollars(amount)) == amount
    assert from_dollars(Decimal(format_dollars(amount))) == amount


@given(picodollars)
def test_money_is_exact_whatever_the_decimal_context(amount: int) -> None:
    with localcontext(prec=3):
        assert from_dollars(to_dollars(amount)) == amount
        assert from_dollars(Decimal(format_dollars(amount))) == amount


@given(st.integers(0, 10**18))
def test_rates_go_out_and_in_unchanged(rate: int) -> None:
    assert rate_from_million(rate_to_million(rate)) == rate


@given(st.decimals(min_value=0, max_value=10**6, places=6))
def test_a_rate_is_what_a_million_tokens_cost(usd: Decimal) -> None:
    assert to_dollars(rate_from_million(usd) * 10**6) == usd


def test_the_unit() -> None:
    assert from_dollars(Decimal(1)) == PICO
    assert rate_from_million(Decimal("0.075")) == 75_000


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1, "< 0.000001"),
        (1_234_567_890, "0.001234"),
        (PICO // 2, "0.50"),
        (-PICO // 2, "-0.50"),
        (-1_234_567_890, "-0.001234"),
        (-12_345 * PICO, "-12,345.00"),
    ],
)
def test_sums_for_the_eye_keep_their_sign(amount: int, text: str) -> None:
    assert format_sum(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1, "0.000000000001"),
        (75_000, "0.000000075"),
        (25_500_000_000_000, "25.50"),
        (-PICO, "-1.00"),
        (123_456_789 * PICO, "123456789.00"),
    ],
)
def test_dollars_are_written_plainly(amount: int, text: str) -> None:
    assert format_dollars(amount) == text


@pytest.mark.parametrize("text", ["1e-13", "0.0000000000015", "NaN", "Infinity", "1e999999", "1e-999999", "-sNaN"])
def test_what_is_no_exact_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_dollars(Decimal(text))


@pytest.mark.parametrize("text", ["0.0000001", "1.23456789", "-1", "NaN"])
def test_what_is_no_exact_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        rate_from_million(Decimal(text))


def test_a_float_is_no_money() -> None:
    with pytest.raises(TypeError):
        from_dollars(0.1)  # type: ignore[arg-type]
