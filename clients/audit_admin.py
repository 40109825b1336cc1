"""Admin pages of the audit log: to read, filter and take out as CSV; nobody changes it."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any

import auditlog.admin  # noqa: F401  # registers what is replaced below
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.html import format_html
from django.utils.text import capfirst
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    ChoicesDropdownFilter,
    DropdownFilter,
    FieldTextFilter,
    RangeDateFilter,
)
from unfold.contrib.filters.forms import AutocompleteDropdownForm

from clients import access, spreadsheet
from clients.audit import AuditEntry, Change
from clients.models import Client
from pricing import audit

_LONGEST = 80  # of a value in a list; the entry's own page has all of it
_AT_ONCE = 2_000
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(9998, 1, 1)  # beyond, other zones' clocks have no year

COLUMNS = ("time_utc", "who", "email", "through", "address", "act", "kind", "object", "object_id", "client", "changes")
"""Of the CSV. The time is ISO 8601 in UTC, so that a file means the same whoever made it."""

admin.site.unregister(AuditEntry)  # auditlog's own page, which shows what changed as JSON


class KindFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By the kind of object, such as clients or keys."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the kinds that are logged and that the reader reads."""
        kinds = [model for model in audit.tracked() if access.may(request.user, "view", model)]
        named = [(model._meta.label_lower, str(capfirst(model._meta.verbose_name or ""))) for model in kinds]
        return sorted(named, key=lambda kind: kind[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Keep entries on that kind."""
        if self.value() is None:
            return queryset
        app, _, model = self.value().partition(".")
        return queryset.filter(content_type__app_label=app, content_type__model=model)


class DaysFilter(RangeDateFilter):  # type: ignore[misc]  # unfold ships no types
    """From the start of one day to the end of another, where the reader is."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Keep entries of those days; what is no date is no bound."""
        first, last = self._day("from"), self._day("to")
        if first:
            queryset = queryset.filter(timestamp__gte=timezone.make_aware(datetime.combine(first, time.min)))
        if last:
            queryset = queryset.filter(timestamp__lte=timezone.make_aware(datetime.combine(last, time.max)))
        return queryset

    def _day(self, end: str) -> date | None:
        try:
            day = parse_date(str(self.used_parameters.get(f"{self.parameter_name}_{end}", "")))
        except ValueError:
            return None
        return day if day and FIRST_DAY < day < LAST_DAY else None


class OwnClients(AutocompleteDropdownForm):  # type: ignore[misc]  # unfold ships no types
    """A choice of client that names none that the reader may not see, whatever the address says."""

    def __init__(self, request: HttpRequest, name: str, data: dict[str, Any], **options: Any) -> None:
        chosen = str(data.get(name) or "")
        known = {name: chosen} if re.fullmatch("[0-9]{1,18}", chosen) else {}  # longer ones are no ids of a database
        super().__init__(request, name, data=known, **options)
        self.fields[name].queryset = access.visible(request.user, Client.objects.all())


class ClientFilter(AutocompleteSelectFilter):  # type: ignore[misc]  # unfold ships no types
    """By the client whom an entry concerns."""

    form_class = OwnClients


@admin.register(AuditEntry)
class AuditEntryAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """What was done, the newest first."""

    list_display = ("timestamp", "by", "what", "client_shown", "summary", "where")
    list_display_links = ("timestamp",)
    list_filter = (
        ("timestamp", DaysFilter),
        ("by", FieldTextFilter),
        KindFilter,
        ("client", ClientFilter),
        ("door", ChoicesDropdownFilter),
    )
    list_filter_submit = True
    list_select_related = ("content_type", "client")
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("object_repr", "by")
    search_help_text = "Names of people and of objects."
    ordering = ("-timestamp", "-id")
    actions = None
    fieldsets = (
        (None, {"fields": ("timestamp", "by", "actor_email", "door", "remote_addr")}),
        ("What was done", {"fields": ("act_shown", "object_shown", "client_shown", "changes_shown")}),
    )
    readonly_fields = tuple(name for _, options in fieldsets for name in options["fields"])

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds entries by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Nobody changes them."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Nobody deletes them."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Add the export."""
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name="clients_auditentry_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the list's filters and search leave, all pages of it, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            entries: QuerySet[AuditEntry] = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse("admin:clients_auditentry_changelist"))
        answer = StreamingHttpResponse(
            spreadsheet.lines(COLUMNS, _rows(entries)), content_type="text/csv; charset=utf-8"
        )
        answer["Content-Disposition"] = f'attachment; filename="audit-log-{timezone.localdate()}.csv"'
        return answer

    @admin.display(description="what", ordering="object_repr")
    def what(self, entry: AuditEntry) -> str:
        """Return the act and its object."""
        return _short(entry.what)

    @admin.display(description="where from")
    def where(self, entry: AuditEntry) -> str:
        """Return the door, and the address where there was one."""
        return ", ".join(filter(None, (entry.get_door_display(), entry.remote_addr)))

    @admin.display(description="client")
    def client_shown(self, entry: AuditEntry) -> str:
        """Return the client's name, or its number where it is gone."""
        if entry.client_id is None:
            return "–"
        return str(entry.client) if entry.client else f"#{entry.client_id}"

    @admin.display(description="before → after")
    def summary(self, entry: AuditEntry) -> str:
        """Return what changed in a line, `Status: Active → Suspended`; what was made or deleted is on its page."""
        if entry.action not in {AuditEntry.Action.UPDATE, AuditEntry.Action.ACCESS}:
            return "–"
        return "; ".join(map(_line, entry.told_changes())) or "–"

    @admin.display(description="act")
    def act_shown(self, entry: AuditEntry) -> str:
        """Return what was done."""
        return entry.act

    @admin.display(description="object")
    def object_shown(self, entry: AuditEntry) -> str:
        """Return a link to the object, where it has a page and may still be there."""
        model = entry.content_type.model_class()
        named = f"{entry.kind} {entry.object_repr}"
        if model is None or not admin.site.is_registered(model) or entry.action == AuditEntry.Action.DELETE:
            return named
        try:
            link = reverse(
                f"admin:{entry.content_type.app_label}_{entry.content_type.model}_change", args=[entry.object_pk]
            )
        except NoReverseMatch:  # of somebody unknown, who failed to sign in
            return named
        return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', link, named)

    @admin.display(description="before and after")
    def changes_shown(self, entry: AuditEntry) -> str:
        """Return a table of the fields, before and after."""
        return render_to_string("admin/clients/auditentry/changes.html", {"changes": entry.told_changes()})


def _rows(entries: QuerySet[AuditEntry]) -> Iterator[tuple[str, ...]]:
    for entry in entries.iterator(_AT_ONCE):
        with timezone.override(UTC):  # for each row: a generator's setting would reach whoever reads it
            row = _row(entry)
        yield row


def _row(entry: AuditEntry) -> tuple[str, ...]:
    changes = "; ".join(f"{change.field}: {change.before} → {change.after}" for change in entry.told_changes())
    return (
        f"{entry.timestamp:%Y-%m-%dT%H:%M:%SZ}",
        entry.by,
        entry.actor_email or "",
        entry.get_door_display(),
        entry.remote_addr or "",
        entry.act,
        entry.kind,
        entry.object_repr,
        entry.object_pk,
        str(entry.client or entry.client_id or ""),
        changes,
    )


def _line(change: Change) -> str:
    return f"{change.field}: {_short(change.before) or 'none'} → {_short(change.after) or 'none'}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
