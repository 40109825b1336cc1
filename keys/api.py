"""The REST API's onboarding: a client with its limits, its plan and its first key, by one POST."""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from django.core.exceptions import ValidationError
from rest_framework import serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clients import access
from clients.models import Client
from clients.onboarding import find_plan
from keys.lifecycle import parse_duration
from keys.models import APIKey
from keys.onboarding import onboard_with_key


class OnboardingSerializer(serializers.Serializer[Any]):
    """What may be said of a new client; anything else is refused."""

    name = serializers.CharField(max_length=200)
    email = serializers.EmailField(required=False)
    company = serializers.CharField(max_length=200, required=False)
    phone = serializers.CharField(max_length=50, required=False)
    plan = serializers.CharField(max_length=100, required=False)
    limits = serializers.ListField(child=serializers.CharField(max_length=100), max_length=50, required=False)
    key_name = serializers.CharField(max_length=200, required=False)
    key_expires_in = serializers.CharField(max_length=10, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse fields that there are not. Raises ValidationError."""
        unknown = set(self.initial_data) - set(self.fields)
        if unknown:
            raise serializers.ValidationError({str(name): ["There is no such field."] for name in sorted(unknown)[:20]})
        return attrs


class Onboard(APIView):
    """Takes a client on; the answer holds the key's text, once."""

    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)
    scopes = {"POST": "clients:write"}

    def post(self, request: Request) -> Response:
        """Do `onboard_with_key`, once for each `Idempotency-Key` of a person: a repeat is told no key."""
        user: Any = request.user
        token: Any = request.auth
        if not (access.may(user, "add", Client) and access.may(user, "add", APIKey)):
            raise PermissionDenied("Your role does not take clients on.")
        if not token.allows("keys:write"):
            raise PermissionDenied("This token does not have the scope keys:write.")
        sent = request.headers.get("idempotency-key", "")
        if not 0 < len(sent) <= 200:
            raise ValidationError({"Idempotency-Key": "Send this header: up to 200 characters, new for each client."})
        asked = OnboardingSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        data = dict(asked.validated_data)
        plan, lasts = data.pop("plan", None), data.pop("key_expires_in", None)
        client, key, plain = onboard_with_key(
            uuid5(NAMESPACE_URL, f"{user.pk}:{sent}"),
            data.pop("name"),
            data.pop("limits", ()),
            find_plan(plan) if plan else None,
            key_name=data.pop("key_name", ""),
            expires_in=parse_duration(lasts) if lasts else None,
            owner=user,
            **data,
        )
        if not access.visible(user, Client.objects.filter(pk=client.pk)).exists():
            raise NotFound  # a repeat, after the client became another operator's
        told = {"client": client.pk, "name": client.name, "key": {"id": key.pk, "hint": key.hint, "text": plain}}
        return Response(told, status=200 if plain is None else 201, headers={"Cache-Control": "no-store"})
