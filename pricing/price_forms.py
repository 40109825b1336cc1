"""The form of a new price: when it begins, and its rates in USD per 1M tokens."""

from collections.abc import Sequence
from datetime import datetime, time
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
)

from pricing.catalogue import UnsupportedPrice, rows_in_force
from pricing.fields import RateFormField
from pricing.models import Model, Price
from pricing.price_list import State, Step, first_of_next_month, history, new_price
from pricing.quotes import DEFAULT_TIER
from pricing.rate_columns import RATES

NOW, NEXT_MONTH, DAY = "now", "next_month", "day"
TIERS = (DEFAULT_TIER, "fast", "flex", "priority")
_MOST_STEPS = 5


def _rate_field(label: str, **options: Any) -> RateFormField:
    return RateFormField(label=label, widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": 0}), **options)


class _DayInput(forms.DateInput):
    """The browser's own calendar."""

    def __init__(self) -> None:
        super().__init__(attrs={"type": "date", "class": " ".join(INPUT_CLASSES)}, format="%Y-%m-%d")


class RatesForm(forms.Form):
    """The rates of one step."""

    input = _rate_field("Input")
    output = _rate_field("Output")
    cached_input = _rate_field("Cached input", required=False, help_text="Empty: as input.")
    cache_write = _rate_field("Cache write", required=False, help_text="Empty: as input.")
    audio_input = _rate_field("Audio input", required=False, help_text="Empty: as input.")
    audio_output = _rate_field("Audio output", required=False, help_text="Empty: as output.")


class NewPriceForm(RatesForm):
    """When a price begins, its tier, and its rates for calls that are not long."""

    when = forms.ChoiceField(label="In force", widget=UnfoldAdminRadioSelectWidget, initial=NOW)
    day = forms.DateField(label="Day", required=False, widget=_DayInput)
    service_tier = forms.ChoiceField(
        label="Service tier",
        choices=[(tier, tier) for tier in TIERS],
        initial=DEFAULT_TIER,
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("when", "day", "service_tier", *RATES)

    def __init__(self, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.next_month = first_of_next_month(now)
        zone = timezone.get_default_timezone_name()
        when = self.fields["when"]
        assert isinstance(when, forms.ChoiceField)
        when.choices = [
            (NOW, "from now"),
            (NEXT_MONTH, f"from the 1st of {self.next_month:%B}, 00:00 ({zone})"),
            (DAY, f"from another day, 00:00 ({zone}):"),
        ]

    def clean(self) -> dict[str, Any]:
        """Ask for the day where it is needed."""
        data = super().clean() or self.cleaned_data
        if data.get("when") == DAY and not data.get("day") and "day" not in self.errors:
            raise ValidationError({"day": "Say from which day."})
        return data

    @property
    def effective_from(self) -> datetime | None:
        """The moment chosen; None: now."""
        if self.cleaned_data["when"] == NEXT_MONTH:
            return self.next_month
        if self.cleaned_data["when"] == DAY:
            return datetime.combine(self.cleaned_data["day"], time(), timezone.get_default_timezone())
        return None

    def save(self, model: Model, steps: Sequence[Step], by: Any) -> list[Price]:
        """Make the price. Raises ValidationError; see `take`."""
        who = by if isinstance(by, User) else None
        return new_price(model, steps, self.effective_from, who, service_tier=self.cleaned_data["service_tier"])

    def take(self, error: ValidationError) -> None:
        """Show what refused the price where it belongs."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for name, errors in error.error_dict.items():
            place = "day" if name == "effective_from" else name if name in self.fields else None
            self.add_error(place, [message for one in errors for message in one.messages])


class LongCallsForm(RatesForm):
    """Rates for whole calls with more input than some number of tokens."""

    above_tokens = forms.IntegerField(
        label="Input above (tokens)", min_value=1, max_value=10**9, widget=UnfoldAdminIntegerFieldWidget
    )
    field_order = ("above_tokens", *RATES)


LongCallsFormSet = forms.formset_factory(
    LongCallsForm,
    extra=1,
    max_num=_MOST_STEPS,
    validate_max=True,
    absolute_max=_MOST_STEPS,
    can_delete=True,
    can_delete_extra=False,
)


def step_of(data: dict[str, Any]) -> Step:
    """Return the rates of a form's cleaned data."""
    return Step(**{rate: data[rate] for rate in RATES}, above_tokens=data.get("above_tokens", 0))


def long_calls(formset: Any) -> list[Step]:
    """Return the steps of a formset's filled rows."""
    rows = [form.cleaned_data for form in formset.forms if form.has_changed() or form.initial]
    return [step_of(row) for row in rows if row and not row.get("DELETE")]


def initial_rates(model: Model, now: datetime, *, from_catalogue: bool = False) -> list[dict[str, Any]]:
    """Return what a new price starts from, by step: the catalogue's rates, or those in force of the default tier."""
    prices: Sequence[Price] = ()
    if from_catalogue:
        try:
            prices = rows_in_force(model, now)
        except UnsupportedPrice:
            prices = ()
    if not prices:
        in_force = (
            version
            for version in history(model, now)
            if version.service_tier == DEFAULT_TIER and version.state is State.IN_FORCE
        )
        prices = next((version.rows for version in in_force), ())
    return [{name: getattr(price, name) for name in ("above_tokens", *RATES)} for price in prices]
