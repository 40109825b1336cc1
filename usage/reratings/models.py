"""What a re-rating is: which calls, the rates they should have had, how far it is, and the difference it makes."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from clients.models import Client
from clients.names import no_control_characters
from pricing import audit
from pricing.models import Model
from pricing.quotes import DEFAULT_TIER, RateCard, rates_of
from pricing.rate_columns import RateColumns, rates_in_range


class Rerating(models.Model):
    """Calls of a model in [start, end) that are priced anew: as the provider's cost, or as what one client pays.

    It is figured first, changing nothing, then applied when somebody says so. Either goes on from `reached` after any
    interruption. What is billed already is not changed: statements to come have the difference.
    """

    class State(models.TextChoices):
        FIGURING = "figuring", "Being figured"
        FIGURED = "figured", "To be applied or withdrawn"
        APPLYING = "applying", "Being applied"
        APPLIED = "applied", "Applied"

    class Corrects(models.TextChoices):
        COST = "cost", "What the provider takes"
        CHARGE = "charge", "What the client pays"

    model = models.ForeignKey(Model, models.PROTECT, related_name="reratings")
    client = models.ForeignKey(
        Client, models.PROTECT, null=True, blank=True, related_name="reratings", help_text="Empty: every client."
    )
    corrects = models.CharField(max_length=6, choices=Corrects, default=Corrects.COST)
    service_tier = models.CharField(
        max_length=30, default=DEFAULT_TIER, help_text="Of the provider's cost: only calls that were priced by it."
    )
    start = models.DateTimeField("from")
    end = models.DateTimeField("until", help_text="Calls admitted at that moment or later are not in it.")
    reason = models.CharField(max_length=200, validators=[no_control_characters])
    state = models.CharField(max_length=8, choices=State, default=State.FIGURING, editable=False)
    reached = models.DateTimeField(null=True, editable=False, help_text="When the last call looked at was admitted.")
    reached_id = models.UUIDField(null=True, editable=False)
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    made_by = models.CharField(max_length=150, blank=True, editable=False)
    applied_at = models.DateTimeField(null=True, editable=False)
    applied_by = models.CharField(max_length=150, blank=True, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["-pk"]
        verbose_name = "re-rating"
        constraints = [
            models.CheckConstraint(condition=Q(end__gt=F("start")), name="rerating_range_not_empty"),
            models.CheckConstraint(
                condition=Q(state__in=["figuring", "figured", "applying", "applied"]), name="rerating_state_known"
            ),
            models.CheckConstraint(
                condition=Q(corrects="cost") | Q(corrects="charge", client__isnull=False),
                name="rerating_charge_of_a_client",
                violation_error_message="Say which client pays otherwise.",
            ),
        ]

    def __str__(self) -> str:
        return f"Re-rating {self.pk} of {self.model}"

    def clean(self) -> None:
        """Refuse ranges that are not over, or in the archive. Raises ValidationError."""
        if self.start is None or self.end is None:
            return
        if self.end <= self.start:
            raise ValidationError({"end": "The end comes after the beginning."})
        if self.end > timezone.now():
            raise ValidationError({"end": "That moment is still to come: for calls to come, give the model a price."})
        from usage.archive.reading import is_archived  # noqa: PLC0415 - which knows of records, and they of this

        if is_archived(self.start, self.end):
            raise ValidationError({"start": "Records of that range are in the archive, which is not changed."})

    @property
    def card(self) -> RateCard:
        """The rates that the calls should have had."""
        return RateCard({DEFAULT_TIER: tuple(rates_of(step) for step in self.steps.order_by("above_tokens"))})


class RerateStep(RateColumns):
    """Its rates, for calls with more than `above_tokens` input tokens."""

    rerating = models.ForeignKey(Rerating, models.CASCADE, related_name="steps")
    above_tokens = models.PositiveIntegerField(default=0)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["rerating", "above_tokens"]
        verbose_name = "re-rating's rates for"
        constraints = [
            models.UniqueConstraint(fields=["rerating", "above_tokens"], name="rerate_step_once"),
            *rates_in_range("rerate_step"),
        ]

    def __str__(self) -> str:
        return f"above {self.above_tokens:,} tokens" if self.above_tokens else "all calls"


class RerateSum(models.Model):
    """What it comes to for one client in one of its months; money is picodollars."""

    rerating = models.ForeignKey(Rerating, models.CASCADE, related_name="sums")
    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False)
    month = models.DateField(help_text="Its first day, by the client's calendar.")
    calls = models.BigIntegerField(default=0)
    cost_before = models.BigIntegerField(default=0)
    cost_after = models.BigIntegerField(default=0)
    charge_before = models.BigIntegerField(default=0)
    charge_after = models.BigIntegerField(default=0)

    class Meta:
        app_label = "usage"
        ordering = ["rerating", "client", "month"]
        constraints = [models.UniqueConstraint(fields=["rerating", "client", "month"], name="rerate_sum_once")]

    def __str__(self) -> str:
        return f"{self.month:%B %Y}, client {self.client_id}"

    def amounts(self) -> dict[str, Any]:
        """Return them by name."""
        return {name: getattr(self, name) for name in SUMMED}


SUMMED = ("calls", "cost_before", "cost_after", "charge_before", "charge_after")
"""What is summed up, in this order."""
