"""The REST API's usage: calls, sums, the cost report, how limits stand, and whether all is well."""

from datetime import date, datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from clients import access
from clients.models import Client, default_time_zone
from clients.onboarding import set_limits
from clients.rest_views import Strict, View
from keys.models import APIKey
from pricing.money import format_dollars
from usage import outcomes, standings
from usage.analytics import Slice, read
from usage.cost_csv import Form, file_name, text
from usage.costs import Question, last, parse_group_by, whole_days
from usage.folding import DIMENSIONS
from usage.models import RollupDue, UsageRecord

_RANGE: Final = [
    OpenApiParameter("last", str, description="90d or 2w: calendar days, with today; 24h: hours. Or from and to."),
    OpenApiParameter("from", OpenApiTypes.DATE, description="The first day."),
    OpenApiParameter("to", OpenApiTypes.DATE, description="The last day, itself included; today unless said."),
    OpenApiParameter("zone", str, description="Whose calendar days: Europe/Berlin; the installation's unless said."),
]


class Newest(CursorPagination):
    """50 calls a page, the newest first, or up to 200: pages stay where they are while calls come in."""

    ordering = ("-admitted_at", "-request_id")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class RecordSerializer(serializers.ModelSerializer[UsageRecord]):
    """A call; money in USD, exact."""

    cost_usd = serializers.SerializerMethodField()
    charge_usd = serializers.SerializerMethodField()

    class Meta:
        model = UsageRecord
        fields = (
            *("request_id", "client", "key", "endpoint", "model_asked", "model_served", "admitted_at", "settled_at"),
            *("outcome", "status", "error_code", "stream", "input_tokens", "cached_tokens", "cache_write_tokens"),
            *("output_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "estimated"),
            *("latency_us", "first_byte_us", "workflow", "execution", "env", "cost_usd", "charge_usd"),
        )
        read_only_fields = fields

    def get_cost_usd(self, record: UsageRecord) -> str:
        """Return USD."""
        return format_dollars(record.cost)

    def get_charge_usd(self, record: UsageRecord) -> str:
        """Return USD."""
        return format_dollars(record.charge)

    def to_representation(self, instance: UsageRecord) -> dict[str, Any]:
        """Leave the key out for those whose role does not see keys."""
        told: dict[str, Any] = super().to_representation(instance)
        if not self.context["sees_keys"]:
            del told["key"]
        return told


@extend_schema(
    parameters=[
        OpenApiParameter("client", int),
        OpenApiParameter("key", int),
        OpenApiParameter("model", str, description="The name that was asked for."),
        OpenApiParameter("outcome", str, enum=sorted(outcomes.ALL)),
        OpenApiParameter("workflow", str),
        OpenApiParameter("env", str),
        OpenApiParameter("since", OpenApiTypes.DATETIME),
        OpenApiParameter("until", OpenApiTypes.DATETIME),
    ]
)
class UsageList(View, ListAPIView[UsageRecord]):
    """Calls, the newest first."""

    serializer_class = RecordSerializer
    pagination_class = Newest
    scopes = {"GET": "usage:read"}

    def get_queryset(self) -> QuerySet[UsageRecord]:
        """Return those asked for that the token's person sees. Raises ValidationError."""
        query = self.request.query_params
        records = access.visible(self.request.user, UsageRecord.objects.all())
        for name in ("client", "key"):
            if name in query:
                records = records.filter(**{name: _id(name, query[name])})
        if "key" in query and not self.get_serializer_context()["sees_keys"]:
            raise PermissionDenied("Your role does not see keys.")
        for name, column in (
            ("model", "model_asked"),
            ("outcome", "outcome"),
            ("workflow", "workflow"),
            ("env", "env"),
        ):
            if name in query:
                records = records.filter(**{column: query[name][:200]})
        for name, lookup in (("since", "admitted_at__gte"), ("until", "admitted_at__lt")):
            if name in query:
                records = records.filter(**{lookup: _moment(name, query[name])})
        return records

    def get_serializer_context(self) -> dict[str, Any]:
        """Add whether the reader sees keys."""
        sees = access.may(self.request.user, "view", APIKey)
        return {**super().get_serializer_context(), "sees_keys": sees}


class UsageDetail(View):
    """One call, by its request id."""

    scopes = {"GET": "usage:read"}

    @extend_schema(responses=RecordSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        """Read it."""
        record = self.theirs(UsageRecord.objects.all(), pk)  # type: ignore[arg-type]  # its key is no number
        sees = access.may(self.request.user, "view", APIKey)
        return Response(RecordSerializer(record, context={"sees_keys": sees}).data)


class UsageSummary(View):
    """Sums of usage over a range, by any of client, key, provider, model, endpoint, outcome; exact and live."""

    scopes = {"GET": "usage:read"}

    @extend_schema(
        parameters=[
            *_RANGE,
            OpenApiParameter("by", str, description=f"Some of {', '.join(DIMENSIONS)}, joined by commas."),
            OpenApiParameter("step", str, enum=["hour", "day"], description="One row for each; left out: one sum."),
            OpenApiParameter("client", int),
        ],
        responses={200: dict},
    )
    def get(self, request: Request) -> Response:
        """Return rows, in order."""
        query = request.query_params
        start, end, zone = _range(query)
        by = tuple(name for name in query.get("by", "").split(",") if name)
        only = {"client": [_id("client", query["client"])]} if "client" in query else {}
        asked = Slice(start, end, zone, query.get("step", ""), by, only, request.user)
        rows = [
            {
                **({"at": row.at} if row.at is not None else {}),
                **dict(zip(by, row.group, strict=True)),
                "calls": row.sums.calls,
                "input_tokens": row.sums.input_tokens,
                "cached_tokens": row.sums.cached_tokens,
                "output_tokens": row.sums.output_tokens,
                "sessions": row.sums.sessions,
                "cost_usd": format_dollars(row.sums.cost),
                "charge_usd": format_dollars(row.sums.charge),
            }
            for row in read(asked)
        ]
        return Response({"from": start, "to": end, "zone": zone, "rows": rows})


class CostReport(View):
    """The cost report as CSV, as the command exportcosts prints it; docs/finance.md explains the columns."""

    scopes = {"GET": "usage:read"}

    @extend_schema(
        parameters=[
            *_RANGE,
            OpenApiParameter("group_by", str, description="Names joined by commas; client unless said."),
            OpenApiParameter("client", int),
            OpenApiParameter("bom", bool),
            OpenApiParameter("decimal_comma", bool),
        ],
        responses={(200, "text/csv"): str},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Stream the file."""
        query = request.query_params
        start, end, zone = _range(query)
        question = Question(
            start,
            end,
            zone,
            parse_group_by(query.get("group_by", "client")),
            client=_id("client", query["client"]) if "client" in query else None,
            reader=request.user,
        )
        form = Form(bom=query.get("bom") in _YES, decimal_comma=query.get("decimal_comma") in _YES)
        answer = StreamingHttpResponse(text(question, form), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{file_name(question)}"'
        answer["Cache-Control"] = "no-store"
        return answer


class LimitsSerializer(Strict):
    """All limits of a client."""

    limits = serializers.ListField(
        child=serializers.CharField(max_length=100),
        max_length=50,
        help_text="As requests=100/day, credits=25.50/month.",
    )


class ClientLimits(View):
    """A client's limits, and how they stand: used, reserved, left, reset, and when they will be used up."""

    scopes = {"GET": "clients:read", "PUT": "clients:write"}

    @extend_schema(responses={200: dict})
    def get(self, request: Request, pk: int) -> Response:
        """Read them; `gateway_answers` is false where only the amounts are known."""
        return Response(_standings(self.theirs(Client.objects.all(), pk)))

    @extend_schema(request=LimitsSerializer, responses={200: dict})
    def put(self, request: Request, pk: int) -> Response:
        """Replace them. A limit that stays the same metric and cycle keeps what was used of it."""
        client = self.theirs(Client.objects.all(), pk, "change")
        set_limits(client, self.sent(LimitsSerializer)["limits"])
        return Response(_standings(client))


class Health(View):
    """Whether the gateway answers, and how far the rollups are behind."""

    scopes = {"GET": "usage:read"}

    @extend_schema(responses={200: dict})
    def get(self, request: Request) -> Response:
        """Look."""
        oldest = RollupDue.objects.order_by("pk").values_list("earliest", flat=True).first()
        return Response({"gateway_answers": standings.clients_at(100) is not None, "rollups_due_since": oldest})


_YES: Final = frozenset({"1", "true", "yes"})


def _standings(client: Client) -> dict[str, Any]:
    told = standings.of_client(client)
    limits = list(client.limits.order_by("metric", "cycle"))
    by_id = {one.limit.pk: one for one in standings.foreseen(told or [], client)}
    rows: list[dict[str, Any]] = []
    for limit in limits:
        row: dict[str, Any] = {"limit": f"{limit.metric}={_plain(limit.metric, limit.amount)}/{limit.cycle}"}
        if one := by_id.get(limit.pk):
            row |= {
                "used": _plain(limit.metric, one.spent),
                "reserved": _plain(limit.metric, one.held),
                "left": _plain(limit.metric, max(0, limit.amount - one.spent - one.held)),
                "resets_at": one.resets_at,
            }
            if one.forecast is not None:
                row["used_up"] = {
                    "likely": one.forecast.likely,
                    "earliest": one.forecast.earliest,
                    "latest": one.forecast.latest,
                }
        rows.append(row)
    return {"client": client.pk, "gateway_answers": told is not None, "limits": rows}


def _plain(metric: str, amount: int) -> str:
    return format_dollars(amount) if metric == "credits" else str(amount)


def _range(query: Any) -> tuple[datetime, datetime, str]:
    zone = query.get("zone") or default_time_zone()
    now = timezone.now()
    if query.get("last"):
        return *last(query["last"], zone, now), zone
    if not query.get("from"):
        raise ValidationError({"from": "Say which time: last=90d, or from=2026-01-01 and to=2026-01-31."})
    today = now.astimezone(ZoneInfo(zone)).date() if zone else now.date()
    until = _day("to", query["to"]) if query.get("to") else today
    return *whole_days(_day("from", query["from"]), until, zone), zone


def _day(name: str, written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise ValidationError({name: f"A day is written like 2026-01-31, not {written!r:.50}."}) from None


def _moment(name: str, written: str) -> datetime:
    try:
        found = parse_datetime(written.replace(" ", "+"))  # a + that came undone in the address
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValidationError({name: "A moment is written like 2026-01-31T12:00:00+01:00."})
    return found


def _id(name: str, written: str) -> int:
    if not (written.isdecimal() and len(written) < 19):
        raise ValidationError({name: f"Give the id of a {name}."})
    return int(written)
