"""What is asked before a key is issued, regenerated or revoked."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from clients import access
from clients.limit_forms import MOST_ROWS, DeviationForm
from clients.limits import parse_limit
from clients.models import Client
from keys import lifecycle
from pricing.models import Model


class IssueForm(forms.Form):
    """What a new key is for, and how long it lasts; `user` chooses among the clients that he may change."""

    client = forms.ModelChoiceField(Client.objects.none(), widget=UnfoldAdminSelectWidget)
    name = forms.CharField(
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is used for, such as the n8n instance that will hold it.",
    )
    models = forms.ModelMultipleChoiceField(
        Model.objects.none(),
        required=False,
        label="Models",
        widget=UnfoldAdminSelect2MultipleWidget(
            attrs={"data-placeholder": "All models"}
        ),  # also its search's only name
        help_text="The only ones that may be used with it. None chosen: all.",
    )
    expires_in = forms.CharField(
        max_length=20,
        required=False,
        label="Lasts",
        widget=UnfoldAdminTextInputWidget,
        help_text="Such as 12h, 30d or 8w. Leave empty for ever.",
    )

    def __init__(self, *args: Any, user: access.Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        open_clients = Client.objects.exclude(status=Client.Status.INACTIVE)
        self.fields["client"].queryset = access.visible(user, open_clients, "change")  # type: ignore[attr-defined]
        models = access.visible(user, Model.objects.filter(enabled=True).order_by("name"))
        self.fields["models"].queryset = models  # type: ignore[attr-defined]

    def clean_expires_in(self) -> object:
        """Return the time, or None for ever."""
        text: str = self.cleaned_data["expires_in"]
        return lifecycle.parse_duration(text) if text else None


class RegenerateForm(forms.Form):
    """How long the old key works on."""

    grace = forms.TypedChoiceField(
        label="The old key",
        choices=[
            ("0", "ends at once (choose this if it leaked)"),
            ("1h", "works for 1 hour more"),
            ("24h", "works for 24 hours more"),
            ("7d", "works for 7 days more"),
        ],
        coerce=lifecycle.parse_duration,
        widget=UnfoldAdminRadioSelectWidget,
    )


class RevokeForm(forms.Form):
    """Why a key ends."""

    reason = forms.CharField(max_length=200, required=False, widget=UnfoldAdminTextInputWidget)


class LimitOfKeyForm(DeviationForm):
    """One limit of a new key; left empty it says nothing. Sessions are the client's: a key has no limit on them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        metric = self.fields["metric"]
        metric.choices = [choice for choice in metric.choices if choice[0] != "sessions"]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Ask for an amount: a key has no plan whose limit could be lifted."""
        data = super().clean()
        if self.written:
            try:
                parse_limit(self.written)
            except ValidationError as error:
                raise ValidationError({"amount": error}) from error
        return data


LimitsOfKeyFormSet = forms.formset_factory(
    LimitOfKeyForm, extra=3, max_num=MOST_ROWS, absolute_max=MOST_ROWS, validate_max=True
)
