"""How the cost of one call came about, line by line: tokens of each kind times the rate that held."""

from dataclasses import dataclass

from django.db.models import Q

from clients.markup import format_markup
from clients.models import Client, OwnPrice
from pricing.quotes import Usage, charge, quote
from pricing.rate_columns import RateColumns
from usage.models import RerateStep, Rerating, UsageRecord


@dataclass(frozen=True, slots=True)
class Line:
    """Tokens of one kind; rate and amount are picodollars, the rate per token."""

    kind: str
    tokens: int
    rate: int
    amount: int


@dataclass(frozen=True, slots=True)
class Bill:
    """All lines; `difference` is what the recorded cost is more or less than their sum (picodollars)."""

    lines: list[Line]
    difference: int


def bill_of(record: UsageRecord, price: RateColumns) -> Bill:
    """Return the bill of a call by the price on its record, or by the rates that corrected it.

    Split as `pricing.quotes.quote` does: cached input counts first, then cache writes, then audio. Only a call that
    was interrupted differs from it: it is charged what was estimated when it began.
    """
    plain = record.input_tokens
    parts = []
    for kind, rate, tokens in (
        ("Input from the cache", "cached_input", record.cached_tokens),
        ("Input written to the cache", "cache_write", record.cache_write_tokens),
        ("Audio input", "audio_input", record.audio_input_tokens),
    ):
        taken = min(tokens, plain)
        plain -= taken
        parts.append((kind, rate, taken))
    spoken = min(record.audio_output_tokens, record.output_tokens)
    wanted = [
        ("Input", "input", plain),
        *parts,
        ("Output", "output", record.output_tokens - spoken),
        ("Audio output", "audio_output", spoken),
    ]
    lines = [
        Line(kind, tokens, price.effective(rate), tokens * price.effective(rate))
        for kind, rate, tokens in wanted
        if tokens
    ]
    return Bill(lines, record.cost - sum(line.amount for line in lines))


def correction(record: UsageRecord) -> RerateStep | None:
    """Return the rates of the re-rating that corrected what the call cost, None where none did."""
    if record.rerating_id is None:
        return None
    steps = RerateStep.objects.filter(rerating=record.rerating_id, rerating__corrects=Rerating.Corrects.COST)
    return steps.filter(Q(above_tokens=0) | Q(above_tokens__lt=record.input_tokens)).order_by("-above_tokens").first()


def charged_by(record: UsageRecord) -> str:
    """Return in words the terms that the client has now, where they explain the charge; '' where it had others."""
    client = Client.objects.filter(pk=record.client_id).first()
    if client is None:
        return ""
    own = OwnPrice.objects.filter(client=client, model=record.model_id).first()
    if own is not None and quote(own.card, used_in(record), None)[0] == record.charge:
        return "own price"
    return (
        f"markup {format_markup(client.markup_bp)} %" if charge(record.cost, client.markup_bp) == record.charge else ""
    )


def used_in(record: UsageRecord) -> Usage:
    """Return the tokens of a call, as prices are put on them."""
    return Usage(**{name: getattr(record, name) for name in Usage._fields})
