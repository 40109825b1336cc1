"""Money as integers of picodollars (10^-12 USD), and its way in and out as `Decimal`. Floats are not accepted."""

from decimal import Decimal
from fractions import Fraction

PICO = 10**12
"""Picodollars in a dollar: $0.075 per 1M tokens, the finest list price met, is a whole 75,000 of them per token."""

_TOKENS = 10**6
# Beyond this many digits before the point no sum of money is meant, and an exponent of 10^9 would eat all memory.
_LARGEST_EXPONENT = 18


def from_dollars(amount: Decimal) -> int:
    """Return `amount` USD in picodollars.

    Raises ValueError where the amount is not finite, beyond 10^18 USD, or not exact to the picodollar.
    """
    return _scaled(amount, PICO, "a picodollar (10^-12 USD)")


def to_dollars(picodollars: int) -> Decimal:
    """Return the exact USD, whatever the decimal context's precision."""
    return _unscaled(picodollars, -12)


def rate_from_million(usd_per_million: Decimal) -> int:
    """Return a price in USD per 1M tokens as picodollars per token.

    Raises ValueError where the price is negative, not finite, or finer than 10^-6 USD per 1M tokens.
    """
    rate = _scaled(usd_per_million, PICO // _TOKENS, "10^-6 USD per 1M tokens")
    if rate < 0:
        raise ValueError(f"{usd_per_million} is negative; a price is zero or more.")
    return rate


def rate_to_million(rate: int) -> Decimal:
    """Return picodollars per token as exact USD per 1M tokens, without trailing zeros."""
    return _unscaled(rate, -6, at_least=0)


def format_dollars(picodollars: int) -> str:
    """Return the exact USD as plain digits: no sign but a minus, no exponent, two decimals or as many as it takes."""
    # by integers alone: a report prints millions of these
    whole, part = divmod(abs(picodollars), PICO)
    decimals = f"{part:012d}".rstrip("0").ljust(2, "0")
    return f"{'-' if picodollars < 0 else ''}{whole}.{decimals}"


def format_sum(picodollars: int) -> str:
    """Return USD for the eye, thousands apart: to the cent, below a cent to the millionth. Exports are exact."""
    if picodollars < 0:
        return f"-{format_sum(-picodollars)}"
    if 0 < picodollars < 10**6:
        return "< 0.000001"
    whole, rest = divmod(picodollars, PICO)
    return f"{whole:,}.{rest // 10**10:02}" if picodollars >= 10**10 or not rest else f"0.{rest // 10**6:06}"


def _scaled(value: Decimal, factor: int, grain: str) -> int:
    if not isinstance(value, Decimal):
        raise TypeError(f"Money is given as Decimal, not as {type(value).__name__}.")
    if not value.is_finite():
        raise ValueError(f"{value} is not an amount of money.")
    if not value:
        return 0
    if value.adjusted() > _LARGEST_EXPONENT:
        raise ValueError(f"{value} is larger than any amount of money here.")
    if value.adjusted() < -_LARGEST_EXPONENT:
        raise ValueError(f"{value} is finer than {grain}.")
    exact = Fraction(value) * factor
    if exact.denominator != 1:
        raise ValueError(f"{value} is finer than {grain}.")
    return exact.numerator


def _unscaled(value: int, exponent: int, at_least: int | None = None) -> Decimal:
    """Return value × 10^exponent; with `at_least`, without trailing zeros beyond that many decimals."""
    if at_least is not None:
        while exponent < -at_least and value % 10 == 0:
            value //= 10
            exponent += 1
    digits = tuple(int(digit) for digit in str(abs(value)))
    return Decimal((int(value < 0), digits, exponent))
