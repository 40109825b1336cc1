"""The page where people choose the zone that the back office shows times in."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminSelect2Widget

from clients import access
from clients.models import default_time_zone, time_zones


def _choices() -> list[tuple[str, str]]:
    return [
        ("", f"As the browser says, or else {default_time_zone()}"),
        *((name, name) for name in sorted(time_zones())),
    ]


class TimeZoneForm(forms.Form):
    """A zone, or none."""

    time_zone = forms.ChoiceField(choices=_choices, required=False, widget=UnfoldAdminSelect2Widget)


def time_zone_view(request: HttpRequest) -> HttpResponse:
    """Ask for the zone, and keep it with the person."""
    user: Any = request.user
    form = TimeZoneForm(request.POST or None, initial={"time_zone": access.chosen_time_zone(user)})
    if request.method == "POST" and form.is_valid():
        access.set_time_zone(user, form.cleaned_data["time_zone"])
        messages.success(request, "Times are shown so from now on.")
        return HttpResponseRedirect(reverse("admin:time_zone"))
    context = {**admin.site.each_context(request), "title": "Time zone", "form": form}
    return TemplateResponse(request, "admin/time_zone.html", context)
