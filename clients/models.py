"""Who calls: the client (tenant) and its limits, and the plans that limits are copied from."""

import uuid
from collections.abc import Iterable
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Length, Trim
from django.db.models.lookups import GreaterThan
from django.utils import timezone

from clients.access_tokens import AccessToken
from clients.agency import Agency
from clients.audit import AuditEntry
from clients.idempotency import IdempotencyKey
from clients.limits import format_amount
from clients.logos import Logo
from clients.names import no_control_characters
from clients.own_prices import OwnPrice
from pricing import audit
from pricing.models import Provider

# The entry is this app's, too
__all__ = [
    "AccessToken",
    "Agency",
    "AuditEntry",
    "Client",
    "ClientQuerySet",
    "IdempotencyKey",
    "ImportDraft",
    "Limit",
    "Logo",
    "Membership",
    "OwnPrice",
    "Plan",
    "PlanLimit",
    "no_control_characters",
]


def default_time_zone() -> str:
    """Return the installation's own zone."""
    zone: str = settings.TIME_ZONE
    return zone


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all IANA time zones here; they are read from disk once."""
    return frozenset(available_timezones())


def check_time_zone(name: str) -> None:
    """Raise ValidationError unless `name` is a zone of the IANA database, spelt as there."""
    if name not in time_zones():
        raise ValidationError("%(name)s is not an IANA time zone, such as Europe/Berlin.", params={"name": repr(name)})


MARKUP_RANGE = (-10_000, 1_000_000)
"""Basis points: from all of the provider's cost given away to a hundred times on top of it."""
BRAKE_MOST = 100_000  # calls a minute
BRAKE_TIMES = (2, 1_000)


class LimitFields(models.Model):
    """So much of a metric in one cycle."""

    class Metric(models.TextChoices):
        REQUESTS = "requests", "Requests"
        TOKENS = "tokens", "Tokens"
        CREDITS = "credits", "Credits (USD charged)"
        SESSIONS = "sessions", "WhatsApp sessions"

    class Cycle(models.TextChoices):
        MINUTE = "minute", "a minute"
        HOUR = "hour", "an hour"
        DAY = "day", "a day"
        WEEK = "week", "a week"
        MONTH = "month", "a month"
        TOTAL = "total", "in total"

    metric = models.CharField(max_length=10, choices=Metric)
    amount = models.BigIntegerField(validators=[MinValueValidator(0)], help_text="Credits: picodollars of charge.")
    cycle = models.CharField(max_length=10, choices=Cycle)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=models.Q(metric__in=["requests", "tokens", "credits", "sessions"]),
                name="%(class)s_metric_known",
            ),
            models.CheckConstraint(
                condition=models.Q(cycle__in=["minute", "hour", "day", "week", "month", "total"]),
                name="%(class)s_cycle_known",
            ),
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="%(class)s_amount_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{format_amount(self.metric, self.amount)} {self.get_cycle_display()}"


class Plan(models.Model):
    """Limits and a markup under a name. They are copied to clients: the data plane knows nothing of plans."""

    name = models.CharField(max_length=100, unique=True, validators=[no_control_characters])
    description = models.TextField(blank=True, max_length=2_000)
    markup_bp = models.IntegerField(
        "markup",
        default=0,
        validators=[MinValueValidator(MARKUP_RANGE[0]), MaxValueValidator(MARKUP_RANGE[1])],
        help_text="On the provider's cost, in hundredths of a percent.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=GreaterThan(Length(Trim("name")), 0),
                name="plan_name_not_blank",
                violation_error_message="The name must not be blank.",
            ),
            models.CheckConstraint(
                condition=models.Q(markup_bp__gte=MARKUP_RANGE[0], markup_bp__lte=MARKUP_RANGE[1]),
                name="plan_markup_in_range",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Trim the name, so that two plans never differ by a blank alone."""
        self.name = self.name.strip()


class PlanLimit(LimitFields):
    """What clients of a plan may use in one cycle, unless they deviate."""

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="limits")

    objects = audit.Audited.as_manager()

    class Meta(LimitFields.Meta):
        ordering = ["plan", "metric", "cycle"]
        constraints = [
            *LimitFields.Meta.constraints,
            models.UniqueConstraint(
                fields=["plan", "metric", "cycle"],
                name="planlimit_once_per_metric_and_cycle",
                violation_error_message="There is already a limit for this metric and cycle.",
            ),
        ]


class ClientQuerySet(audit.Audited["Client"]):
    """Clients, and what is done to many of them at once."""

    def current(self) -> "ClientQuerySet":
        """Return those that are not archived: what lists show unless asked for all."""
        return self.exclude(status=Client.Status.INACTIVE)

    def suspend(self, reason: str = "") -> int:
        """Refuse the calls of those that are active until they are activated again; return how many there were."""
        _check_reason(reason)
        return self.filter(status=Client.Status.ACTIVE).update(
            status=Client.Status.SUSPENDED, status_reason=reason.strip()
        )

    def update(self, **values: Any) -> int:
        """Update as Django does, and let forms opened before know that they are out of date."""
        return super().update(**{"version": models.F("version") + 1, "changed_at": timezone.now(), **values})


class Client(models.Model):
    """A tenant: whose calls these are, what it may still use, and what it pays."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"
        INACTIVE = "inactive", "Archived"

        @property
        def what_happens(self) -> str:
            """What comes of it at once, told before somebody decides."""
            return _WHAT_HAPPENS[self.value]

    class Brake(models.TextChoices):
        """What becomes of a workflow or session above its rate."""

        SLOW = "slow", "slow it down to that rate"
        STOP = "stop", "stop it until it was quiet for 5 minutes"

    name = models.CharField(max_length=200, unique=True, validators=[no_control_characters])
    email = models.EmailField(blank=True)
    company = models.CharField(max_length=200, blank=True, validators=[no_control_characters])
    phone = models.CharField(max_length=50, blank=True, validators=[no_control_characters])
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=200, blank=True, validators=[no_control_characters])
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="clients")
    plan = models.ForeignKey(Plan, models.PROTECT, null=True, blank=True, related_name="clients")
    plan_terms = models.TextField(
        blank=True, editable=False, help_text="What was last copied from the plan, as `clients.plans.terms` writes it."
    )
    provider = models.ForeignKey(
        Provider,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="clients_of_own",
        help_text="The client's own account at a provider. Blank: yours.",
    )
    markup_bp = models.IntegerField(
        "markup",
        default=0,
        validators=[MinValueValidator(MARKUP_RANGE[0]), MaxValueValidator(MARKUP_RANGE[1])],
        help_text="On the provider's cost, in hundredths of a percent.",
    )
    time_zone = models.CharField(
        max_length=64,
        default=default_time_zone,
        validators=[check_time_zone],
        help_text="Days and longer cycles follow the calendar there.",
    )
    cycle_start_day = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(31)],
        help_text="Of months (31: the last day); of weeks, 1 is Monday, 8 again.",
    )
    brake_per_minute = models.PositiveIntegerField(
        "runaway brake",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(BRAKE_MOST)],
        help_text="A workflow, or a WhatsApp user, with more calls a minute is taken for a loop. Blank: off.",
    )
    brake_times = models.PositiveSmallIntegerField(
        "beyond the usual",
        null=True,
        blank=True,
        validators=[MinValueValidator(BRAKE_TIMES[0]), MaxValueValidator(BRAKE_TIMES[1])],
        help_text="More than so many times the calls of its usual busy minute are a loop, too. Blank: off.",
    )
    brake_action = models.CharField("above it", max_length=4, choices=Brake, default=Brake.SLOW)
    notes = models.TextField(blank=True, max_length=10_000)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)
    version = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Moves up with every change, so that a form knows when it is out of date."
    )
    onboarding_token = models.UUIDField(
        null=True, blank=True, unique=True, editable=False, help_text="Of the form that made it: sent twice, made once."
    )

    objects = ClientQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=GreaterThan(Length(Trim("name")), 0),
                name="client_name_not_blank",
                violation_error_message="The name must not be blank.",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "suspended", "inactive"]), name="client_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(markup_bp__gte=MARKUP_RANGE[0], markup_bp__lte=MARKUP_RANGE[1]),
                name="client_markup_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(cycle_start_day__gte=1, cycle_start_day__lte=31), name="client_start_day_in_month"
            ),
            models.CheckConstraint(condition=~models.Q(time_zone=""), name="client_time_zone_given"),
            models.CheckConstraint(
                condition=models.Q(brake_per_minute=None)
                | models.Q(brake_per_minute__gte=1, brake_per_minute__lte=BRAKE_MOST),
                name="client_brake_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(brake_times=None)
                | models.Q(brake_times__gte=BRAKE_TIMES[0], brake_times__lte=BRAKE_TIMES[1]),
                name="client_brake_times_in_range",
            ),
            models.CheckConstraint(condition=models.Q(brake_action__in=["slow", "stop"]), name="client_brake_known"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(
        self,
        *,
        force_insert: bool | tuple[models.base.ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save, and let forms opened before know that they are out of date."""
        if self._state.adding:
            super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)
            return
        seen = self.version
        self.version = models.F("version") + 1  # the database counts, not a copy that may be old
        self.changed_at = timezone.now()
        if update_fields is not None:
            update_fields = {*update_fields, "version", "changed_at"}
        try:
            super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)
        except BaseException:
            self.version = seen
            raise
        self.refresh_from_db(using=using, fields=["version"])

    def clean(self) -> None:
        """Trim the name, so that two clients never differ by a blank alone; see that whoever pays may be asked to.

        Raises ValidationError where the account is another operator's.
        """
        self.name = self.name.strip()
        accounts = Provider.objects.serving_clients_of(self.owner_id)
        if self.provider_id is not None and not accounts.filter(pk=self.provider_id).exists():
            raise ValidationError({"provider": "This account is another operator's: choose one of this client's own."})

    @property
    def zone(self) -> ZoneInfo:
        """The client's time zone."""
        return ZoneInfo(self.time_zone)

    def has_history(self) -> bool:
        """Tell whether anything that must stay (keys, usage) belongs to the client: then it can't be deleted."""
        protected = [relation for relation in self._meta.related_objects if relation.on_delete is models.PROTECT]
        return any(
            relation.related_model._base_manager.filter(**{relation.field.name: self}).exists()
            for relation in protected
        )

    def suspend(self, reason: str = "") -> None:
        """Refuse the client's calls until it is activated again."""
        self._set_status(self.Status.SUSPENDED, reason)

    def activate(self) -> None:
        """Let the client's calls through; one that was archived is back in lists with it."""
        self._set_status(self.Status.ACTIVE, "")

    def archive(self, reason: str = "") -> None:
        """Put the client away: calls are refused, no keys can be made, lists leave it out, usage stays."""
        self._set_status(self.Status.INACTIVE, reason)

    def _set_status(self, status: Status, reason: str) -> None:
        _check_reason(reason)
        self.status, self.status_reason = status, reason.strip()
        self.save(update_fields=["status", "status_reason"])


class Limit(LimitFields):
    """What a client may use in one cycle: so much of a metric, never more."""

    client = models.ForeignKey(Client, models.CASCADE, related_name="limits")

    objects = audit.Audited.as_manager()

    class Meta(LimitFields.Meta):
        ordering = ["client", "metric", "cycle"]
        constraints = [
            *LimitFields.Meta.constraints,
            models.UniqueConstraint(
                fields=["client", "metric", "cycle"],
                name="limit_once_per_metric_and_cycle",
                violation_error_message="There is already a limit for this metric and cycle.",
            ),
        ]


class ImportDraft(models.Model):
    """A CSV file of clients that waits for its sender to confirm what it would make. Gone with that, or after a day."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sender = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    file_name = models.CharField(max_length=200)
    content = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.file_name


class Membership(models.Model):
    """What a person is in the back office. Superusers are owners, with or without one of these; see clients.access."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        OPERATOR = "operator", "Operator"
        FINANCE = "finance", "Finance"
        VIEWER = "viewer", "Viewer"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="membership")
    role = models.CharField(max_length=10, choices=Role)
    all_clients = models.BooleanField(
        default=False, help_text="An operator works with the clients of every operator, not only with his own."
    )
    time_zone = models.CharField(
        max_length=64,
        blank=True,
        validators=[check_time_zone],
        help_text="Times are shown in it; without one, in the installation's.",
    )

    objects = audit.Audited.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "operator", "finance", "viewer"]), name="membership_role_known"
            ),
            models.CheckConstraint(
                condition=models.Q(all_clients=False) | models.Q(role="operator"),
                name="membership_all_clients_of_operators",
            ),
        ]

    def __str__(self) -> str:
        return self.get_role_display()


_WHAT_HAPPENS = {
    "active": (
        "Its calls are answered again within a second, with the keys it has: whoever calls need not change anything. "
        "Keys that were revoked or ran out stay dead."
    ),
    "suspended": (
        "Every call is refused within a second, with 403 client_suspended. Keys, limits and history stay as they are; "
        "one click brings it back."
    ),
    "inactive": (
        "Every call is refused within a second, with 403 client_inactive. The client leaves the lists and gets no new "
        "keys. Its history stays, and it can be brought back."
    ),
}


def _check_reason(reason: str) -> None:
    field = Client._meta.get_field("status_reason")
    try:
        field.clean(reason.strip(), None)
    except ValidationError as error:
        raise ValidationError({"status_reason": error}) from error
