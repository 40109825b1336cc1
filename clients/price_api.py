"""The REST API's models, prices and providers. Here, since pricing knows nothing of who may see what."""

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clients.access import visible
from clients.rest_views import Strict, View
from pricing.models import Model, Provider
from pricing.money import rate_from_million, rate_to_million
from pricing.price_list import Step, history, new_price

RATES = ("input", "output", "cached_input", "cache_write", "audio_input", "audio_output")
PER = "USD per 1M tokens."


class ModelSerializer(serializers.ModelSerializer[Model]):
    """A model that clients may ask for."""

    provider = serializers.CharField(source="provider.name", read_only=True)

    class Meta:
        model = Model
        fields = ("id", "name", "upstream_name", "provider", "enabled", "free")
        read_only_fields = fields


class ProviderSerializer(serializers.ModelSerializer[Provider]):
    """A provider; never its credential."""

    class Meta:
        model = Provider
        fields = ("id", "name", "kind", "base_url", "enabled")
        read_only_fields = fields


class PriceSerializer(Strict):
    """A version of a model's prices, in USD per 1M tokens."""

    input = serializers.DecimalField(20, 6, help_text=PER)
    output = serializers.DecimalField(20, 6, help_text=PER)
    cached_input = serializers.DecimalField(20, 6, required=False, help_text=PER)
    cache_write = serializers.DecimalField(20, 6, required=False, help_text=PER)
    audio_input = serializers.DecimalField(20, 6, required=False, help_text=PER)
    audio_output = serializers.DecimalField(20, 6, required=False, help_text=PER)
    effective_from = serializers.DateTimeField(required=False, allow_null=True, help_text="Left out: from now on.")


class VersionSerializer(serializers.Serializer[Any]):
    """A version of a model's prices as it stands."""

    service_tier = serializers.CharField()
    effective_from = serializers.DateTimeField()
    state = serializers.CharField()
    above_tokens = serializers.IntegerField(help_text="For calls with more input than this.")
    usd_per_million = serializers.DictField(child=serializers.CharField(allow_null=True))


class ModelList(View, ListAPIView[Model]):
    """The models, those switched off too."""

    serializer_class = ModelSerializer
    scopes = {"GET": "prices:read"}

    def get_queryset(self) -> QuerySet[Model]:
        """Return those that the token's person sees."""
        return visible(self.request.user, Model.objects.select_related("provider").order_by("name", "id"))


class ProviderList(View, ListAPIView[Provider]):
    """The providers."""

    serializer_class = ProviderSerializer
    scopes = {"GET": "prices:read"}

    def get_queryset(self) -> QuerySet[Provider]:
        """Return those that the token's person sees."""
        return visible(self.request.user, Provider.objects.order_by("name", "id"))


class ModelPrices(View):
    """A model's price list, the newest version first; a price in force is never changed, only followed by another."""

    scopes = {"GET": "prices:read", "POST": "prices:write"}

    @extend_schema(responses=VersionSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """Read it."""
        return Response(_versions(self.theirs(Model.objects.all(), pk)))

    @extend_schema(
        request=PriceSerializer,
        responses={201: VersionSerializer(many=True)},
        examples=[
            OpenApiExample(
                "From the 1st", {"input": "0.15", "output": "0.60", "effective_from": "2027-01-01T00:00:00+01:00"}
            )
        ],
    )
    def post(self, request: Request, pk: int) -> Response:
        """Add a version, from now on or from a moment to come."""
        model = self.theirs(Model.objects.all(), pk, "change")
        asked = self.sent(PriceSerializer)
        user: Any = request.user
        rates = {name: _rate(name, asked[name]) for name in RATES if name in asked}
        new_price(model, [Step(**rates)], asked.get("effective_from"), user)
        return Response(_versions(model), status=status.HTTP_201_CREATED)


def _rate(name: str, usd: Decimal) -> int:
    try:
        return rate_from_million(usd)
    except ValueError as error:
        raise ValidationError({name: str(error)}) from error


def _versions(model: Model) -> list[dict[str, Any]]:
    return [
        {
            "service_tier": version.service_tier,
            "effective_from": version.effective_from,
            "state": str(version.state),
            "above_tokens": row.above_tokens,
            "usd_per_million": {
                name: None if (rate := getattr(row, name)) is None else f"{rate_to_million(rate):f}" for name in RATES
            },
        }
        for version in history(model, timezone.now())
        for row in version.rows
    ]
