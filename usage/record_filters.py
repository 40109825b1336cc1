"""What the list of calls is narrowed by beside client, model and outcome: status, slowness, cost, tags."""

from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

from clients import access
from clients.models import default_time_zone
from keys.models import APIKey
from pricing.models import Provider
from pricing.money import PICO
from usage.models import TagRollup, UsageRecord

_SECONDS: Final = {"1": "1 second", "5": "5 seconds", "20": "20 seconds", "60": "a minute"}
_CENTS: Final = {"1": "0.01 USD", "10": "0.10 USD", "100": "1 USD", "1000": "10 USD"}
_STATUS: Final = {
    "ok": ("2xx: answered", {"status__gte": 200, "status__lt": 300}),
    "limits": ("429: too many", {"status": 429}),
    "wrong": ("4xx: refused or rejected", {"status__gte": 400, "status__lt": 500}),
    "failed": ("5xx: failed", {"status__gte": 500}),
    "none": ("none: hung up or interrupted", {"status": 0}),
}
_ENDPOINTS: Final = ("chat/completions", "completions", "embeddings", "responses")
_MOST: Final = 100  # workflows offered
_LATELY: Final = timedelta(days=8)  # of which they are


class StatusFilter(admin.SimpleListFilter):
    """The HTTP status that the client got."""

    title = "status"
    parameter_name = "answered"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(name, label) for name, (label, _) in _STATUS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        chosen = _STATUS.get(str(self.value()))
        return queryset if chosen is None else queryset.filter(**chosen[1])


class SlowerFilter(admin.SimpleListFilter):
    """How long it took."""

    title = "slower than"
    parameter_name = "slower"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return list(_SECONDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        value = str(self.value())
        return queryset.filter(latency_us__gt=int(value) * 10**6) if value in _SECONDS else queryset


class DearerFilter(admin.SimpleListFilter):
    """What it cost."""

    title = "cost above"
    parameter_name = "dearer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return list(_CENTS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        value = str(self.value())
        return queryset.filter(cost__gt=int(value) * PICO // 100) if value in _CENTS else queryset


class _OfTag(admin.SimpleListFilter):
    """Narrows to a value of a tag: those with the most calls lately are offered, any other stands in the address."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices, of clients that the reader sees."""
        lately = TagRollup.objects.filter(
            tag=self.parameter_name, grain=default_time_zone(), start__gte=timezone.now() - _LATELY
        )
        seen = access.visible(request.user, lately)
        found = seen.order_by().values_list("value").annotate(n=Sum("calls")).order_by("-n", "value")[:_MOST]
        names = {value for value, _ in found} | ({str(self.value())} if self.value() else set())
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        value = str(self.value() or "")[:200]
        return queryset.filter(**{str(self.parameter_name): value}) if value else queryset


class WorkflowFilter(_OfTag):
    """The workflow that made it."""

    title, parameter_name = "workflow", TagRollup.WORKFLOW


class EnvFilter(_OfTag):
    """The environment that it was made in."""

    title, parameter_name = "environment", TagRollup.ENV


class ExecutionFilter(admin.SimpleListFilter):
    """Calls of one execution, which a link names; offers none itself, since every one is another."""

    title, parameter_name = "execution", "execution"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the one that was named."""
        value = request.GET.get("execution", "")[:200]
        return [(value, value)] if value else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        return queryset.filter(execution=str(self.value())[:200]) if self.value() else queryset


class _OfOne(admin.SimpleListFilter):
    """Narrows to one that a link from elsewhere names; offers none itself, since there may be thousands."""

    model: type[APIKey | Provider]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the one that was named, if the reader sees it."""
        value = request.GET.get(self.parameter_name or "", "")
        if not (value.isdecimal() and len(value) < 19):
            return []
        found = access.visible(request.user, self.model._default_manager.filter(pk=int(value))).first()
        return [] if found is None else [(value, str(found))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        return queryset.filter(**{str(self.parameter_name): int(str(self.value()))}) if self.value() else queryset


class KeyFilter(_OfOne):
    """Calls with one key."""

    title, parameter_name, model = "key", "key", APIKey


class ProviderFilter(_OfOne):
    """Calls to one provider."""

    title, parameter_name, model = "provider", "provider", Provider


class EndpointFilter(admin.SimpleListFilter):
    """Calls of one endpoint."""

    title = "endpoint"
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(name, name) for name in _ENDPOINTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
        """Narrow the list."""
        return queryset.filter(endpoint=self.value()) if self.value() in _ENDPOINTS else queryset
