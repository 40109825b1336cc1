"""Forms of limits: amounts as people say them, credits in USD and all others as a count."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from clients.limits import amount_for_input, parse_amount, parse_deviation
from clients.models import Limit, LimitFields, PlanLimit

MOST_ROWS = 24
"""One for each metric and cycle."""


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A limit of a client or of a plan."""

    amount = forms.CharField(
        max_length=60, widget=UnfoldAdminTextInputWidget, help_text="Credits in USD, all others as a whole number."
    )

    class Meta:
        model = Limit
        fields = ("metric", "amount", "cycle")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["amount"] = amount_for_input(self.instance.metric, self.instance.amount)

    def clean(self) -> dict[str, Any]:
        """Turn the amount into what is stored, as its metric says."""
        data = super().clean() or self.cleaned_data
        if "amount" in data and "metric" in data:
            try:
                data["amount"] = parse_amount(data["metric"], data["amount"])
            except ValidationError as error:
                self.add_error("amount", error)
        return data


class LimitInline(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """The limits of a client."""

    model: type[LimitFields] = Limit
    form = LimitForm
    fields = ("metric", "amount", "cycle", "meaning")
    readonly_fields = ("meaning",)
    extra = 1

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer nothing as the first choice: unfold leaves it out, and a row that was left alone would be a limit."""
        kwargs["choices"] = db_field.get_choices(include_blank=True, blank_choice=[("", "–")])
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    @admin.display(description="that is")
    def meaning(self, limit: LimitFields) -> str:
        """Return the limit in words."""
        return str(limit) if limit.pk else ""


class PlanLimitInline(LimitInline):
    """The limits of a plan."""

    model = PlanLimit


class DeviationForm(forms.Form):
    """One limit of a new client, in place of its plan's for the same metric and cycle; left empty it says nothing."""

    metric = forms.ChoiceField(
        choices=[("", "–"), *Limit.Metric.choices], required=False, widget=UnfoldAdminSelectWidget
    )
    amount = forms.CharField(max_length=60, required=False, widget=UnfoldAdminTextInputWidget)
    cycle = forms.ChoiceField(
        choices=Limit.Cycle.choices, initial=Limit.Cycle.MONTH, required=False, widget=UnfoldAdminSelectWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, bound in self.fields.items():
            bound.widget.attrs["aria-label"] = f"{name.capitalize()} of a limit"

    def clean(self) -> dict[str, Any]:
        """Ask for the whole of it, and for an amount that is one."""
        data = super().clean() or self.cleaned_data
        if not data.get("metric") and not data.get("amount"):
            return data
        if not data.get("metric"):
            raise ValidationError({"metric": "Say what is limited."})
        if not data.get("amount"):
            raise ValidationError({"amount": "Say how much."})
        try:
            parse_deviation(self.written)
        except ValidationError as error:
            raise ValidationError({"amount": error}) from error
        return data

    @property
    def written(self) -> str:
        """The limit as `parse_deviation` reads it, '' where the row is empty."""
        data = self.cleaned_data
        return f"{data['metric']}={data['amount']}/{data['cycle']}" if data.get("metric") else ""


DeviationFormSet = forms.formset_factory(
    DeviationForm, extra=3, max_num=MOST_ROWS, absolute_max=MOST_ROWS, validate_max=True
)
