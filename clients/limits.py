"""Limits as people write and read them: `requests=100/day`, `credits=25.50/month`. Pure."""

import re
from decimal import Decimal
from typing import Final

from django.core.exceptions import ValidationError

from clients.cycles import CYCLES
from pricing.money import format_dollars, format_sum, from_dollars

METRICS: Final = ("requests", "tokens", "credits", "sessions")
LARGEST: Final = 2**63 - 1
"""The largest amount a database holds; in picodollars $9,223,372.03 and some."""

_WHOLE = re.compile(r"[0-9]{1,30}|[1-9][0-9]{0,2}(,[0-9]{3}){1,9}")  # commas may group thousands, nothing else
_DOLLARS = re.compile(r"[0-9]{1,30}(\.[0-9]{1,12})?")


def parse_limit(text: str) -> tuple[str, int, str]:
    """Return (metric, amount, cycle) of METRIC=AMOUNT/CYCLE; credits are written in USD and returned in picodollars.

    Raises ValidationError, in one sentence, for anything else.
    """
    metric, amount, cycle = _split(text)
    return metric, parse_amount(metric, amount), cycle


def parse_deviation(text: str) -> tuple[str, int | None, str]:
    """Return what `parse_limit` does, and for METRIC=none/CYCLE, which takes a plan's limit away, None as the amount.

    Raises ValidationError as that does.
    """
    metric, amount, cycle = _split(text)
    return metric, None if amount.strip() == "none" else parse_amount(metric, amount), cycle


def parse_amount(metric: str, text: str) -> int:
    """Return an amount as stored: a whole number, or for credits USD, exact, in picodollars.

    USD take no comma: half the world writes 25,50 for what the other half writes 25.50.
    Raises ValidationError where it is neither, or larger than can be stored.
    """
    text = text.strip()
    if metric == "credits":
        if not _DOLLARS.fullmatch(text):
            raise ValidationError(f"Credits are USD such as 25.50, with 12 decimals at most, not {text!r}.")
        amount = from_dollars(Decimal(text)) if len(text) < 25 else LARGEST + 1
        largest = f"{format_dollars(LARGEST)} USD"
    else:
        if not _WHOLE.fullmatch(text):
            raise ValidationError(f"An amount of {metric} is a whole number such as 1000, not {text!r}.")
        amount, largest = int(text.replace(",", "")), str(LARGEST)
    if amount > LARGEST:
        raise ValidationError(f"{text} is too much: a limit holds {largest} at most.")
    return amount


def format_amount(metric: str, amount: int) -> str:
    """Return an amount with its unit: `25.50 USD`, `1,000 tokens`, `100 requests`, `30 WhatsApp sessions`."""
    return f"{format_dollars(amount)} USD" if metric == "credits" else _counted(metric, amount)


def short_amount(metric: str, amount: int) -> str:
    """Return an amount with its unit, for the eye: USD to the cent."""
    return f"{format_sum(amount)} USD" if metric == "credits" else _counted(metric, amount)


def _counted(metric: str, amount: int) -> str:
    noun = "WhatsApp sessions" if metric == "sessions" else metric
    return f"{amount:,} {noun.removesuffix('s') if amount == 1 else noun}"


def amount_for_input(metric: str, amount: int) -> str:
    """Return an amount as `parse_amount` reads it: USD for credits, else digits."""
    return format_dollars(amount) if metric == "credits" else str(amount)


def _split(text: str) -> tuple[str, str, str]:
    metric, equals, rest = text.strip().partition("=")
    amount, slash, cycle = rest.partition("/")
    if not (equals and slash):
        raise ValidationError(f"A limit is written METRIC=AMOUNT/CYCLE, such as requests=100/day, not {text!r}.")
    if metric not in METRICS:
        raise ValidationError(f"Unknown metric {metric!r} in {text!r}: choose from {', '.join(METRICS)}.")
    if cycle not in CYCLES:
        raise ValidationError(f"Unknown cycle {cycle!r} in {text!r}: choose from {', '.join(CYCLES)}.")
    return metric, amount, cycle
