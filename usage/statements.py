"""Statements: what a client was billed for a month. Made by `usage.closing`, never changed.

All amounts are exact picodollars. They are rounded once: what was billed up to a line, in the currency, is rounded
half up to its smallest unit, and a line shows the difference to the line before. So lines add up to the total.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from clients.logos import Logo
from clients.models import Client
from pricing import audit
from pricing.money import PICO
from usage.terms import MICRO, Conditions, digits_of

_TAX_POINTS: Final = 10_000  # hundredths of a percent in the whole
_EARLIEST, _LATEST = 2020, 2100  # years that somebody may mean


class Statement(Conditions):
    """The statement of a client's month, with the conditions and names of the day when it was made."""

    number = models.PositiveIntegerField(unique=True)
    client = models.ForeignKey(Client, models.PROTECT, related_name="statements")
    client_name = models.CharField(max_length=200)
    client_company = models.CharField(max_length=200, blank=True)
    month = models.DateField(help_text="Its first day.")
    start = models.DateTimeField()
    end = models.DateTimeField()
    zone = models.CharField(max_length=64)
    agency_name = models.CharField(max_length=100, blank=True)
    agency_address = models.TextField(blank=True)
    agency_logo = models.ForeignKey(Logo, models.PROTECT, null=True, blank=True, related_name="+")
    tax_label = models.CharField(max_length=40, blank=True)
    tax_points = models.PositiveIntegerField(default=0, help_text="Hundredths of a percent.")
    net = models.BigIntegerField(help_text="In the smallest unit of the currency; so below.")
    tax = models.BigIntegerField()
    gross = models.BigIntegerField()
    closed_at = models.DateTimeField()
    closed_by = models.CharField(max_length=150, blank=True)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["client", "month"], name="statement_once_a_month"),
            models.CheckConstraint(condition=Q(number__gte=1), name="statement_numbered"),
        ]

    def __str__(self) -> str:
        return f"Statement {self.number}"

    @property
    def billed(self) -> "Sequence[StatementLine]":
        """The lines that are paid, in order."""
        return [line for line in self.ordered if line.kind != StatementLine.WORKFLOW]

    @property
    def by_workflow(self) -> "Sequence[StatementLine]":
        """Where the usage came from: the same calls once more."""
        return [line for line in self.ordered if line.kind == StatementLine.WORKFLOW]

    @property
    def ordered(self) -> "Sequence[StatementLine]":
        """All lines, in order."""
        return sorted(self.lines.all(), key=lambda line: line.position)

    def money(self, minor: int) -> str:
        """Return an amount of the currency as plain digits, such as 12.50."""
        digits = digits_of(self.currency)
        whole, part = divmod(abs(minor), 10**digits)
        return f"{'-' if minor < 0 else ''}{whole}" + (f".{part:0{digits}}" if digits else "")


class StatementLine(models.Model):
    """A line: what it is for, and what is paid for it."""

    USAGE, INCLUDED, SESSIONS, FEE, MINIMUM, ADJUSTMENT, WORKFLOW = (
        *("usage", "included", "sessions", "fee", "minimum", "adjustment", "workflow"),
    )

    statement = models.ForeignKey(Statement, models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(
        max_length=10, choices={name: name for name in (USAGE, INCLUDED, SESSIONS, FEE, MINIMUM, ADJUSTMENT, WORKFLOW)}
    )
    title = models.CharField(max_length=300)
    month = models.DateField(help_text="Whose usage it is for: an earlier one's in an adjustment.")
    calls = models.BigIntegerField(default=0)
    sessions = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0, help_text="What providers took, picodollars. Never shown to the client.")
    charge = models.BigIntegerField(default=0, help_text="What the calls were charged, picodollars.")
    amount = models.BigIntegerField(default=0, help_text="What is paid for it, picodollars.")
    minor = models.BigIntegerField(default=0, help_text="The same in the currency's smallest unit.")

    class Meta:
        app_label = "usage"
        ordering = ["statement", "position"]
        constraints = [models.UniqueConstraint(fields=["statement", "position"], name="statement_line_once")]

    def __str__(self) -> str:
        return self.title

    def own(self) -> dict[str, Any]:
        """Return its figures by name."""
        return {name: getattr(self, name) for name in FIGURES}


FIGURES: Final = ("calls", "sessions", "input_tokens", "output_tokens", "cost", "charge", "amount")


def total(lines: Iterable[StatementLine], conditions: Conditions, tax_points: int) -> tuple[int, int, int]:
    """Give each line that is paid its amount in the currency; return net, tax and gross, in its smallest unit."""
    scale = 10 ** digits_of(conditions.currency)
    exact = shown = 0
    for line in lines:
        if line.kind == StatementLine.WORKFLOW:
            continue
        exact += line.amount
        following = _half_up(exact * conditions.rate * scale, PICO * MICRO)
        line.minor, shown = following - shown, following
    tax = _half_up(shown * tax_points, _TAX_POINTS)
    return shown, tax, shown + tax


def month_of(text: str) -> date:
    """Return the first day of a month such as 2026-10. Raises ValidationError."""
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        month = date.min
    if not _EARLIEST <= month.year <= _LATEST:
        raise ValidationError(f"A month is such as 2026-10, not {text!r:.20}.")
    return month


def _half_up(numerator: int, denominator: int) -> int:
    """Return the nearest integer, halves away from zero: what accountants call commercial rounding."""
    nearest = (2 * abs(numerator) + denominator) // (2 * denominator)
    return nearest if numerator >= 0 else -nearest
