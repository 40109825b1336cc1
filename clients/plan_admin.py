"""Admin pages of plans: presets of limits and markup, and the clients that follow them."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from clients.limit_forms import PlanLimitInline
from clients.markup import format_markup, parse_markup
from clients.models import Client, Plan
from clients.plans import adopt_plan_changes, followers


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A plan; its markup is entered in percent."""

    markup_bp = forms.CharField(
        max_length=12,
        initial="0",
        widget=UnfoldAdminTextInputWidget,
        label="Markup (%)",
        help_text="On top of what the provider takes: 25 charges a quarter more, -10 a tenth less.",
    )

    class Meta:
        model = Plan
        fields = ("name", "description", "markup_bp")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["markup_bp"] = format_markup(self.instance.markup_bp)

    def clean_markup_bp(self) -> int:
        """Return the percentage in basis points; the model says how much is allowed."""
        return parse_markup(self.cleaned_data["markup_bp"])


@admin.register(Plan)
class PlanAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Plans. A plan that changes leaves its clients alone until somebody gives them the new terms."""

    form = PlanForm
    inlines = [PlanLimitInline]
    list_display = ("name", "limits_shown", "markup_shown", "clients_count", "description")
    search_fields = ("name", "description")
    actions = ("adopt",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        """Fetch limits and count clients of the whole page at once."""
        plans: QuerySet[Plan] = super().get_queryset(request)
        current = Count("clients", filter=~Q(clients__status=Client.Status.INACTIVE))
        return plans.prefetch_related("limits").annotate(clients_count=current)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Tell what the change means to the clients that have the plan."""
        super().save_related(request, form, formsets, change)
        count = len(followers(form.instance)) if change else 0
        if count:
            messages.info(
                request,
                f"{count} client{'s'[: count != 1]} still {'have' if count != 1 else 'has'} the terms of before. To "
                "give them the new ones, tick the plan in the list and choose “Give clients the terms of today”.",
            )

    @admin.action(description="Give clients the terms of today", permissions=["change"])
    def adopt(self, request: HttpRequest, queryset: QuerySet[Plan]) -> None:
        """Copy the terms to the clients that follow the plans; those that deviate keep theirs."""
        for plan in queryset:
            count = adopt_plan_changes(plan)
            messages.success(request, f"{plan}: {count} client{'s'[: count != 1]} got the terms of today.")

    @admin.display(description="limits")
    def limits_shown(self, plan: Plan) -> str:
        """Return all limits in words."""
        return ", ".join(str(limit) for limit in plan.limits.all()) or "none"

    @admin.display(description="markup", ordering="markup_bp")
    def markup_shown(self, plan: Plan) -> str:
        """Return percent."""
        return f"{format_markup(plan.markup_bp)} %"

    @admin.display(description="clients", ordering="clients_count")
    def clients_count(self, plan: Any) -> int:
        """Return how many clients have it that are not archived."""
        return int(plan.clients_count)
