"""The form of a client's own prices, on the client's page: rates in USD per 1M tokens."""

from typing import Any

from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from clients.access import visible
from clients.own_prices import MOST, OwnPrice, usable_by
from pricing.fields import RateField
from pricing.rate_columns import RATES


class OwnPriceFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in the stubs only
    """All rows; the models to choose from are read once for all of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = usable_by(self.instance.owner_id).select_related("provider").order_by("name", "provider__name")
        self._choices = [("", "–"), *((model.pk, f"{model.name} ({model.provider.name})") for model in models)]

    def add_fields(self, form: Any, index: int | None) -> None:
        """Give a row the choices that all have."""
        super().add_fields(form, index)
        form.fields["model"].choices = self._choices


class OwnPriceInline(TabularInline):  # type: ignore[misc]  # unfold ships no types
    """What the client pays for a model, in place of its markup."""

    model = OwnPrice
    formset = OwnPriceFormSet
    fields = ("model", *RATES)
    extra = 0
    max_num = MOST
    verbose_name_plural = "own prices, USD per 1M tokens (in place of the markup; empty: as input, or as output)"

    def get_queryset(self, request: HttpRequest) -> Any:
        """Fetch the models with the rows."""
        return visible(request.user, super().get_queryset(request).select_related("model"))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Leave out the help below each rate: the heading has it."""
        if isinstance(db_field, RateField):
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": 0})
            return db_field.formfield(widget=widget, help_text="", **kwargs)
        return super().formfield_for_dbfield(db_field, request, **kwargs)
