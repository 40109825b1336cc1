"""A price per token: integer picodollars in the database, USD per 1M tokens in forms."""

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from pricing.money import PICO, format_dollars, from_dollars, rate_from_million, rate_to_million

DEAREST_RATE = PICO
"""Picodollars per token: $1 a token. Keeps the cost of a call of 9 million tokens within a 64-bit column."""


class RateFormField(forms.DecimalField):
    """USD per 1M tokens, at most six decimals; cleans to picodollars per token."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"decimal_places": 6, "max_digits": 13, "min_value": 0, "max_value": 10**6})

    def prepare_value(self, value: Any) -> Any:
        """Show a stored rate as USD per 1M tokens; text that the user typed stays as it is."""
        return f"{rate_to_million(value):f}" if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """Return picodollars per token, or None for an empty optional field."""
        dollars: Decimal | None = super().clean(value)
        return None if dollars is None else rate_from_million(dollars)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare the typed USD with the stored rate, each in its own unit."""
        if data in self.empty_values:
            return initial is not None
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class RateField(models.BigIntegerField):  # type: ignore[type-arg]  # generic in the stubs only
    """Picodollars per token, 0 to $1."""

    default_validators = [MinValueValidator(0), MaxValueValidator(DEAREST_RATE)]

    def formfield(self, **kwargs: Any) -> Any:
        """Return the form field that shows USD per 1M tokens."""
        return models.Field.formfield(
            self, **{"form_class": RateFormField, "help_text": self.help_text or "USD per 1M tokens", **kwargs}
        )


class DollarsFormField(forms.DecimalField):
    """USD, at most twelve decimals; cleans to picodollars."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"decimal_places": 12, "max_digits": 18, "min_value": 0, "max_value": 10**6} | kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Show stored picodollars as USD; text that the user typed stays as it is."""
        return format_dollars(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """Return picodollars, 0 for an empty optional field."""
        dollars: Decimal | None = super().clean(value)
        return 0 if dollars is None else from_dollars(dollars)
