"""Prices that one client pays for a model, whatever the provider takes: in place of its markup.

Like the markup they are what holds now: a call is charged by what held when it began, and its record keeps that.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from pricing import audit
from pricing.models import Model
from pricing.quotes import DEFAULT_TIER, RateCard, rates_of
from pricing.rate_columns import RATES, RateColumns, rates_in_range

if TYPE_CHECKING:
    from clients.models import Client

MOST: Final = 200
"""Models that a client has a price of its own for."""


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


def set_own_prices(client: "Client", wanted: Mapping[int, Mapping[str, int | None]]) -> None:
    """Give `client` these prices, rates by the id of the model, and no others, wholly or not at all.

    Raises ValidationError, also for a model that never serves the client.
    """
    there = {price.model_id: price for price in client.own_prices.all()}
    with transaction.atomic():
        for model_id, rates in wanted.items():
            price = there.pop(model_id, None) or OwnPrice(client=client, model_id=model_id)
            for name in RATES:
                setattr(price, name, rates.get(name))
            price.full_clean()
            price.save()
        for price in there.values():
            price.delete()


def usable_by(owner_id: int | None) -> "models.QuerySet[Model]":
    """Return the models that clients of that operator (None: of nobody) may be served by."""
    return Model.objects.filter(models.Q(provider__owner=None) | models.Q(provider__owner=owner_id))
