"""What one call comes to by other rates. Integers only, picodollars."""

from collections.abc import Mapping
from typing import Any

from pricing.quotes import RateCard, Usage, charge, quote
from usage import outcomes
from usage.reratings.models import Rerating


def after(
    record: Mapping[str, Any], card: RateCard, corrects: str, markup_bp: int, own: RateCard | None
) -> tuple[int, int]:
    """Return (cost, charge) of a call by the rates of `card`; `markup_bp` and `own` are its client's terms now.

    Where the provider's cost is mended, the client pays by the terms that it paid by: an own price is what it was; a
    markup is that of now where it explains the old charge, else the charge keeps its ratio to the cost, half-even.
    """
    used = Usage(**{name: record[name] for name in Usage._fields})
    new = quote(card, used, None)[0]
    old, charged = record["cost"], record["charge"]
    if record["outcome"] not in outcomes.COUNTED:  # nobody pays for these
        return (old if corrects == Rerating.Corrects.CHARGE else new), charged
    if corrects == Rerating.Corrects.CHARGE:
        return old, new
    if own is not None and quote(own, used, None)[0] == charged:
        return new, charged
    if not old or charge(old, markup_bp) == charged:
        return new, charge(new, markup_bp)
    return new, _in_ratio(charged * new, old)


def _in_ratio(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    return quotient + (2 * remainder > denominator or (2 * remainder == denominator and quotient & 1))
