"""The REST API's clients."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.renderers import JSONRenderer

from clients.access import visible
from clients.markup import format_markup
from clients.models import Client
from clients.rest import Pages


class ClientSerializer(serializers.ModelSerializer[Client]):
    """A client as automations read it: markup in percent, limits as they are written."""

    plan = serializers.CharField(source="plan.name", default=None, read_only=True)
    markup_percent = serializers.SerializerMethodField()
    limits: serializers.Field[Any, Any, Any, Any] = serializers.StringRelatedField(many=True, read_only=True)

    class Meta:
        model = Client
        fields = (
            *("id", "name", "email", "company", "phone", "status", "status_reason", "plan", "markup_percent"),
            *("limits", "time_zone", "cycle_start_day", "notes", "created_at", "changed_at"),
        )
        read_only_fields = fields

    def get_markup_percent(self, client: Client) -> str:
        """Return percent."""
        return format_markup(client.markup_bp)


class _Clients(GenericAPIView[Client]):
    renderer_classes = (JSONRenderer,)
    serializer_class = ClientSerializer
    pagination_class = Pages
    scopes = {"GET": "clients:read"}

    def get_queryset(self) -> QuerySet[Client]:
        """Return the clients that the token's person sees."""
        clients = Client.objects.select_related("plan").prefetch_related("limits").order_by("id")
        return visible(self.request.user, clients)


class ClientList(_Clients, ListAPIView[Client]):
    """All clients, archived ones too."""


class ClientDetail(_Clients, RetrieveAPIView[Client]):
    """One client; somebody else's is a 404."""
