"""What lists of clients and keys tell of usage: spend of late; who is over a limit, and whose calls fail."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone

from clients.models import Client
from keys.models import APIKey
from pricing.money import format_sum
from usage import outcomes, standings
from usage.models import UsageRecord
from usage.overview import day_start, failing, lately


class LimitsFilter(admin.SimpleListFilter):
    """Clients that have used up a limit, or soon will have, as the gateway counts at this moment."""

    title = "limits"
    parameter_name = "limits"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("100", "Over a limit now"), ("80", "80 % of a limit and more")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return those; none, and say why, where the gateway does not answer.

        Not all: what is done to every client that a filter found must not be done to those it did not look at.
        """
        if self.value() not in ("100", "80"):
            return queryset
        found = standings.clients_at(int(str(self.value())))
        if found is None:
            said = "The gateway does not answer, so how limits stand is not known. Drop that filter to see all."
            messages.error(request, said)
            return queryset.none()
        return queryset.filter(pk__in=found)


class ErrorRateFilter(admin.SimpleListFilter):
    """Clients many of whose calls failed within a day; what we refused is not among these."""

    title = "failed calls in 24 hours"
    parameter_name = "failed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("5", "More than 5 %"), ("25", "More than 25 %")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        """Return those."""
        if self.value() not in ("5", "25"):
            return queryset
        lately = UsageRecord.objects.filter(admitted_at__gte=timezone.now() - timedelta(hours=24))
        return queryset.filter(pk__in=[row[0] for row in failing(lately, int(str(self.value())))])


@admin.display(description="charged this month (USD)", ordering="charged_this_month", empty_value="0.00")
def charged_this_month(client: Any) -> str | None:
    """Return what was charged since the month began where the reader is."""
    return format_sum(client.charged_this_month) if client.charged_this_month else None


def add_charged_this_month(clients: QuerySet[Client]) -> QuerySet[Client]:
    """Let clients know what they were charged this month: `charged_this_month`, picodollars or None."""
    month = day_start(timezone.localdate().replace(day=1))
    # Whatever the outcome: what does not count has no charge, and the index alone answers
    records = UsageRecord.objects.filter(client=OuterRef("pk"), admitted_at__gte=month)
    summed = records.order_by().values("client").annotate(sum=Sum("charge")).values("sum")
    return clients.annotate(charged_this_month=Subquery(summed))


@admin.display(description="calls in 30 days")
def calls_lately(key: Any) -> str:
    """Return how many calls with it counted."""
    return f"{key.calls_lately or 0:,}"


@admin.display(description="charged in 30 days (USD)")
def charged_lately(key: Any) -> str:
    """Return what was charged for them."""
    return format_sum(key.charged_lately or 0)


def add_use_lately(keys: QuerySet[APIKey]) -> QuerySet[APIKey]:
    """Let keys know of their last 30 days: `calls_lately`, `charged_lately` (picodollars), None where nothing was."""
    counted = lately(UsageRecord.objects.filter(key=OuterRef("pk"), outcome__in=sorted(outcomes.COUNTED)))
    by_key = counted.order_by().values("key")
    return keys.annotate(
        calls_lately=Subquery(by_key.annotate(calls=Count("outcome")).values("calls")),
        charged_lately=Subquery(by_key.annotate(sum=Sum("charge")).values("sum")),
    )
