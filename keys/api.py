"""The REST API's keys, and its onboarding: a client with its limits, its plan and its first key, by one POST."""

from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clients import access
from clients.api import ReasonSerializer
from clients.models import Client
from clients.onboarding import find_plan
from clients.rest_views import IDEMPOTENCY_KEY, Strict, View
from keys import handover, lifecycle
from keys.lifecycle import parse_duration
from keys.models import APIKey
from keys.onboarding import onboard_with_key
from pricing.models import Model

ONCE = {"Cache-Control": "no-store"}
"""For answers that hold a key's text."""


class OnboardingSerializer(Strict):
    """What may be said of a new client; anything else is refused."""

    name = serializers.CharField(max_length=200)
    email = serializers.EmailField(required=False)
    company = serializers.CharField(max_length=200, required=False)
    phone = serializers.CharField(max_length=50, required=False)
    plan = serializers.CharField(max_length=100, required=False)
    limits = serializers.ListField(child=serializers.CharField(max_length=100), max_length=50, required=False)
    key_name = serializers.CharField(max_length=200, required=False)
    key_expires_in = serializers.CharField(max_length=10, required=False)


class KeySerializer(serializers.ModelSerializer[APIKey]):
    """A key as it can be known after it was made: by its hint."""

    state = serializers.SerializerMethodField()
    models: serializers.Field[Any, Any, Any, Any] = serializers.SlugRelatedField("name", many=True, read_only=True)
    limits: serializers.Field[Any, Any, Any, Any] = serializers.StringRelatedField(many=True, read_only=True)
    last_used_at = serializers.DateTimeField(source="use.last_used_at", default=None, read_only=True)

    class Meta:
        model = APIKey
        fields = (
            *("id", "client", "name", "hint", "state", "models", "limits", "created_at", "expires_at"),
            *("revoked_at", "revoked_reason", "replaced_by", "last_used_at"),
        )
        read_only_fields = fields

    def get_state(self, key: APIKey) -> str:
        """Return 'active', 'replaced', 'expired' or 'revoked'."""
        return key.state(timezone.now())


class IssueSerializer(Strict):
    """What a new key is to be."""

    client = serializers.IntegerField()
    name = serializers.CharField(max_length=200, required=False, default="")
    expires_in = serializers.CharField(max_length=10, required=False, help_text="12h, 30d or 8w; left out: for ever.")
    models = serializers.ListField(
        child=serializers.CharField(max_length=200), max_length=200, required=False, help_text="Left out: all."
    )
    limits = serializers.ListField(child=serializers.CharField(max_length=100), max_length=50, required=False)
    hand_over = serializers.BooleanField(
        required=False, default=False, help_text="Answer with a link that shows the key once, in place of its text."
    )


class RegenerateSerializer(Strict):
    """How long the old key works on."""

    grace = serializers.CharField(max_length=10, required=False, default="0", help_text="0, 1h, 24h, 7d.")
    hand_over = serializers.BooleanField(required=False, default=False)


class NewKeySerializer(serializers.Serializer[Any]):
    """A key just made: its text, or the link that shows it, is told this once."""

    key = KeySerializer()
    text = serializers.CharField(allow_null=True)
    link = serializers.CharField(allow_null=True)


class Onboard(View):
    """Takes a client on; the answer holds the key's text, once."""

    scopes = {"POST": "clients:write"}

    @extend_schema(
        request=OnboardingSerializer,
        responses={201: dict, 200: dict},
        parameters=[IDEMPOTENCY_KEY],
        examples=[
            OpenApiExample(
                "From a form",
                {"name": "Dental Clinic", "limits": ["credits=25/month"], "key_name": "n8n", "key_expires_in": "365d"},
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Do `onboard_with_key`, once for each Idempotency-Key, which must be there: a repeat is told no key."""
        user: Any = request.user
        token: Any = request.auth
        if not (access.may(user, "add", Client) and access.may(user, "add", APIKey)):
            raise PermissionDenied("Your role does not take clients on.")
        if not token.allows("keys:write"):
            raise PermissionDenied("This token does not have the scope keys:write.")
        data = self.sent(OnboardingSerializer)
        plan, lasts = data.pop("plan", None), data.pop("key_expires_in", None)

        def onboard() -> tuple[int, str | None]:
            _, key, plain = onboard_with_key(
                uuid4(),
                data.pop("name"),
                data.pop("limits", ()),
                find_plan(plan) if plan else None,
                key_name=data.pop("key_name", ""),
                expires_in=parse_duration(lasts) if lasts else None,
                owner=user,
                **data,
            )
            return key.pk, plain

        made, plain = self.once(onboard, required=True)
        key = access.visible(user, APIKey.objects.select_related("client").filter(pk=made)).first()
        if key is None:
            raise NotFound  # a repeat, after the client became another operator's
        client = key.client
        told = {"client": client.pk, "name": client.name, "key": {"id": key.pk, "hint": key.hint, "text": plain}}
        return Response(told, status=200 if plain is None else 201, headers=ONCE)


class _Keys(View):
    serializer_class = KeySerializer

    def get_queryset(self) -> QuerySet[APIKey]:
        """Return the keys that the token's person sees."""
        keys = APIKey.objects.select_related("use").prefetch_related("models", "limits").order_by("id")
        return access.visible(self.request.user, keys)

    def told(self, key: APIKey) -> dict[str, Any]:
        """Return a key as it is now."""
        return dict(KeySerializer(self.get_queryset().get(pk=key.pk)).data)

    def told_once(self, key: APIKey, plain: str | None, hand_over: bool) -> Response:
        """Return a new key with its text, or with a link in its place; on a repeat, without `plain`, with neither."""
        user: Any = self.request.user
        link = None
        if plain and hand_over:
            _, token = handover.make(key, plain, user)
            root = settings.PUBLIC_URL or self.request.build_absolute_uri("/").rstrip("/")
            link = root + reverse("handover", args=[token])
        told = {"key": self.told(key), "text": None if link else plain, "link": link}
        return Response(told, status=201 if plain else 200, headers=ONCE)


class KeyList(_Keys, ListAPIView[APIKey]):
    """All keys, those that work no more too; and new ones."""

    scopes = {"GET": "keys:read", "POST": "keys:write"}

    def get_queryset(self) -> QuerySet[APIKey]:
        """Return those asked for. Raises ValidationError for what is no id."""
        queryset, wanted = super().get_queryset(), self.request.query_params.get("client")
        if wanted is None:
            return queryset
        if not (wanted.isdecimal() and len(wanted) < 19):
            raise ValidationError({"client": "Give a client's id."})
        return queryset.filter(client=int(wanted))

    @extend_schema(parameters=[OpenApiParameter("client", int, description="Of this client alone.")])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=IssueSerializer,
        responses={201: NewKeySerializer, 200: NewKeySerializer},
        parameters=[IDEMPOTENCY_KEY],
        examples=[OpenApiExample("For staging", {"client": 7, "name": "staging", "limits": ["requests=100/day"]})],
    )
    def post(self, request: Request) -> Response:
        """Issue a key; its text is in the answer, and nowhere else ever again."""
        user: Any = request.user
        if not access.may(user, "add", APIKey):
            raise PermissionDenied("Your role does not issue keys.")
        asked = self.sent(IssueSerializer)
        client = self.theirs(Client.objects.all(), asked["client"], "change")
        lasts = asked.get("expires_in")

        def issue() -> tuple[int, str]:
            key, plain = lifecycle.issue(
                client,
                asked["name"],
                parse_duration(lasts) if lasts else None,
                models=_models(user, asked.get("models", ())),
                limits=asked.get("limits", ()),
            )
            return key.pk, plain

        made, plain = self.once(issue)
        return self.told_once(self.theirs(APIKey.objects.all(), made), plain, asked["hand_over"])


class KeyDetail(_Keys):
    """One key; somebody else's is a 404."""

    scopes = {"GET": "keys:read"}

    @extend_schema(responses=KeySerializer)
    def get(self, request: Request, pk: int) -> Response:
        """Read it."""
        return Response(self.told(self.theirs(APIKey.objects.all(), pk)))


class KeyRegenerate(_Keys):
    """Replaces a key by a new one of the same name, models, limits and time to live."""

    scopes = {"POST": "keys:write"}

    @extend_schema(request=RegenerateSerializer, responses={201: NewKeySerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Do it."""
        key = self.theirs(APIKey.objects.all(), pk, "change")
        asked = self.sent(RegenerateSerializer)
        new, plain = lifecycle.regenerate(key, parse_duration(asked["grace"]))
        return self.told_once(new, plain, asked["hand_over"])


class KeyRevoke(_Keys):
    """Ends a key now, for good: refused everywhere within a second."""

    scopes = {"POST": "keys:write"}

    @extend_schema(request=ReasonSerializer, responses=KeySerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Do it."""
        key = self.theirs(APIKey.objects.all(), pk, "change")
        lifecycle.revoke(key, self.sent(ReasonSerializer)["reason"])
        return Response(self.told(key))


def _models(user: access.Person, names: list[str]) -> list[Model]:
    found = list(access.visible(user, Model.objects.filter(name__in=names, enabled=True)))
    if missing := sorted(set(names) - {model.name for model in found}):
        raise ValidationError({"models": f"There is no model {missing[0]!r:.100}."})
    return found
