"""The REST API's clients and plans."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clients.access import may, visible
from clients.editing import claim
from clients.markup import format_markup, parse_markup
from clients.models import Client, Plan
from clients.onboarding import find_plan, set_plan
from clients.plans import adopt_plan_changes, apply_plan
from clients.rest_views import NoBody, Strict, View

EDITED = (
    *("name", "email", "company", "phone", "notes", "time_zone", "cycle_start_day"),
    *("brake_per_minute", "brake_times", "brake_action"),
)
"""What a PATCH may change, beside the markup."""


class ClientSerializer(serializers.ModelSerializer[Client]):
    """A client as automations read it: markup in percent, limits as they are written."""

    plan = serializers.CharField(source="plan.name", default=None, read_only=True)
    markup_percent = serializers.SerializerMethodField()
    limits: serializers.Field[Any, Any, Any, Any] = serializers.StringRelatedField(many=True, read_only=True)

    class Meta:
        model = Client
        fields = (
            *("id", "name", "email", "company", "phone", "status", "status_reason", "plan", "markup_percent"),
            *("limits", "time_zone", "cycle_start_day", "notes"),
            *("brake_per_minute", "brake_times", "brake_action"),
            *("created_at", "changed_at", "version"),
        )
        read_only_fields = fields

    def get_markup_percent(self, client: Client) -> str:
        """Return percent."""
        return format_markup(client.markup_bp)


class ChangeSerializer(Strict):
    """What may be changed of a client; what is left out stays."""

    version = serializers.IntegerField(help_text="The client's version that you read: somebody else's change is kept.")
    name = serializers.CharField(max_length=200, required=False)
    email = serializers.CharField(max_length=254, required=False, allow_blank=True)
    company = serializers.CharField(max_length=200, required=False, allow_blank=True)
    phone = serializers.CharField(max_length=50, required=False, allow_blank=True)
    notes = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
    time_zone = serializers.CharField(max_length=64, required=False)
    cycle_start_day = serializers.IntegerField(required=False)
    brake_per_minute = serializers.IntegerField(required=False, allow_null=True)
    brake_times = serializers.IntegerField(required=False, allow_null=True)
    brake_action = serializers.ChoiceField(Client.Brake.choices, required=False)
    markup_percent = serializers.CharField(max_length=12, required=False)


class ReasonSerializer(Strict):
    """Why; for the team, callers do not see it."""

    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class PlanChoiceSerializer(Strict):
    """Which plan."""

    plan = serializers.CharField(max_length=100, allow_null=True, help_text="Its name; null for none.")


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A plan: limits and a markup under a name."""

    markup_percent = serializers.SerializerMethodField()
    limits: serializers.Field[Any, Any, Any, Any] = serializers.StringRelatedField(many=True, read_only=True)

    class Meta:
        model = Plan
        fields = ("id", "name", "markup_percent", "limits")
        read_only_fields = fields

    def get_markup_percent(self, plan: Plan) -> str:
        """Return percent."""
        return format_markup(plan.markup_bp)


class NewPlanSerializer(Strict):
    """A plan to be made."""

    name = serializers.CharField(max_length=100)
    description = serializers.CharField(max_length=2_000, required=False, allow_blank=True)
    markup_percent = serializers.CharField(max_length=12, required=False)
    limits = serializers.ListField(
        child=serializers.CharField(max_length=100),
        max_length=50,
        required=False,
        help_text="As requests=100/day, credits=25.50/month.",
    )


class PlanChangeSerializer(NewPlanSerializer):
    """What may be changed of a plan; what is left out stays."""

    name = serializers.CharField(max_length=100, required=False)
    adopt = serializers.BooleanField(
        required=False, help_text="Give the clients that follow the plan its terms of today, too."
    )


class OutOfDate(APIException):
    """409: somebody else changed it meanwhile; read it again."""

    status_code = status.HTTP_409_CONFLICT


class _Clients(View):
    serializer_class = ClientSerializer

    def get_queryset(self) -> QuerySet[Client]:
        """Return the clients that the token's person sees."""
        clients = Client.objects.select_related("plan").prefetch_related("limits").order_by("id")
        return visible(self.request.user, clients)

    def told(self, client: Client) -> Response:
        """Return a client as it is now."""
        return Response(ClientSerializer(self.get_queryset().get(pk=client.pk)).data)


@extend_schema(
    parameters=[
        OpenApiParameter("status", str, enum=list(Client.Status.values)),
        OpenApiParameter("plan", str, description="A plan's name."),
        OpenApiParameter("q", str, description="Part of the name, the company or the e-mail."),
    ]
)
class ClientList(_Clients, ListAPIView[Client]):
    """All clients, archived ones too."""

    scopes = {"GET": "clients:read"}

    def get_queryset(self) -> QuerySet[Client]:
        """Return those asked for. Raises ValidationError for a status that there is not."""
        query, queryset = self.request.query_params, super().get_queryset()
        if wanted := query.get("status"):
            if wanted not in Client.Status.values:
                raise ValidationError({"status": f"Use one of {', '.join(Client.Status.values)}."})
            queryset = queryset.filter(status=wanted)
        if plan := query.get("plan"):
            queryset = queryset.filter(plan__name=plan[:200])
        if text := query.get("q", "").strip()[:200]:
            queryset = queryset.filter(Q(name__icontains=text) | Q(company__icontains=text) | Q(email__icontains=text))
        return queryset


class ClientDetail(_Clients):
    """One client; somebody else's is a 404."""

    scopes = {"GET": "clients:read", "PATCH": "clients:write"}

    @extend_schema(responses=ClientSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """Read it."""
        return self.told(self.theirs(Client.objects.all(), pk))

    @extend_schema(
        request=ChangeSerializer,
        responses=ClientSerializer,
        examples=[OpenApiExample("An address", {"version": 3, "email": "it@dental.example", "markup_percent": "25"})],
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change the fields sent. 409 where somebody else was quicker."""
        client = self.theirs(Client.objects.all(), pk, "change")
        wanted = self.sent(ChangeSerializer)
        with transaction.atomic():
            try:
                claim(client, wanted["version"])
            except ValidationError as error:
                raise OutOfDate("Somebody changed this client meanwhile: read it again, then decide.") from error
            for name in EDITED:
                if name in wanted:
                    setattr(client, name, wanted[name])
            if "markup_percent" in wanted:
                client.markup_bp = parse_markup(wanted["markup_percent"])
            client.full_clean()
            client.save()
        return self.told(client)


class ClientStatus(_Clients):
    """Suspends, activates or archives a client; callers notice within a second."""

    scopes = {"POST": "clients:write"}
    act = ""
    """'suspend', 'activate' or 'archive'."""

    @extend_schema(request=ReasonSerializer, responses=ClientSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Do it."""
        client = self.theirs(Client.objects.all(), pk, "change")
        if self.act == "activate":
            self.sent(NoBody)
            client.activate()
        else:
            reason = self.sent(ReasonSerializer)["reason"]
            (client.suspend if self.act == "suspend" else client.archive)(reason)
        return self.told(client)


class ClientPlan(_Clients):
    """Gives a client another plan, with its limits and markup; deviations are gone with it."""

    scopes = {"POST": "clients:write"}

    @extend_schema(request=PlanChoiceSerializer, responses=ClientSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Do it."""
        client = self.theirs(Client.objects.all(), pk, "change")
        name = self.sent(PlanChoiceSerializer)["plan"]
        apply_plan(client, None if name is None else find_plan(name))
        return self.told(client)


class PlanList(View, ListAPIView[Plan]):
    """All plans."""

    serializer_class = PlanSerializer
    scopes = {"GET": "clients:read", "POST": "clients:write"}

    def get_queryset(self) -> QuerySet[Plan]:
        """Return those that the token's person sees."""
        return visible(self.request.user, Plan.objects.prefetch_related("limits").order_by("name"))

    @extend_schema(
        request=NewPlanSerializer,
        responses={201: PlanSerializer},
        examples=[OpenApiExample("Basic", {"name": "Basic", "limits": ["requests=1000/month"]}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Make one. Owners do."""
        if not may(self.request.user, "add", Plan):
            raise PermissionDenied("Owners make plans.")
        plan = Plan()
        set_plan(plan, **_plan_values(self.sent(NewPlanSerializer)))
        return Response(PlanSerializer(plan).data, status=status.HTTP_201_CREATED)


class PlanDetail(View):
    """One plan."""

    scopes = {"PATCH": "clients:write"}

    @extend_schema(request=PlanChangeSerializer, responses=PlanSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is sent. Clients keep their terms, those that follow the plan too, unless `adopt` says so."""
        plan = self.theirs(Plan.objects.all(), pk, "change")
        sent = self.sent(PlanChangeSerializer)
        adopt = sent.pop("adopt", False)
        with transaction.atomic():
            set_plan(plan, **_plan_values(sent))
            if adopt:
                adopt_plan_changes(plan)
        return Response(PlanSerializer(plan).data)


def _plan_values(sent: dict[str, Any]) -> dict[str, Any]:
    if "markup_percent" in sent:
        sent["markup_bp"] = parse_markup(sent.pop("markup_percent"))
    return sent
