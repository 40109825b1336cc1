"""How clients prove who they are: keys, of which only digests are stored, and how much each was used."""

from datetime import datetime

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact
from django.utils import timezone

from clients.models import Client, no_control_characters
from pricing import audit


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

    objects = audit.Audited.as_manager()

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


class KeyUse(models.Model):
    """What a key was used for in all its life. Written with the records, so it has no row before the first call."""

    key = models.OneToOneField(APIKey, models.PROTECT, primary_key=True, related_name="use")
    last_used_at = models.DateTimeField(null=True, blank=True)
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
