"""What the list of clients can be narrowed to by what clients themselves know."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from clients.models import Client

Status = Client.Status


class StatusFilter(admin.SimpleListFilter):
    """Archived clients are shown only to who asks for them."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [*Status.choices, ("all", "All, archived too")]

    def choices(self, changelist: Any) -> Any:
        """Name the default for what it is."""
        given = list(super().choices(changelist))
        given[0]["display"] = "Not archived"
        return iter(given)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return the clients of that status."""
        match self.value():
            case None:
                return queryset.exclude(status=Status.INACTIVE)
            case "all":
                return queryset
            case status:
                return queryset.filter(status=status)


class SilentFilter(admin.SimpleListFilter):
    """Clients that none of whose keys was used lately: a workflow that has broken, or a client that has left."""

    title = "calls"
    parameter_name = "silent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("7", "Silent for 7 days"), ("30", "Silent for 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return those without a call since then."""
        if self.value() not in ("7", "30"):
            return queryset
        since = timezone.now() - timedelta(days=int(str(self.value())))
        return queryset.exclude(keys__use__last_used_at__gte=since)
