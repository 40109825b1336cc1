"""What a client pays beside its usage, and in which currency: terms, each from a month on.

Amounts are picodollars. A statement keeps a copy of the terms that it was made by.
"""

from datetime import date
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from clients.models import Client
from pricing import audit
from pricing.money import PICO

MICRO: Final = 10**6
"""Parts of a unit of a currency that a rate is told in."""
MOST: Final = 10**6 * PICO
"""A million dollars: no fee of a month is meant to be more."""
_DIGITS: Final = dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF"), 0) | dict.fromkeys(
    ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3
)


def digits_of(currency: str) -> int:
    """Return how many digits after the point amounts of a currency have, as ISO 4217 says."""
    return _DIGITS.get(currency, 2)


class Conditions(models.Model):
    """What is paid for a month beside what its calls were charged; picodollars."""

    monthly_fee = models.BigIntegerField(default=0)
    included = models.BigIntegerField(
        "included usage", default=0, help_text="So much of what calls are charged is in the fee."
    )
    minimum = models.BigIntegerField(default=0, help_text="A month costs no less.")
    session_price = models.BigIntegerField("price of a WhatsApp session", default=0)
    currency = models.CharField(
        max_length=3,
        default="USD",
        validators=[RegexValidator("^[A-Z]{3}$", "Three capital letters, such as EUR.")],
        help_text="What statements are made out in, such as EUR.",
    )
    rate = models.BigIntegerField(
        default=MICRO,
        validators=[MinValueValidator(1), MaxValueValidator(10**12)],
        help_text="Millionths of a unit of the currency for one US dollar.",
    )

    class Meta:
        abstract = True

    def amount(self, charge: int, sessions: int) -> int:
        """Return what a month costs (picodollars) whose calls were charged `charge` and opened so many sessions."""
        used = max(0, charge - self.included)
        return max(self.minimum, used + sessions * self.session_price + self.monthly_fee)


class Terms(Conditions):
    """What holds for a client from a month on, until other terms do."""

    client = models.ForeignKey(Client, models.CASCADE, related_name="terms")
    since = models.DateField("from the month of", help_text="The first month that they hold for.")

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["client", "-since"]
        verbose_name = verbose_name_plural = "terms"
        constraints = [
            models.UniqueConstraint(fields=["client", "since"], name="terms_once_a_month"),
            models.CheckConstraint(
                condition=Q(
                    **{
                        f"{name}__{bound}": limit
                        for name in ("monthly_fee", "included", "minimum", "session_price")
                        for bound, limit in (("gte", 0), ("lte", MOST))
                    }
                ),
                name="terms_amounts_in_bounds",
            ),
            models.CheckConstraint(condition=Q(rate__gte=1), name="terms_rate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.client}, from {self.since:%B %Y}"

    @property
    def in_use(self) -> bool:
        """Whether a statement was made by them, or after them."""
        from usage.statements import Statement  # noqa: PLC0415 - which is made by terms

        return Statement.objects.filter(client=self.client_id, month__gte=self.since).exists()

    def clean(self) -> None:
        """Set the day to the first. Raises ValidationError where that month has its statement already."""
        if self.since is None:
            return
        self.since = self.since.replace(day=1)
        if self.client_id and self.in_use:
            raise ValidationError({"since": "That month has its statement already: choose a month that is not closed."})


def terms_of(clients: list[Client], month: date) -> dict[int, Terms]:
    """Return by client the terms that hold for a month; without any, nothing but the usage is paid, in USD."""
    found: dict[int, Terms] = {}
    for terms in Terms.objects.filter(client__in=clients, since__lte=month).order_by("since"):
        found[terms.client_id] = terms
    return {client.pk: found.get(client.pk) or Terms(client=client, since=month) for client in clients}


def copied(terms: Conditions) -> dict[str, Any]:
    """Return the conditions by name."""
    return {field.name: getattr(terms, field.name) for field in Conditions._meta.fields}
