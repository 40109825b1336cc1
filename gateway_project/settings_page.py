"""The settings page: how this installation does and is set up, for all who work here; what owners change of it."""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from clients import access
from clients.agency import Agency, agency, change_agency
from clients.logo_pictures import LARGEST, keep
from clients.logos import Logo
from clients.models import default_time_zone
from gateway_project.health import processes, version
from gateway_project.mail_test import send_test_mail, server
from keys.show_once import base_url
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately
from pricing.models import Provider
from usage.archive.reading import archive


class AgencyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """What owners change. What the environment demands already is not asked."""

    tax_percent = forms.DecimalField(
        label="Tax rate (%)",
        required=False,
        min_value=0,
        max_value=100,
        max_digits=5,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget,
    )
    new_logo = forms.FileField(
        label="Logo",
        required=False,
        max_length=200,
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": "image/png,image/jpeg"}),
        help_text=f"PNG or JPEG, up to {LARGEST // 1024} kB. On statements from now on, and on clients' pages.",
    )
    without_logo = forms.BooleanField(label="No logo any more", required=False, widget=UnfoldBooleanWidget)

    class Meta:
        model = Agency
        fields = ("name", "address", "tax_label", "record_months", "second_factor_required")
        widgets = {
            "name": UnfoldAdminTextInputWidget,
            "address": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
            "tax_label": UnfoldAdminTextInputWidget,
            "record_months": UnfoldAdminIntegerFieldWidget,
            "second_factor_required": UnfoldBooleanWidget,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tax_percent"].initial = Decimal(self.instance.tax_points) / 100
        self.order_fields(["name", "address", "new_logo", "without_logo", "tax_label", "tax_percent"])
        if self.instance.logo is None:
            del self.fields["without_logo"]
        if settings.REQUIRE_SECOND_FACTOR:
            del self.fields["second_factor_required"]

    def clean_new_logo(self) -> Logo | None:
        """Return the picture, drawn anew. Raises ValidationError."""
        file = self.cleaned_data["new_logo"]
        return keep(file.read(LARGEST + 1)) if file else None

    def values(self) -> dict[str, Any]:
        """Return what is to be changed, by field of the agency."""
        values = dict(self.cleaned_data)
        new, without = values.pop("new_logo"), values.pop("without_logo", False)
        values["tax_points"] = int((values.pop("tax_percent") or 0) * 100)
        return values | ({"logo": new} if new or without else {})


@never_cache
def settings_view(request: HttpRequest) -> HttpResponse:
    """Show the settings; take those of the agency from owners."""
    may_change = access.may(request.user, "change", Agency)
    form = AgencyForm(request.POST or None, request.FILES or None, instance=agency())
    if request.method == "POST":
        if not may_change:
            raise PermissionDenied
        if "second_factor_required" in form.changed_data and not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        if form.is_valid():
            change_agency(**form.values())
            messages.success(request, "Saved.")
            return HttpResponseRedirect(reverse("admin:settings"))
    context = {
        **admin.site.each_context(request),
        "title": "Settings",
        "form": form,
        "may_change": may_change,
        "agency": agency(),
        "second_factor_by_environment": settings.REQUIRE_SECOND_FACTOR,
        "processes": processes(timezone.now()),
        "providers": _providers(request.user),
        "mail_server": server(),
        "mail_from": settings.DEFAULT_FROM_EMAIL,
        "public_url": settings.PUBLIC_URL,
        "base_url": base_url(request),
        "time_zone": default_time_zone(),
        "database": "SQLite" if settings.EMBEDDED else "PostgreSQL",
        "shared_store": bool(settings.REDIS_URL),
        "private_providers": settings.ALLOW_PRIVATE_PROVIDERS,
        "largest_call_mib": settings.MAX_BODY_BYTES / 2**20,
        "archive": archive(),
        "version": version(),
    }
    return TemplateResponse(request, "admin/settings.html", context)


@require_POST
def test_mail_view(request: HttpRequest) -> HttpResponse:
    """Send a test mail to the owner who asks."""
    if not access.may(request.user, "change", Agency) or not isinstance(request.user, User):
        raise PermissionDenied
    outcome = send_test_mail(request.user)
    messages.add_message(request, messages.SUCCESS if outcome.ok else messages.ERROR, outcome.told)
    return HttpResponseRedirect(reverse("admin:settings"))


def _providers(reader: access.Person) -> list[dict[str, Any]]:
    """Return the providers that serve everybody's clients, as far as the reader sees providers."""
    shared: QuerySet[Provider] = Provider.objects.filter(
        owner=None, billed_to_client=False, kind=Provider.Kind.OPENAI
    ).order_by("pk")
    counted = access.visible(reader, shared).annotate(
        models_count=Count("models"), models_on=Count("models", filter=Q(models__enabled=True))
    )
    return [{"row": row, "may_change": access.may(reader, "change", row)} for row in counted]
