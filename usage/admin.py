"""Admin pages of usage: to read and search; nobody changes what happened."""

import uuid
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from clients.admin import ClientAdmin
from clients.models import Client
from keys.admin import KeysOfClient
from keys.models import APIKey
from pricing.money import format_dollars
from usage import schedule_admin, statement_admin  # noqa: F401 - register their pages
from usage.alerts import admin as alert_pages  # noqa: F401
from usage.archive.reading import archived_until
from usage.client_list import (
    ErrorRateFilter,
    LimitsFilter,
    add_charged_this_month,
    add_use_lately,
    calls_lately,
    charged_lately,
    charged_this_month,
)
from usage.models import UsageRecord
from usage.record_filters import (
    DearerFilter,
    EndpointFilter,
    EnvFilter,
    ExecutionFilter,
    KeyFilter,
    ProviderFilter,
    SlowerFilter,
    StatusFilter,
    WorkflowFilter,
)
from usage.record_list import RecordList
from usage.reratings import admin as rerating_pages  # noqa: F401


@admin.register(UsageRecord)
class UsageRecordAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Calls, the newest first."""

    list_display = (
        "moment",
        "client_name",
        "key_hint",
        "model_asked",
        "outcome_shown",
        "input_count",
        "output_count",
        "cost_usd",
        "charge_usd",
        "latency",
    )
    list_filter = (
        *("client", "model", "outcome", "admitted_at"),
        *(StatusFilter, SlowerFilter, DearerFilter, WorkflowFilter, EnvFilter, ExecutionFilter),
        *(EndpointFilter, KeyFilter, ProviderFilter),
    )
    search_fields = ("request_id",)
    search_help_text = "The request id, as in the answer's x-request-id."
    ordering = ("-admitted_at",)
    show_full_result_count = False  # counting millions of rows is no help to a reader
    list_per_page = 50
    list_before_template = "admin/usage/looked_at.html"
    list_after_template = "admin/usage/archived.html"
    needs_permission: ClassVar = {"key_hint": "keys.view_apikey"}
    fieldsets = (
        (None, {"fields": ("request_id", "admitted_at", "settled_at", "outcome", "status", "error_code")}),
        ("Whose", {"fields": ("client", "key", "workflow", "execution", "env", "session", "opened_session")}),
        (
            "What",
            {
                "fields": (
                    "endpoint",
                    "streamed",
                    "model_asked",
                    "model",
                    "model_served",
                    "provider",
                    "provider_request_id",
                    "service_tier",
                    "latency",
                    "first_byte",
                )
            },
        ),
        (
            "Tokens",
            {
                "fields": (
                    "input_count",
                    "cached_count",
                    "cache_write_count",
                    "audio_input_count",
                    "output_count",
                    "reasoning_count",
                    "audio_output_count",
                    "estimated",
                )
            },
        ),
        ("Money", {"fields": ("price", "rerating", "cost_usd", "charge_usd")}),
    )

    class Media:
        css = {"all": ["usage/records.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Say up to when calls are in the archive and not in the list."""
        answer: HttpResponse = super().changelist_view(
            request, {"archived_until": archived_until(), **(extra_context or {})}
        )
        return answer

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordList]:
        """Look through the newest."""
        return RecordList

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds records by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: UsageRecord | None = None) -> bool:
        """Nobody changes them."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: UsageRecord | None = None) -> bool:
        """Nobody deletes them."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        """Records with the names they show. Sub-queries, not joins: a record whose client is gone is listed too."""
        records: QuerySet[UsageRecord] = super().get_queryset(request)
        return records.annotate(
            _client_name=Subquery(Client.objects.filter(pk=OuterRef("client_id")).values("name")),
            _key_hint=Subquery(APIKey.objects.filter(pk=OuterRef("key_id")).values("hint")),
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord], search_term: str
    ) -> tuple[QuerySet[UsageRecord], bool]:
        """Find one call by its whole id, with or without hyphens."""
        if not search_term:
            return queryset, False
        try:
            request_id = uuid.UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        return queryset.filter(pk=request_id), False

    @admin.display(description="admitted at", ordering="admitted_at")
    def moment(self, record: UsageRecord) -> str:
        """To the second."""
        return date_format(timezone.localtime(record.admitted_at), "j M Y, H:i:s T")

    @admin.display(description="client", ordering="client_id")
    def client_name(self, record: UsageRecord) -> str:
        """The client's name, or its number where it is gone."""
        return vars(record)["_client_name"] or f"#{record.client_id}"

    @admin.display(description="key")
    def key_hint(self, record: UsageRecord) -> str | None:
        """The hint of the key that was used."""
        hint: str | None = vars(record)["_key_hint"]
        return hint if hint or record.key_id is None else f"#{record.key_id}"

    @admin.display(description="outcome", ordering="outcome")
    def outcome_shown(self, record: UsageRecord) -> str:
        """How it ended, with the HTTP status where that says more."""
        ended = record.get_outcome_display()
        return f"{ended} ({record.status})" if record.status not in (0, 200) else ended

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, record: UsageRecord) -> str:
        """What the provider takes."""
        return format_dollars(record.cost)

    @admin.display(description="charged, USD", ordering="charge")
    def charge_usd(self, record: UsageRecord) -> str:
        """What the client pays."""
        return format_dollars(record.charge)

    @admin.display(description="opened a session", empty_value="no")
    def opened_session(self, record: UsageRecord) -> str | None:
        """A session of 24 hours of a WhatsApp user."""
        return "yes, of 24 hours" if record.session_opened else None

    @admin.display(description="stream", empty_value="no")
    def streamed(self, record: UsageRecord) -> str | None:
        """Whether the answer came in pieces."""
        return "yes" if record.stream else None

    @admin.display(description="latency", ordering="latency_us")
    def latency(self, record: UsageRecord) -> str:
        """From admission to settlement."""
        return _milliseconds(record.latency_us)

    @admin.display(description="time to first byte")
    def first_byte(self, record: UsageRecord) -> str | None:
        """From admission to the provider's first byte."""
        return None if record.first_byte_us is None else _milliseconds(record.first_byte_us)

    @admin.display(description="tokens in", ordering="input_tokens")
    def input_count(self, record: UsageRecord) -> SafeString:
        """All input tokens."""
        return _count(record.input_tokens)

    @admin.display(description="of these cached")
    def cached_count(self, record: UsageRecord) -> SafeString:
        """Input tokens read from the provider's cache."""
        return _count(record.cached_tokens)

    @admin.display(description="of these written to the cache")
    def cache_write_count(self, record: UsageRecord) -> SafeString:
        """Input tokens written to the provider's cache."""
        return _count(record.cache_write_tokens)

    @admin.display(description="of these audio")
    def audio_input_count(self, record: UsageRecord) -> SafeString:
        """Input tokens of audio."""
        return _count(record.audio_input_tokens)

    @admin.display(description="out", ordering="output_tokens")
    def output_count(self, record: UsageRecord) -> SafeString:
        """All output tokens."""
        return _count(record.output_tokens)

    @admin.display(description="of these reasoning")
    def reasoning_count(self, record: UsageRecord) -> SafeString:
        """Output tokens of reasoning."""
        return _count(record.reasoning_tokens)

    @admin.display(description="of these audio")
    def audio_output_count(self, record: UsageRecord) -> SafeString:
        """Output tokens of audio."""
        return _count(record.audio_output_tokens)

    def get_readonly_fields(self, request: HttpRequest, obj: UsageRecord | None = None) -> Any:
        """All of them."""
        return [name for _, options in self.fieldsets for name in options["fields"]]


def _milliseconds(us: int) -> str:
    return f"{us / 1000:,.1f} ms"


def _count(tokens: int) -> SafeString:
    return format_html('<span class="count">{}</span>', f"{tokens:,}")


# Here, since clients and keys know nothing of usage
ClientAdmin.adds_to_list.append(add_charged_this_month)
ClientAdmin.list_filter = (*ClientAdmin.list_filter, LimitsFilter, ErrorRateFilter)
_at = ClientAdmin.list_display.index("last_call")
ClientAdmin.list_display = (*ClientAdmin.list_display[:_at], charged_this_month, *ClientAdmin.list_display[_at:])
KeysOfClient.adds_to_list.append(add_use_lately)
KeysOfClient.fields = KeysOfClient.readonly_fields = (*KeysOfClient.fields, calls_lately, charged_lately)
