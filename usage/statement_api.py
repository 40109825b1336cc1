"""The REST API's statements: what clients were billed, line by line, and the PDF."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clients import access
from clients.rest_views import View
from pricing.money import format_dollars
from usage.models import Statement, StatementLine
from usage.statement_pdf import pdf_answer
from usage.statements import month_of


class StatementSerializer(serializers.ModelSerializer[Statement]):
    """A statement; amounts are those of its currency."""

    month = serializers.SerializerMethodField()
    net = serializers.SerializerMethodField()
    tax = serializers.SerializerMethodField()
    gross = serializers.SerializerMethodField()

    class Meta:
        model = Statement
        fields = (
            *("number", "client", "client_name", "month", "start", "end", "zone", "currency", "rate"),
            *("net", "tax", "gross", "closed_at"),
        )
        read_only_fields = fields

    def get_month(self, statement: Statement) -> str:
        """Return it as 2026-10."""
        return f"{statement.month:%Y-%m}"

    def get_net(self, statement: Statement) -> str:
        """Return what is to be paid before tax."""
        return statement.money(statement.net)

    def get_tax(self, statement: Statement) -> str:
        """Return the tax."""
        return statement.money(statement.tax)

    def get_gross(self, statement: Statement) -> str:
        """Return what is to be paid."""
        return statement.money(statement.gross)


@extend_schema(
    parameters=[
        OpenApiParameter("client", int),
        OpenApiParameter("month", str, description="2026-10"),
    ]
)
class StatementList(View, ListAPIView[Statement]):
    """Statements, the newest first."""

    serializer_class = StatementSerializer
    scopes = {"GET": "usage:read"}

    def get_queryset(self) -> QuerySet[Statement]:
        """Return those asked for that the token's person sees. Raises ValidationError."""
        query = self.request.query_params
        found = access.visible(self.request.user, Statement.objects.all())
        if client := query.get("client"):
            if not (client.isdecimal() and len(client) < 19):
                raise ValidationError({"client": "Give the id of a client."})
            found = found.filter(client=int(client))
        if month := query.get("month"):
            found = found.filter(month=month_of(month))
        return found.order_by("-number")


class StatementDetail(View):
    """A statement with its lines."""

    scopes = {"GET": "usage:read"}

    @extend_schema(responses={200: dict})
    def get(self, request: Request, number: int) -> Response:
        """Read it. `lines` are paid, `by_workflow` tells the same calls once more."""
        statement = _theirs(request, number)
        told = dict(StatementSerializer(statement).data)
        told["lines"] = [_line(line) | {"amount": statement.money(line.minor)} for line in statement.billed]
        told["by_workflow"] = [_line(line) for line in statement.by_workflow]
        return Response(told)


class StatementPDF(View):
    """A statement as the client gets it."""

    scopes = {"GET": "usage:read"}

    @extend_schema(responses={(200, "application/pdf"): bytes})
    def get(self, request: Request, number: int) -> HttpResponse:
        """Hand it out."""
        return pdf_answer(_theirs(request, number))


def _theirs(request: Request, number: int) -> Statement:
    return get_object_or_404(access.visible(request.user, Statement.objects.all()), number=number)


def _line(line: StatementLine) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "title": line.title,
        "month": f"{line.month:%Y-%m}",
        "requests": line.calls,
        "sessions": line.sessions,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "charge_usd": format_dollars(line.charge),
        "amount_usd": format_dollars(line.amount),
    }
