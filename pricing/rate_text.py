"""Prices as people read them: USD per 1M tokens, in columns whose points stand below each other."""

from decimal import Decimal

from pricing.audit import Words
from pricing.money import rate_to_million
from pricing.rate_columns import RATES

_FIGURE_SPACE = "\u2007"  # as wide as a digit
_DECIMALS = 4  # of nearly all list prices


def rate_text(rate: int | None) -> str:
    """Return picodollars per token as USD per 1M tokens, aligned; a dash for None."""
    return per_million(None if rate is None else rate_to_million(rate))


def per_million(usd: Decimal | None) -> str:
    """Return USD per 1M tokens with two decimals or as many as it takes, filled up with spaces to four."""
    if usd is None:
        return f"–{_FIGURE_SPACE * (_DECIMALS + 1)}"
    whole, _, decimals = f"{usd:f}".partition(".")
    decimals = decimals.rstrip("0").ljust(2, "0")
    return f"{int(whole):,}.{decimals.ljust(_DECIMALS, _FIGURE_SPACE)}"


def rates_in_words() -> dict[str, Words]:
    """Return how the audit log says each rate."""
    return dict.fromkeys(RATES, lambda _, value: f"{rate_to_million(value):f} USD per 1M tokens")
