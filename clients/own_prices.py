"""Prices that one client pays for a model, whatever the provider takes: in place of its markup.

Like the markup they are what holds now: a call is charged by what held when it began, and its record keeps that.
"""

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from pricing import audit
from pricing.models import Model
from pricing.quotes import DEFAULT_TIER, RateCard, rates_of
from pricing.rate_columns import RateColumns, rates_in_range


class OwnPrice(RateColumns):
    """What a client pays for a model, picodollars per token: the same for calls of every tier and length."""

    above_tokens: ClassVar[int] = 0

    client = models.ForeignKey("clients.Client", models.CASCADE, related_name="own_prices")
    model = models.ForeignKey(Model, models.PROTECT, related_name="own_prices")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "clients"
        ordering = ["client", "model__name", "pk"]
        verbose_name = "own price"
        constraints = [
            models.UniqueConstraint(
                fields=["client", "model"],
                name="own_price_once_per_model",
                violation_error_message="There is already an own price for this model.",
            ),
            *rates_in_range("own_price"),
        ]

    def __str__(self) -> str:
        return str(self.model)

    def clean(self) -> None:
        """Refuse a model that never serves the client. Raises ValidationError."""
        if self.client_id and self.model_id and not usable_by(self.client.owner_id).filter(pk=self.model_id).exists():
            raise ValidationError({"model": "This model serves other operators' clients only."})

    @property
    def card(self) -> RateCard:
        """What calls are quoted by."""
        return RateCard({DEFAULT_TIER: (rates_of(self),)})


def usable_by(owner_id: int | None) -> "models.QuerySet[Model]":
    """Return the models that clients of that operator (None: of nobody) may be served by."""
    return Model.objects.filter(models.Q(provider__owner=None) | models.Q(provider__owner=owner_id))
