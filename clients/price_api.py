"""The REST API's models, prices and providers. Here, since pricing knows nothing of who may see what."""

from collections.abc import Mapping
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
from clients.models import Client
from clients.own_prices import MOST, set_own_prices
from clients.rest_views import Strict, View
from pricing.models import Model, Provider
from pricing.money import rate_from_million, rate_to_million
from pricing.price_list import Step, history, new_price
from pricing.rate_columns import RATES, RateColumns

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


class RatesSerializer(Strict):
    """Rates in USD per 1M tokens; one left out is that of the whole, input or output."""

    input = serializers.DecimalField(20, 6, help_text=PER)
    output = serializers.DecimalField(20, 6, help_text=PER)
    cached_input = serializers.DecimalField(20, 6, required=False, help_text=PER)
    cache_write = serializers.DecimalField(20, 6, required=False, help_text=PER)
    audio_input = serializers.DecimalField(20, 6, required=False, help_text=PER)
    audio_output = serializers.DecimalField(20, 6, required=False, help_text=PER)


class PriceSerializer(RatesSerializer):
    """A version of a model's prices."""

    effective_from = serializers.DateTimeField(required=False, allow_null=True, help_text="Left out: from now on.")


class OwnPriceSerializer(RatesSerializer):
    """What a client pays for a model, in place of its markup."""

    model = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Its id.")


class OwnPricesSerializer(Strict):
    """All own prices of a client."""

    prices = OwnPriceSerializer(many=True, max_length=MOST)  # type: ignore[call-arg]  # the list's, which DRF passes on


class OwnShownSerializer(serializers.Serializer[Any]):
    """An own price as it stands."""

    model = serializers.IntegerField()
    name = serializers.CharField(help_text="The model's.")
    usd_per_million = serializers.DictField(child=serializers.CharField(allow_null=True))


class ModelChangeSerializer(Strict):
    """What may be changed of a model; what is left out stays."""

    name = serializers.CharField(max_length=200, required=False, help_text="What clients ask for.")
    upstream_name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    enabled = serializers.BooleanField(required=False)


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


class ModelDetail(View):
    """One model."""

    scopes = {"GET": "prices:read", "PATCH": "prices:write"}

    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """Read it."""
        return Response(ModelSerializer(self.theirs(Model.objects.select_related("provider"), pk)).data)

    @extend_schema(
        request=ModelChangeSerializer,
        responses=ModelSerializer,
        examples=[OpenApiExample("Switched off", {"enabled": False}, request_only=True)],
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change the fields sent; callers notice within a second."""
        model = self.theirs(Model.objects.select_related("provider"), pk, "change")
        for name, value in self.sent(ModelChangeSerializer).items():
            setattr(model, name, value)
        model.full_clean()
        model.save()
        return Response(ModelSerializer(model).data)


class ClientPrices(View):
    """What a client pays for models, in place of its markup; from the next call on."""

    scopes = {"GET": "clients:read", "PUT": "clients:write"}

    @extend_schema(responses=OwnShownSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """Read them."""
        return Response(_own(self.theirs(Client.objects.all(), pk)))

    @extend_schema(
        request=OwnPricesSerializer,
        responses=OwnShownSerializer(many=True),
        examples=[
            OpenApiExample(
                "One model", {"prices": [{"model": 3, "input": "0.30", "output": "1.20"}]}, request_only=True
            )
        ],
    )
    def put(self, request: Request, pk: int) -> Response:
        """Replace them all."""
        client = self.theirs(Client.objects.all(), pk, "change")
        sent = self.sent(OwnPricesSerializer)["prices"]
        wanted = {one["model"]: _rates(one) for one in sent}
        if len(wanted) < len(sent):
            raise ValidationError({"prices": "A model is there twice."})
        set_own_prices(client, wanted)
        return Response(_own(client))


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
        new_price(model, [Step(**_rates(asked))], asked.get("effective_from"), user)
        return Response(_versions(model), status=status.HTTP_201_CREATED)


def _rates(sent: Mapping[str, Any]) -> dict[str, int]:
    return {name: _rate(name, sent[name]) for name in RATES if name in sent}


def _rate(name: str, usd: Decimal) -> int:
    try:
        return rate_from_million(usd)
    except ValueError as error:
        raise ValidationError({name: str(error)}) from error


def _shown(row: RateColumns) -> dict[str, str | None]:
    return {name: None if (rate := getattr(row, name)) is None else f"{rate_to_million(rate):f}" for name in RATES}


def _own(client: Client) -> list[dict[str, Any]]:
    prices = client.own_prices.select_related("model").order_by("model__name", "pk")
    return [{"model": one.model_id, "name": one.model.name, "usd_per_million": _shown(one)} for one in prices]


def _versions(model: Model) -> list[dict[str, Any]]:
    return [
        {
            "service_tier": version.service_tier,
            "effective_from": version.effective_from,
            "state": str(version.state),
            "above_tokens": row.above_tokens,
            "usd_per_million": _shown(row),
        }
        for version in history(model, timezone.now())
        for row in version.rows
    ]
