"""The REST API's closing of a month: what each client's comes to and what is odd, and then all of them at one call."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from clients import access
from clients.models import Client
from clients.rest_views import Strict, View
from pricing.money import format_dollars
from usage.closing import Draft, close, drafts
from usage.models import Statement
from usage.statements import month_of

_MOST = 10_000  # clients in one call


class CloseSerializer(Strict):
    """Whose month is closed."""

    clients = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        max_length=_MOST,
        help_text="Ids of clients. Left out: all whose month can be closed.",
    )


class DraftSerializer(serializers.Serializer[Any]):
    """What a client's statement would say."""

    client = serializers.IntegerField()
    client_name = serializers.CharField()
    reason = serializers.CharField(help_text="Why the month can't be closed; empty where it can.")
    requests = serializers.IntegerField()
    cost_usd = serializers.CharField()
    charge_usd = serializers.CharField(help_text="What the calls were charged.")
    amount_usd = serializers.CharField(help_text="What is to be paid before tax, fee and all.")
    odd = serializers.ListField(child=serializers.CharField(), help_text="What somebody should look at before.")


class ClosedSerializer(serializers.Serializer[Any]):
    """What became of a client's month."""

    client = serializers.IntegerField()
    statement = serializers.IntegerField(allow_null=True, help_text="The number of the month's statement.")
    made = serializers.BooleanField(help_text="Whether this call made it.")
    reason = serializers.CharField(help_text="Why not; empty where it did.")


class Closing(View):
    """A month, such as 2026-10. It is closed once, so a call that is sent again makes nothing more."""

    scopes = {"GET": "usage:read", "POST": "statements:write"}
    pagination_class = None

    @extend_schema(responses=DraftSerializer(many=True))
    def get(self, request: Request, month: str) -> Response:
        """Return what closing it would come to, client by client. Nothing is made."""
        return Response([_shown(draft) for draft in self._drafts(month, None, to_look_at=True)])

    @extend_schema(
        request=CloseSerializer,
        responses={200: OpenApiResponse(ClosedSerializer(many=True))},
        examples=[OpenApiExample("Two clients", {"clients": [7, 12]}, request_only=True)],
    )
    def post(self, request: Request, month: str) -> Response:
        """Make the statements, each for itself: what can't be closed is told, and keeps no other from it."""
        chosen = self.sent(CloseSerializer).get("clients")
        found = self._drafts(month, None if chosen is None else frozenset(chosen))
        there = dict(
            Statement.objects.filter(month=month_of(month), client__in=[draft.client for draft in found]).values_list(
                "client", "number"
            )
        )
        return Response([self._closed(draft, there.get(draft.client.pk)) for draft in found])

    def _drafts(self, month: str, chosen: frozenset[int] | None, *, to_look_at: bool = False) -> list[Draft]:
        """Return those of the clients that were chosen. Raises PermissionDenied, ValidationError."""
        user: Any = self.request.user
        if access.role_of(user) not in access.BOOKKEEPERS:
            raise exceptions.PermissionDenied("Owners and finance close months.")
        clients = access.visible(user, Client.objects.order_by("name", "pk"))
        if chosen is not None:
            clients = clients.filter(pk__in=chosen)
            if unknown := chosen - {client.pk for client in clients}:
                raise ValidationError({"clients": f"There is no client {min(unknown)}."})
        return drafts(clients, month_of(month), timezone.now(), to_look_at=to_look_at)

    def _closed(self, draft: Draft, there: int | None) -> dict[str, Any]:
        user: Any = self.request.user
        told = {"client": draft.client.pk, "statement": there, "made": False, "reason": draft.refused}
        if draft.refused:
            return told
        try:
            return told | {"statement": close(draft, user, timezone.now()).number, "made": True}
        except ValidationError as error:
            return told | {"reason": " ".join(error.messages)}


def _shown(draft: Draft) -> dict[str, Any]:
    return {
        "client": draft.client.pk,
        "client_name": draft.client.name,
        "reason": draft.refused,
        "requests": draft.used.total.calls,
        "cost_usd": format_dollars(draft.cost),
        "charge_usd": format_dollars(draft.charge),
        "amount_usd": format_dollars(draft.amount),
        "odd": draft.odd,
    }
