"""A model's prices as operators keep them: new versions, those to come withdrawn, and who made which when."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from pricing.models import Model, Price
from pricing.quotes import DEFAULT_TIER

_NOTICE = timedelta(seconds=2)
"""Gateways know a change within 1 s; a price withdrawn later than that before its moment may be on a record."""
_FARTHEST = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Step:
    """Picodollars per token, for whole calls with more than `above_tokens` input tokens; None: as input, or output."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    above_tokens: int = 0


class State(StrEnum):
    """Where a version stands in time."""

    TO_COME = "to come"
    IN_FORCE = "in force"
    PAST = "past"


@dataclass(frozen=True, slots=True)
class Version:
    """A tier's prices from one moment on: a row for 0 tokens and one for each long-context step, ascending."""

    service_tier: str
    effective_from: datetime
    rows: tuple[Price, ...]
    state: State

    @property
    def made(self) -> Price:
        """The row that tells who made the version, when, and from what source."""
        return self.rows[0]


def first_of_next_month(now: datetime) -> datetime:
    """Return the start of the next month in the installation's zone."""
    zone = timezone.get_default_timezone()
    local = now.astimezone(zone)
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    return datetime(year, month, 1, tzinfo=zone)


@transaction.atomic
def new_price(
    model: Model,
    rates: Sequence[Step],
    effective_from: datetime | None,
    by: User | None,
    *,
    service_tier: str = DEFAULT_TIER,
) -> list[Price]:
    """Add a version to a model's price list, from a moment to come or, with None, from now on; return its rows.

    Raises ValidationError for a moment that is past, too far or taken, a free model, rates that a price may not have,
    and steps without one for 0 tokens.
    """
    now = timezone.now()
    if effective_from is not None and effective_from <= now:
        raise ValidationError(
            {"effective_from": "That moment is past: a price counts from now on, or from a later day."}
        )
    if effective_from is not None and effective_from > now + _FARTHEST:
        raise ValidationError({"effective_from": "That is more than five years away."})
    if model.free:
        raise ValidationError(f"{model.name} is free. Take that away first, then give it a price.")
    if 0 not in [step.above_tokens for step in rates]:
        raise ValidationError("The rates for long calls need those for all other calls beside them.")
    effective = effective_from or now
    if model.prices.filter(service_tier=service_tier, effective_from=effective).exists():
        raise ValidationError({"effective_from": "There is a price from that very moment already: withdraw it first."})
    prices = [
        Price(model=model, service_tier=service_tier, effective_from=effective, created_by=by, **asdict(step))
        for step in sorted(rates, key=lambda step: step.above_tokens)
    ]
    for price in prices:
        price.full_clean()
        price.save()
    return prices


@transaction.atomic
def withdraw(price: Price) -> int:
    """Delete the version, with all its steps, that a price to come belongs to; return the number of rows.

    Raises ValidationError for one that is in force, or will be in a moment.
    """
    if price.effective_from <= timezone.now() + _NOTICE:
        raise ValidationError("This price is in force already, so it stays: calls may have been charged by it.")
    version = price.model.prices.filter(service_tier=price.service_tier, effective_from=price.effective_from)
    return version.delete()[0]


def history(model: Model, now: datetime) -> list[Version]:
    """Return all versions of a model's prices, by tier (the default one first) and then the newest first.

    One query, or none where the prices are prefetched.
    """
    rows: dict[tuple[str, datetime], list[Price]] = {}
    for price in model.prices.all():
        rows.setdefault((price.service_tier, price.effective_from), []).append(price)
    in_force: dict[str, datetime] = {}
    for (tier, start), prices in rows.items():
        # A version without rates for short calls is never in force; see quotes.card_at.
        if start <= now and any(price.above_tokens == 0 for price in prices):
            in_force[tier] = max(start, in_force.get(tier, start))
    versions = [
        Version(
            tier,
            start,
            tuple(sorted(prices, key=lambda price: price.above_tokens)),
            _state(start, now, in_force.get(tier)),
        )
        for (tier, start), prices in rows.items()
    ]
    versions.sort(key=lambda version: version.effective_from, reverse=True)
    versions.sort(key=lambda version: (version.service_tier != DEFAULT_TIER, version.service_tier))
    return versions


def _state(start: datetime, now: datetime, in_force: datetime | None) -> State:
    if start > now:
        return State.TO_COME
    return State.IN_FORCE if start == in_force else State.PAST
