"""Admin pages of scheduled exports: what goes out when and to whom, what came of it, and the files."""

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget

from clients.invitations import mails_are_sent
from clients.models import time_zones
from usage.models import ExportRun, ExportSchedule
from usage.scheduled_exports import path_of, prune
from usage.schedules import OFFERED, run_now

SHOWN = 30
"""Runs on a schedule's page."""


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A schedule."""

    group_by = forms.MultipleChoiceField(
        label="A row for each",
        choices=[(name, name) for name in OFFERED],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    zone = forms.ChoiceField(
        label="Days of",
        choices=lambda: [(name, name) for name in sorted(time_zones())],
        widget=UnfoldAdminSelectWidget,
        help_text="Whose calendar the days are of.",
    )

    class Meta:
        model = ExportSchedule
        fields = (
            *("name", "enabled", "group_by", "period", "zone", "at"),
            *("bom", "decimal_comma", "destination", "addresses", "keep"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["group_by"] = list(self.instance.groups)
        self.initial.setdefault("zone", self.instance.zone)  # declared fields know nothing of the model's default
        if not mails_are_sent() and "destination" in self.fields:
            self.fields["destination"].help_text = "No mail is sent yet: set EMAIL_URL where the gateway runs."

    def clean_group_by(self) -> str:
        """Return the names joined, as the model has them."""
        return ",".join(self.cleaned_data["group_by"])


@admin.register(ExportSchedule)
class ExportScheduleAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Schedules."""

    form = ScheduleForm
    list_display = ("name", "about", "goes", "next_shown", "last_shown", "outcome_shown")
    search_fields = ("name", "addresses")
    fieldsets = (
        (None, {"fields": ("name", "enabled")}),
        ("Report", {"fields": ("group_by", "period", "zone", "at")}),
        ("File", {"fields": (("bom", "decimal_comma"),)}),
        ("Where it goes", {"fields": ("destination", "addresses", "keep")}),
    )
    change_form_template = "admin/usage/exportschedule/change_form.html"

    class Media:
        css: ClassVar = {"all": ["pricing/prices.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExportSchedule]:
        """Schedules, each with its last run."""
        schedules: QuerySet[ExportSchedule] = super().get_queryset(request)
        last = ExportRun.objects.filter(schedule=OuterRef("pk")).order_by("-made_at", "-pk")
        return schedules.annotate(
            _last_state=Subquery(last.values("state")[:1]),
            _last_told=Subquery(last.values("told")[:1]),
            _last_made_at=Subquery(last.values("made_at")[:1]),
        )

    def get_urls(self) -> list[URLPattern]:
        """Add Run now, and the files."""
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/run/", view(require_POST(self.run_view)), name="usage_exportschedule_run"),
            path("<int:pk>/file/<int:run>/", view(require_safe(self.file_view)), name="usage_exportschedule_file"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def run_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Have the latest period's report sent now."""
        schedule = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_change_permission(request, schedule):
            raise PermissionDenied
        run = run_now(schedule, timezone.now())
        days = f"{run.first}" if run.first == run.last else f"{run.first} to {run.last}"
        messages.success(request, f"The report of {days} is made within seconds: reload the page to see what came.")
        return HttpResponseRedirect(reverse("admin:usage_exportschedule_change", args=[pk]))

    def file_view(self, request: HttpRequest, pk: int, run: int) -> FileResponse:
        """Hand out the file of a run. Raises Http404 where it is gone."""
        schedule = get_object_or_404(self.get_queryset(request), pk=pk)
        found = path_of(get_object_or_404(ExportRun, pk=run, schedule=schedule))
        if found is None:
            raise Http404
        answer = FileResponse(found.open("rb"), as_attachment=True, filename=found.name, content_type="text/csv")
        answer["Cache-Control"] = "no-store"
        return answer

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the schedule with its runs."""
        schedule = self.get_object(request, unquote(object_id))
        runs = [
            {"run": run, "has_file": path_of(run) is not None, "told": run.told or run.get_state_display()}
            for run in ExportRun.objects.filter(schedule=schedule)[:SHOWN]
        ]
        context = {"runs": runs, **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    def save_model(self, request: HttpRequest, obj: ExportSchedule, form: Any, change: bool) -> None:
        """Save it, and keep no more files than it says."""
        super().save_model(request, obj, form, change)
        prune(obj)

    @admin.display(description="about", ordering="period")
    def about(self, schedule: ExportSchedule) -> str:
        """What the report is of."""
        by = f", by {', '.join(schedule.groups)}" if schedule.groups else ""
        return f"{schedule.get_period_display()}{by}"

    @admin.display(description="goes", ordering="destination")
    def goes(self, schedule: ExportSchedule) -> str:
        """Where to."""
        return f"to {schedule.addresses}" if schedule.addresses else "to a file"

    @admin.display(description="next")
    def next_shown(self, schedule: ExportSchedule) -> datetime | str:
        """When the next one goes out."""
        return schedule.next_at(timezone.now()) if schedule.enabled else "not enabled"

    @admin.display(description="last run", empty_value="never")
    def last_shown(self, schedule: ExportSchedule) -> datetime | None:
        """When the last was made."""
        made: datetime | None = vars(schedule)["_last_made_at"]
        return made

    @admin.display(description="outcome", empty_value="–")
    def outcome_shown(self, schedule: ExportSchedule) -> str | None:
        """What came of it."""
        state, told = vars(schedule)["_last_state"], vars(schedule)["_last_told"]
        return None if state is None else f"{ExportRun.State(state).label}: {told}" if told else state.capitalize()
