"""Admin pages of clients, with their limits on the same page."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldAdminTextInputWidget

from clients.audit_admin import AuditEntryAdmin
from clients.limits import amount_for_input, parse_amount
from clients.models import Client, Limit, default_time_zone, time_zones
from clients.onboarding import format_markup, parse_markup
from clients.team_admin import TeamAdmin

__all__ = [
    "AuditEntryAdmin",
    "ClientAdmin",
    "ClientForm",
    "LimitForm",
    "LimitInline",
    "TeamAdmin",
]  # those of Django's discovery


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A limit whose amount is entered as people say it: credits in USD, all others as a count."""

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

    model = Limit
    form = LimitForm
    fields = ("metric", "amount", "cycle", "meaning")
    readonly_fields = ("meaning",)
    extra = 1

    @admin.display(description="that is")
    def meaning(self, limit: Limit) -> str:
        """Return the limit in words."""
        return str(limit) if limit.pk else ""


class ClientForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A client; its markup is entered in percent and its time zone chosen from a list."""

    markup_bp = forms.CharField(
        max_length=12,
        initial="0",
        widget=UnfoldAdminTextInputWidget,
        label="Markup (%)",
        help_text="On top of what the provider takes: 25 charges a quarter more, -10 a tenth less.",
    )
    time_zone = forms.ChoiceField(
        choices=lambda: [(name, name) for name in sorted(time_zones())],
        initial=default_time_zone,
        widget=UnfoldAdminSelect2Widget,
        help_text="Days and longer cycles follow the calendar there.",
    )

    class Meta:
        model = Client
        fields = (
            "name",
            "email",
            "company",
            "phone",
            "status",
            "status_reason",
            "owner",
            "markup_bp",
            "time_zone",
            "cycle_start_day",
            "notes",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["markup_bp"] = format_markup(self.instance.markup_bp)

    def clean_markup_bp(self) -> int:
        """Return the percentage in basis points; the model says how much is allowed."""
        return parse_markup(self.cleaned_data["markup_bp"])


@admin.register(Client)
class ClientAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Clients; a client with keys or usage is archived, never deleted."""

    form = ClientForm
    inlines = [LimitInline]  # the keys app adds its own
    list_display = ("name", "company", "status", "limits_shown", "markup_shown", "time_zone", "owner")
    list_filter = ("status", "owner")
    list_select_related = ("owner",)
    search_fields = ("name", "email", "company")
    readonly_fields = ("created_at",)
    fieldsets = (
        (None, {"fields": ("name", "status", "status_reason")}),
        ("Profile", {"fields": ("email", "company", "phone", "owner", "notes", "created_at")}),
        ("Billing", {"fields": ("markup_bp", "time_zone", "cycle_start_day")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        """Fetch the limits of the whole page at once."""
        clients: QuerySet[Client] = super().get_queryset(request)
        return clients.prefetch_related("limits")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out deletion in bulk: Django would read all usage of the selected clients to list it."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Delete a client that has neither keys nor usage; for any other say what to do instead."""
        client = self.get_object(request, unquote(object_id))
        if client is not None and self.has_delete_permission(request, client) and client.has_history():
            messages.error(
                request,
                f"{client} has keys or usage, which stay on record, so it can't be deleted. Archive it instead: "
                "its calls are refused from then on.",
            )
            return HttpResponseRedirect(reverse("admin:clients_client_change", args=[client.pk]))
        answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        return answer

    @admin.display(description="limits")
    def limits_shown(self, client: Client) -> str:
        """Return all limits in words."""
        return ", ".join(str(limit) for limit in client.limits.all()) or "none"

    @admin.display(description="markup", ordering="markup_bp")
    def markup_shown(self, client: Client) -> str:
        """Return percent."""
        return f"{format_markup(client.markup_bp)} %"
