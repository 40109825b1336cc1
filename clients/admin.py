"""Admin pages of clients: the list and what is done to many of them, the profile, status and plan of one."""

import re
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Max, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminTextInputWidget,
)

from clients.audit_admin import AuditEntryAdmin
from clients.client_filters import SilentFilter, StatusFilter
from clients.editing import claim
from clients.exporting import export
from clients.import_page import import_view
from clients.limit_forms import LimitInline
from clients.markup import format_markup, parse_markup
from clients.models import Client, ClientQuerySet, Plan, default_time_zone, no_control_characters, time_zones
from clients.own_price_forms import OwnPriceInline
from clients.plan_admin import PlanAdmin
from clients.plans import behind, change_plan, deviates, deviations, recognise_plan
from clients.team_admin import TeamAdmin

__all__ = ["AuditEntryAdmin", "ClientAdmin", "PlanAdmin", "TeamAdmin"]  # those of Django's discovery

Status = Client.Status
VERBS = {Status.ACTIVE: "Activate", Status.SUSPENDED: "Suspend", Status.INACTIVE: "Archive"}
MOST_AT_ONCE = 1_000
"""Clients that are suspended, or whose plan is changed, in one go."""
_NAMED = 10  # of many clients, on a page that asks about them
_ID = re.compile(r"[0-9]{1,18}")  # longer ones are no ids: no database holds them


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
    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Client
        fields = (
            *("name", "email", "company", "phone", "owner", "provider"),
            *("markup_bp", "time_zone", "cycle_start_day", "notes"),
            *("brake_per_minute", "brake_times", "brake_action"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["markup_bp"] = format_markup(self.instance.markup_bp)
        self.initial["seen_version"] = self.instance.version

    def clean_markup_bp(self) -> int:
        """Return the percentage in basis points; the model says how much is allowed."""
        return parse_markup(self.cleaned_data["markup_bp"])

    def clean(self) -> dict[str, Any]:
        """Refuse what was entered on a page that somebody else's change has overtaken."""
        data = super().clean() or self.cleaned_data
        if self.instance.pk:
            seen = data.get("seen_version")
            try:
                with transaction.atomic():
                    claim(self.instance, -1 if seen is None else seen)  # a page that tells no version is out of date
            except ValidationError:
                self._now_seen()
                raise
        return data

    def _now_seen(self) -> None:
        """Let the page that tells of the other change be saved over it: its reader knows by then."""
        now = Client.objects.values_list("version", flat=True).get(pk=self.instance.pk)
        sent = self.data.copy()  # type: ignore[attr-defined]  # what a browser sends is a QueryDict
        sent[self.add_prefix("seen_version")] = str(now)
        self.data = sent


class PlanChoiceForm(forms.Form):
    """Which plan."""

    plan = forms.ModelChoiceField(
        Plan.objects.prefetch_related("limits"),
        required=False,
        blank=True,  # else radio buttons offer no empty choice
        empty_label="None: they keep the limits and the markup they have",
        widget=UnfoldAdminRadioSelectWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan"].label_from_instance = in_words  # type: ignore[attr-defined]


class ReasonForm(forms.Form):
    """Why a client is suspended or archived; for the team, callers do not see it."""

    reason = forms.CharField(
        max_length=200, required=False, validators=[no_control_characters], widget=UnfoldAdminTextInputWidget
    )


def _counted(clients: int) -> str:
    return f"{clients:,} client{'s'[: clients != 1]}"


def in_words(plan: Plan) -> str:
    """Return a plan with all that it gives: `Basic: 100 requests a day, markup 25 %`."""
    terms = [*(str(limit) for limit in plan.limits.all()), f"markup {format_markup(plan.markup_bp)} %"]
    return f"{plan}: {', '.join(terms)}"


@admin.register(Client)
class ClientAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Clients; a client with keys or usage is archived, never deleted."""

    form = ClientForm
    inlines = [LimitInline, OwnPriceInline]  # the keys app adds its own
    list_display: tuple[Any, ...] = (*("name", "status_shown", "plan_named", "limits_shown", "last_call", "owner"),)
    list_filter: tuple[Any, ...] = (StatusFilter, "plan", SilentFilter, "owner")
    list_select_related = ("owner", "plan")
    list_per_page = 50
    search_fields = ("name", "email", "company")
    actions = ("suspend", "activate", "choose_plan", "export_csv")
    adds_to_list: ClassVar[list[Callable[[QuerySet[Client]], QuerySet[Client]]]] = []
    """What apps that clients knows nothing of read for the columns that they add."""
    readonly_fields = ("created_at", "plan_shown")
    fieldsets = (
        ("Profile", {"fields": ("name", "email", "company", "phone", "owner", "notes", "created_at")}),
        (
            "Terms",
            {"fields": ("plan_shown", "markup_bp", "time_zone", "cycle_start_day", "provider", "seen_version")},
        ),
        (
            "Runaway brake",
            {"fields": ("brake_per_minute", "brake_times", "brake_action")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        """Fetch limits and plans of the whole page at once."""
        clients: QuerySet[Client] = super().get_queryset(request)
        clients = clients.prefetch_related("limits", "plan__limits").annotate(last_call=Max("keys__use__last_used_at"))
        return reduce(lambda so_far, add: add(so_far), self.adds_to_list, clients)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out deletion in bulk: Django would read all usage of the selected clients to list it."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def get_urls(self) -> list[URLPattern]:
        """Add the pages for the import, and for status and plan."""
        view = self.admin_site.admin_view
        return [
            path("import/", view(self.import_view), name="clients_client_import"),
            path("plan/", view(self.plan_view), name="clients_client_plan"),
            path("suspend/", view(self.suspend_view), name="clients_client_suspend"),
            path("<int:client_id>/status/<str:status>/", view(self.status_view), name="clients_client_status"),
            *super().get_urls(),
        ]

    # --- columns ---

    @admin.display(description="status", ordering="status")
    def status_shown(self, client: Client) -> str:
        """Return the status with its reason."""
        status = client.get_status_display()
        return f"{status}: {client.status_reason}" if client.status_reason else status

    @admin.display(description="plan", ordering="plan__name")
    def plan_named(self, client: Client) -> str:
        """Return the plan, and whether the client has other terms than it gives."""
        if client.plan is None or not deviations(client):
            return client.plan.name if client.plan else "none"
        return f"{client.plan} ({'has changed since' if behind(client) else 'deviates'})"

    @admin.display(description="plan")
    def plan_shown(self, client: Client) -> str:
        """Return the same, and how the client deviates."""
        named = self.plan_named(client)
        return f"{named}: {'; '.join(deviations(client))}" if client.plan and deviates(client) else named

    @admin.display(description="limits")
    def limits_shown(self, client: Client) -> str:
        """Return all limits in words."""
        return ", ".join(str(limit) for limit in client.limits.all()) or "none"

    @admin.display(description="last call", ordering="last_call", empty_value="never")
    def last_call(self, client: Any) -> datetime | None:
        """Return when it called last, to the minute."""
        moment: datetime | None = client.last_call
        return moment

    # --- what is done to many ---

    @admin.action(description="Suspend…", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: ClientQuerySet) -> HttpResponse | None:
        """Ask why."""
        return self._go_on_with(request, queryset, "suspend")

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: ClientQuerySet) -> None:
        """Let the calls through again."""
        chosen = list(queryset.exclude(status=Status.ACTIVE))
        for client in chosen:
            client.activate()
        messages.success(request, f"{_counted(len(chosen))} activated.")

    @admin.action(description="Change plan…", permissions=["change"])
    def choose_plan(self, request: HttpRequest, queryset: ClientQuerySet) -> HttpResponse | None:
        """Ask which."""
        return self._go_on_with(request, queryset, "plan")

    @admin.action(description="Export as CSV", permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: ClientQuerySet) -> HttpResponse:
        """Send the clients as a file."""
        found = Client.objects.filter(pk__in=queryset.values("pk")).order_by("name")
        answer = StreamingHttpResponse(export(found), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="clients-{timezone.localdate():%Y-%m-%d}.csv"'
        return answer  # type: ignore[return-value]  # Django takes any response

    # --- pages ---

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the one page on which a client is taken on, its key with it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:onboard"))

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Take many on from a file."""
        return import_view(self, request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the status above the profile, with what can be done about it."""
        extra = dict(extra_context or {})
        client: Client | None = self.get_object(request, unquote(object_id))
        if client is not None:
            others = [status for status in Status if status != client.status]
            extra["status_acts"] = [(status.value, VERBS[status]) for status in others]
            extra["what_happens"] = Status(client.status).what_happens
            extra["show_delete"] = not client.has_history()  # else it is archived
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra)
        return answer

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Once limits are saved, see whether the client's terms are its plan's again."""
        super().save_related(request, form, formsets, change)
        recognise_plan(Client.objects.select_related("plan").get(pk=form.instance.pk))

    def status_view(self, request: HttpRequest, client_id: int, status: str) -> HttpResponse:
        """Tell what will happen at once, ask for a reason, and do it."""
        client = self._changeable(request, client_id)
        if status not in Status.values:
            raise Http404
        wanted = Status(status)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            match wanted:
                case Status.ACTIVE:
                    client.activate()
                case Status.SUSPENDED:
                    client.suspend(reason)
                case Status.INACTIVE:
                    client.archive(reason)
            messages.success(request, f"{client} is {wanted.label.lower()}.")
            return HttpResponseRedirect(reverse("admin:clients_client_change", args=[client.pk]))
        context = {
            "original": client,
            "title": f"{VERBS[wanted]} {client}",
            "text": wanted.what_happens,
            "button": VERBS[wanted],
            "form": form if wanted is not Status.ACTIVE else None,
            "back": reverse("admin:clients_client_change", args=[client.pk]),
        }
        return self._page(request, "ask", context)

    def suspend_view(self, request: HttpRequest) -> HttpResponse:
        """Tell what will happen at once to one or many that are active, ask why, and do it."""
        active = [client for client in self._chosen(request) if client.status == Status.ACTIVE]
        back = reverse("admin:clients_client_changelist")
        if not active:
            messages.error(request, "None of these clients is active, so there is nothing to suspend.")
            return HttpResponseRedirect(back)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            chosen = Client.objects.filter(pk__in=[client.pk for client in active])
            messages.success(request, f"{_counted(chosen.suspend(form.cleaned_data['reason']))} suspended.")
            return HttpResponseRedirect(back)
        few = ", ".join(client.name for client in active[:_NAMED])
        more = f" and {len(active) - _NAMED:,} more" if len(active) > _NAMED else ""
        context = {
            "title": f"Suspend {_counted(len(active))}",
            "text": f"{few}{more}. {Status.SUSPENDED.what_happens}",
            "button": "Suspend",
            "form": form,
            "back": back,
        }
        return self._page(request, "ask", context)

    def plan_view(self, request: HttpRequest) -> HttpResponse:
        """Give one or many clients a plan; what they had of their own is gone with it."""
        chosen = self._chosen(request)
        form = PlanChoiceForm(
            request.POST if request.method == "POST" else None,
            initial={"plan": chosen[0].plan_id if len(chosen) == 1 else None},
        )
        one = chosen[0] if len(chosen) == 1 else None
        back = (
            reverse("admin:clients_client_change", args=[one.pk]) if one else reverse("admin:clients_client_changelist")
        )
        if form.is_valid():
            plan = form.cleaned_data["plan"]
            change_plan(Client.objects.filter(pk__in=[client.pk for client in chosen]), plan)
            messages.success(request, f"{_counted(len(chosen))}: plan {plan or 'none'}.")
            return HttpResponseRedirect(back)
        whom = str(one) if one else f"{len(chosen)} clients"
        context = {
            "original": one,
            "title": f"Plan of {whom}",
            "text": "The plan's limits and markup take the place of their own, from the next call on. What was used of "
            "a limit in this cycle still counts.",
            "button": "Change the plan",
            "form": form,
            "back": back,
        }
        return self._page(request, "ask", context)

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

    def _go_on_with(self, request: HttpRequest, queryset: ClientQuerySet, page: str) -> HttpResponse | None:
        """Lead to the page that asks about the chosen ones."""
        ids = list(queryset.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(ids) > MOST_AT_ONCE:
            messages.error(request, f"Choose {MOST_AT_ONCE:,} clients at most.")
            return None
        return HttpResponseRedirect(f"{reverse(f'admin:clients_client_{page}')}?ids={','.join(map(str, ids))}")

    def _chosen(self, request: HttpRequest) -> list[Client]:
        """Return the clients that such a page is about and its reader may change. Raises Http404 where none is."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        ids = [int(part) for part in request.GET.get("ids", "").split(",") if _ID.fullmatch(part)]
        shown = self.get_queryset(request).filter(pk__in=ids[:MOST_AT_ONCE])
        chosen = [client for client in shown if self.has_change_permission(request, client)]
        if not chosen:
            raise Http404
        return chosen

    def _changeable(self, request: HttpRequest, client_id: int) -> Client:
        """Return the client. Raises Http404 where there is none for this reader, PermissionDenied to mere readers."""
        client: Client | None = self.get_object(request, str(client_id))
        if client is None:
            raise Http404
        if not self.has_change_permission(request, client):
            raise PermissionDenied
        return client

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        whole = self.admin_site.each_context(request) | {"opts": self.opts}
        return TemplateResponse(request, f"admin/clients/client/{name}.html", whole | context)
