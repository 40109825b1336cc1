"""How clients prove who they are: keys, of which only digests are stored, what they may do, and how they were used."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact
from django.utils import timezone

from clients.models import Client, LimitFields, no_control_characters
from pricing import audit
from pricing.models import Model


class APIKeyQuerySet(audit.Audited["APIKey"]):
    """Keys by how they stand now."""

    def working(self) -> "APIKeyQuerySet":
        """Return the keys that are neither revoked nor expired, those in their grace period among them."""
        endless = models.Q(expires_at__isnull=True)
        return self.filter(endless | models.Q(expires_at__gt=timezone.now()), revoked_at__isnull=True)

    def expired(self) -> "APIKeyQuerySet":
        """Return the keys that have come to their end unrevoked."""
        return self.filter(expires_at__lte=timezone.now(), revoked_at__isnull=True)

    def revoked(self) -> "APIKeyQuerySet":
        """Return the keys that were ended before their time."""
        return self.filter(revoked_at__isnull=False)

    def expiring(self, within: timedelta) -> "APIKeyQuerySet":
        """Return the keys that work and will end within that time, the first to end first.

        Left out is what nobody waits for: keys in their grace period, and those of archived clients.
        """
        now = timezone.now()
        ending = self.filter(revoked_at__isnull=True, expires_at__gt=now, expires_at__lte=now + within)
        return ending.filter(replaced_by__isnull=True).exclude(client__status="inactive").order_by("expires_at", "id")


class APIKey(models.Model):
    """A key of a client. Its text is shown once, when it is made, and can not be had from here again."""

    client = models.ForeignKey(Client, models.PROTECT, related_name="keys")
    name = models.CharField(
        max_length=200,
        blank=True,
        validators=[no_control_characters],
        help_text="What it is used for, such as the n8n instance that holds it.",
    )
    digest = models.BinaryField(max_length=32, unique=True)
    hint = models.CharField(max_length=24, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=200, blank=True, validators=[no_control_characters])
    replaced_by = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="replaces")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # The last field: below it, the name no longer means the module
    models = models.ManyToManyField(
        Model,
        through="AllowedModel",
        related_name="+",
        blank=True,
        help_text="The only models that may be used with it; none chosen: all.",
    )

    objects = APIKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "key"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), 32), name="key_digest_is_sha256"),
            models.CheckConstraint(condition=~models.Q(hint=""), name="key_hint_given"),
            models.CheckConstraint(
                condition=models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=models.F("created_at")),
                name="key_expires_after_creation",
            ),
            models.CheckConstraint(
                condition=models.Q(revoked_reason="") | models.Q(revoked_at__isnull=False),
                name="key_reason_only_if_revoked",
            ),
            models.CheckConstraint(
                condition=models.Q(replaced_by__isnull=True) | ~models.Q(replaced_by=models.F("id")),
                name="key_not_replaced_by_itself",
            ),
            models.UniqueConstraint(fields=["replaced_by"], name="key_replaces_one_at_most"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})" if self.name else self.hint

    def state(self, now: datetime) -> str:
        """Return 'revoked', 'expired', 'replaced' (works until its grace ends) or 'active' as of `now`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active" if self.replaced_by_id is None else "replaced"


class AllowedModel(models.Model):
    """A model that a key may use. Where a key has any, it may use no others."""

    key = models.ForeignKey(APIKey, models.CASCADE, related_name="allowed_models")
    # PROTECT: were a key's last model deleted, the empty list would mean all
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")

    objects = audit.Audited.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "model"], name="allowed_model_once_per_key")]

    def __str__(self) -> str:
        return self.model.name


class KeyLimit(LimitFields):
    """What may be used with one key in one cycle, beside the limits of its client, which its calls count on as well."""

    key = models.ForeignKey(APIKey, models.CASCADE, related_name="limits")

    objects = audit.Audited.as_manager()

    class Meta(LimitFields.Meta):
        verbose_name = "limit of a key"
        verbose_name_plural = "limits of keys"
        ordering = ["key", "metric", "cycle"]
        constraints = [
            *LimitFields.Meta.constraints,
            models.UniqueConstraint(
                fields=["key", "metric", "cycle"],
                name="keylimit_once_per_metric_and_cycle",
                violation_error_message="There is already a limit for this metric and cycle.",
            ),
            # A session goes over to another call where the first one fails: to one with another key, past its limit
            models.CheckConstraint(
                condition=~models.Q(metric="sessions"),
                name="keylimit_not_of_sessions",
                violation_error_message="WhatsApp sessions are limited for a client, whose keys share them.",
            ),
        ]


class KeyUse(models.Model):
    """What a key was used for in all its life. Written with the records, so it has no row before the first call."""

    key = models.OneToOneField(APIKey, models.PROTECT, primary_key=True, related_name="use")
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_address = models.CharField(max_length=45, blank=True, help_text="From where it was last used.")
    last_user_agent = models.CharField(max_length=200, blank=True)
    calls = models.BigIntegerField(default=0)
    tokens = models.BigIntegerField(default=0)
    charge = models.BigIntegerField(default=0, help_text="Picodollars.")

    class Meta:
        verbose_name = "use of a key"
        verbose_name_plural = "uses of keys"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(calls__gte=0, tokens__gte=0, charge__gte=0), name="key_use_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.calls} calls"


class Handover(models.Model):
    """A link that shows a new key once, to whoever opens it and asks for the key. See `keys.handover`."""

    key = models.OneToOneField(APIKey, models.PROTECT, related_name="handover")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    ciphertext = models.TextField(blank=True, editable=False)
    """The key's text, readable with the link and ENCRYPTION_KEYS together; empty as soon as it may not be shown."""
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    opened_at = models.DateTimeField(null=True, editable=False)
    opened_address = models.CharField(max_length=45, blank=True, editable=False)
    opened_user_agent = models.CharField(max_length=200, blank=True, editable=False)
    told_at = models.DateTimeField(null=True, editable=False, help_text="When the opening was mailed.")
    withdrawn_at = models.DateTimeField(null=True, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        verbose_name = "hand-over link"
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), 32), name="handover_digest_is_sha256"),
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")), name="handover_expires_after_creation"
            ),
            models.CheckConstraint(
                condition=models.Q(opened_at__isnull=True) | models.Q(withdrawn_at__isnull=True),
                name="handover_opened_or_withdrawn",
            ),
            models.CheckConstraint(
                condition=models.Q(ciphertext="") | models.Q(opened_at__isnull=True, withdrawn_at__isnull=True),
                name="handover_over_holds_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"hand-over link for {self.key}"

    def state(self, now: datetime) -> str:
        """Return 'opened', 'withdrawn', 'expired' or 'ready' as of `now`. Reads the key too, which it dies with."""
        if self.opened_at is not None:
            return "opened"
        if self.withdrawn_at is not None or self.key.revoked_at is not None or self.key.replaced_by_id is not None:
            return "withdrawn"
        if self.expires_at <= now or self.key.state(now) == "expired":
            return "expired"
        return "ready"


class ExpiryNotice(models.Model):
    """A mail that a key will soon expire: sent once for each number of days before."""

    key = models.ForeignKey(APIKey, models.CASCADE, related_name="expiry_notices")
    days = models.PositiveSmallIntegerField()
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "days"], name="expiry_notice_once")]

    def __str__(self) -> str:
        return f"{self.days} days before the end of {self.key.hint}"
