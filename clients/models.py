"""Who calls: the client (tenant) and its limits."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Length, Trim
from django.db.models.lookups import GreaterThan
from django.utils import timezone

from clients.audit import AuditEntry
from clients.limits import format_amount

__all__ = ["AuditEntry", "Client", "Limit", "Membership"]  # the entry is this app's, too

# Names go to terminals, logs, CSV and mail headers; the line and paragraph separators break lines there as well.
no_control_characters = RegexValidator(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]",
    "Control characters are not allowed.",
    inverse_match=True,
)


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


class Client(models.Model):
    """A tenant: whose calls these are, what it may still use, and what it pays."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"
        INACTIVE = "inactive", "Archived"

    name = models.CharField(max_length=200, unique=True, validators=[no_control_characters])
    email = models.EmailField(blank=True)
    company = models.CharField(max_length=200, blank=True, validators=[no_control_characters])
    phone = models.CharField(max_length=50, blank=True, validators=[no_control_characters])
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=200, blank=True, validators=[no_control_characters])
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="clients")
    markup_bp = models.IntegerField(
        "markup",
        default=0,
        validators=[MinValueValidator(-10_000), MaxValueValidator(1_000_000)],
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
    notes = models.TextField(blank=True, max_length=10_000)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

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
                condition=models.Q(markup_bp__gte=-10_000, markup_bp__lte=1_000_000), name="client_markup_in_range"
            ),
            models.CheckConstraint(
                condition=models.Q(cycle_start_day__gte=1, cycle_start_day__lte=31), name="client_start_day_in_month"
            ),
            models.CheckConstraint(condition=~models.Q(time_zone=""), name="client_time_zone_given"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Trim the name, so that two clients never differ by a blank alone."""
        self.name = self.name.strip()

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
        """Let the client's calls through."""
        self._set_status(self.Status.ACTIVE, "")

    def archive(self) -> None:
        """Put the client away for good: calls are refused, no keys can be made, usage stays."""
        self._set_status(self.Status.INACTIVE, "")

    def _set_status(self, status: Status, reason: str) -> None:
        self.status, self.status_reason = status, reason
        self.clean_fields(exclude=[f.name for f in self._meta.fields if f.name not in {"status", "status_reason"}])
        self.save(update_fields=["status", "status_reason"])


class Limit(models.Model):
    """What a client may use in one cycle: so much of a metric, never more."""

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

    client = models.ForeignKey(Client, models.CASCADE, related_name="limits")
    metric = models.CharField(max_length=10, choices=Metric)
    amount = models.BigIntegerField(validators=[MinValueValidator(0)], help_text="Credits: picodollars of charge.")
    cycle = models.CharField(max_length=10, choices=Cycle)

    class Meta:
        ordering = ["client", "metric", "cycle"]
        constraints = [
            models.UniqueConstraint(
                fields=["client", "metric", "cycle"],
                name="limit_once_per_metric_and_cycle",
                violation_error_message="There is already a limit for this metric and cycle.",
            ),
            models.CheckConstraint(
                condition=models.Q(metric__in=["requests", "tokens", "credits", "sessions"]), name="limit_metric_known"
            ),
            models.CheckConstraint(
                condition=models.Q(cycle__in=["minute", "hour", "day", "week", "month", "total"]),
                name="limit_cycle_known",
            ),
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="limit_amount_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{format_amount(self.metric, self.amount)} {self.get_cycle_display()}"


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
