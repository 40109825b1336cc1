"""The rates of a price as columns: what a model's price list, a client's own prices and re-ratings have in common."""

from typing import Final

from django.db import models
from django.db.models import Q

from pricing.fields import DEAREST_RATE, RateField

_OPTIONAL: Final = ("cached_input", "cache_write", "audio_input", "audio_output")
RATES: Final = ("input", "output", *_OPTIONAL)
"""The kinds of tokens that have a price of their own."""


class RateColumns(models.Model):
    """Rates in picodollars per token; an empty one is that of the whole, input or output."""

    input = RateField()
    cached_input = RateField(null=True, blank=True)
    cache_write = RateField(null=True, blank=True)
    output = RateField()
    audio_input = RateField(null=True, blank=True)
    audio_output = RateField(null=True, blank=True)

    class Meta:
        abstract = True

    def effective(self, rate: str) -> int:
        """Return a rate, picodollars per token: an empty one is that of the whole, input or output."""
        given: int | None = getattr(self, rate)
        whole: int = self.output if rate == "audio_output" else self.input
        return whole if given is None else given


def rates_in_range(name: str) -> list[models.CheckConstraint]:
    """Return the constraints of a table with these columns, each named `<name>_<rate>_in_range`."""
    return [
        models.CheckConstraint(
            name=f"{name}_{rate}_in_range",
            condition=Q(**{f"{rate}__gte": 0, f"{rate}__lte": DEAREST_RATE})
            | (Q(**{f"{rate}__isnull": True}) if rate in _OPTIONAL else Q()),
        )
        for rate in RATES
    ]
