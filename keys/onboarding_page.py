"""The one page on which a client is taken on: profile, terms and first key, by one submit."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminEmailInputWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from clients import access
from clients.admin import in_words
from clients.limit_forms import DeviationFormSet
from clients.markup import parse_markup
from clients.models import Client, Plan, default_time_zone, no_control_characters, time_zones
from keys.lifecycle import parse_duration
from keys.models import APIKey
from keys.onboarding import onboard_with_key
from keys.show_once import keep_to_show

LASTS = [("", "for ever"), ("30d", "30 days"), ("90d", "90 days"), ("180d", "180 days"), ("365d", "a year")]


def _text(label: str, length: int, **options: Any) -> forms.CharField:
    return forms.CharField(label=label, max_length=length, widget=UnfoldAdminTextInputWidget, **options)


class OnboardingForm(forms.Form):
    """All that is asked about a new client, but for limits of its own."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    name = _text("Name", 200)
    email = forms.EmailField(label="E-mail", required=False, widget=UnfoldAdminEmailInputWidget)
    company = _text("Company", 200, required=False)
    phone = _text("Phone", 50, required=False)
    plan = forms.ModelChoiceField(
        Plan.objects.prefetch_related("limits"),
        required=False,
        empty_label="None: only the limits given below",
        widget=UnfoldAdminSelectWidget,
    )
    markup = _text("Markup (%)", 12, required=False, help_text="On the provider's cost. Empty: the plan's, or none.")
    cycle_start_day = forms.IntegerField(
        label="Cycle starts on day",
        min_value=1,
        max_value=31,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Of the month; 31 is the last day.",
    )
    time_zone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(name, name) for name in sorted(time_zones())],
        initial=default_time_zone,
        widget=UnfoldAdminSelect2Widget,
        help_text="Days and months follow its calendar.",
    )
    key_name = _text("Name of the key", 200, initial="n8n", required=False, validators=[no_control_characters])
    expires_in = forms.ChoiceField(label="Works", choices=LASTS, required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan"].label_from_instance = in_words  # type: ignore[attr-defined]
        self.fields["name"].widget.attrs["autofocus"] = True

    def clean_markup(self) -> int | None:
        """Return basis points, or None for the plan's."""
        text: str = self.cleaned_data["markup"]
        return parse_markup(text) if text else None

    def take(self, error: ValidationError) -> None:
        """Show what refused the client where it belongs."""
        told = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
        for name, said in told.items():
            place = "markup" if name == "markup_bp" else name
            self.add_error(place if place in self.fields else None, list(said))

    def onboard(self, limits: Iterable[str], owner: Any) -> tuple[Client, APIKey, str | None]:
        """Do `onboard_with_key`. Raises ValidationError."""
        data = self.cleaned_data
        profile = {name: data[name] for name in ("email", "company", "phone", "cycle_start_day", "time_zone")}
        if data["markup"] is not None:
            profile["markup_bp"] = data["markup"]
        lasts = parse_duration(data["expires_in"]) if data["expires_in"] else None
        return onboard_with_key(
            data["token"],
            data["name"],
            limits,
            data["plan"],
            key_name=data["key_name"],
            expires_in=lasts,
            owner=owner,
            **profile,
        )


def onboard_view(request: HttpRequest) -> HttpResponse:
    """Ask, take the client on, and go to the page that shows its key."""
    if not (access.may(request.user, "add", Client) and access.may(request.user, "add", APIKey)):
        raise PermissionDenied
    sent = request.POST if request.method == "POST" else None
    form = OnboardingForm(sent, initial={"token": uuid4()})
    limits = DeviationFormSet(sent, prefix="limits")
    if form.is_valid() & limits.is_valid():
        try:
            client, key, plain = form.onboard([row.written for row in limits.forms if row.written], request.user)
        except ValidationError as error:
            form.take(error)
        else:
            return _taken_on(request, client, key, plain)
    context = {
        **admin.site.each_context(request),
        "title": "New client",
        "form": form,
        "limits": limits,
        "opts": Client._meta,
        "no_plans": not Plan.objects.exists(),
    }
    return TemplateResponse(request, "admin/keys/onboard/form.html", context)


def _taken_on(request: HttpRequest, client: Client, key: APIKey, plain: str | None) -> HttpResponse:
    if plain is None:
        messages.info(request, f"This form was sent before: {client} is here already.")
        return HttpResponseRedirect(reverse("admin:clients_client_change", args=[client.pk]))
    messages.success(request, f"{client} is taken on.")
    return keep_to_show(request, key, plain)
