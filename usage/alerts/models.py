"""Alerts, who receives them, and each attempt to deliver one."""

import base64
import secrets
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_email
from django.db import models
from django.db.models import Q
from django.utils import timezone

from clients.models import Client
from clients.names import no_control_characters
from clients.sentences import sentence
from pricing import audit
from pricing.addresses import check_base_url
from pricing.credentials import decrypt, encrypt
from pricing.models import Provider

MOST_ADDRESSES: Final = 20
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - says what it is
_SECRET_BYTES: Final = 24  # https://www.standardwebhooks.com: between 24 and 64
_MOST_PERCENTAGES: Final = 10


class Kind(models.TextChoices):
    """What is told. The values are the types of webhooks: never rename one."""

    LIMIT = "limit.reached", "A limit is used up to a percentage"
    FORECAST = "limit.forecast", "A limit will be used up before it resets"
    ERRORS = "client.errors", "Many calls of a client fail"
    SILENT = "client.silent", "A client makes no calls any more"
    UNUSUAL = "client.unusual_spend", "A client spends far more than usual"
    BRAKE = "client.runaway", "A workflow or a WhatsApp user was braked"
    PRICE = "model.price_missing", "A model is asked for that has no price"
    CREDENTIAL = "provider.credential_refused", "A provider refuses our key"


class AlertRules(models.Model):
    """From where on something is told: the one row of settings; without it, all is as its defaults say."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    percentages = models.CharField(
        "limits, at",
        max_length=60,
        default="80, 100",
        blank=True,
        help_text="Percent of a limit of a day or longer. Empty: never.",
    )
    forecast = models.BooleanField(
        "limits, ahead",
        default=True,
        help_text="When one of a week or a month will be used up before it resets, at this pace.",
    )
    failed_percent = models.PositiveSmallIntegerField(
        "calls that fail, above",
        null=True,
        blank=True,
        default=20,
        validators=[MinValueValidator(1), MaxValueValidator(99)],
        help_text="Percent of a client's calls of the last hour or two, if 20 and more. Empty: never.",
    )
    silent_days = models.PositiveSmallIntegerField(
        "silent for",
        null=True,
        blank=True,
        default=3,
        validators=[MinValueValidator(1), MaxValueValidator(60)],
        help_text="Days without a call of an active client that made some. Empty: never.",
    )
    unusual_times = models.PositiveSmallIntegerField(
        "unusual spend, above",
        null=True,
        blank=True,
        default=5,
        validators=[MinValueValidator(2), MaxValueValidator(100)],
        help_text="Times a busy hour of the same client in the last four weeks. Empty: never.",
    )

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        verbose_name = verbose_name_plural = "alert rules"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="alert_rules_single_row")]

    def __str__(self) -> str:
        return "of the agency"

    def clean(self) -> None:
        """Put the percentages in order. Raises ValidationError for what is none."""
        parts = [part.strip().removesuffix("%").strip() for part in self.percentages.split(",") if part.strip()]
        if not all(part.isdecimal() and len(part) <= 3 and 1 <= int(part) <= 100 for part in parts):
            raise ValidationError({"percentages": "Give whole numbers from 1 to 100, such as 80, 100."})
        if len(parts) > _MOST_PERCENTAGES:
            raise ValidationError({"percentages": f"No more than {_MOST_PERCENTAGES} of them."})
        self.percentages = ", ".join(map(str, sorted({int(part) for part in parts})))

    @property
    def thresholds(self) -> list[int]:
        """Percent, the least first."""
        return [int(part) for part in self.percentages.split(",") if part.strip()]


def rules() -> AlertRules:
    """Return the rules; not saved yet where nobody has changed any."""
    return AlertRules.objects.first() or AlertRules()


class Receiver(models.Model):
    """Who is told: by mail, or by a signed webhook that an n8n workflow takes."""

    class Way(models.TextChoices):
        MAIL = "mail", "By mail"
        WEBHOOK = "webhook", "By webhook"

    name = models.CharField(max_length=100, unique=True, validators=[no_control_characters])
    way = models.CharField("told", max_length=10, choices=Way, default=Way.MAIL)
    addresses = models.TextField("to", blank=True, max_length=2_000, help_text="E-mail addresses, separated by commas.")
    url = models.CharField(
        "URL",
        blank=True,
        max_length=500,
        help_text="The production URL of a Webhook node in n8n, for POST. Redirects are not followed.",
    )
    kinds = models.CharField("of", max_length=300, blank=True, help_text="None: of everything.")
    secret = models.TextField(blank=True, editable=False, help_text="Encrypted; signs webhooks.")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="alert_receivers",
        help_text="Told of this operator's clients alone. Empty: of all.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["name"]
        verbose_name = "alert receiver"
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="receiver_named"),
            models.CheckConstraint(
                condition=Q(way="mail", url="") & ~Q(addresses="") | Q(way="webhook", addresses="") & ~Q(url=""),
                name="receiver_told_one_way",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        """Save it, with a secret of its own."""
        if not self.secret:
            self.secret = encrypt(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())
        super().save(*args, **options)

    def clean(self) -> None:
        """Refuse what could not be delivered; forget what belongs to the other way."""
        super().clean()
        wanted = self.kinds_wanted
        if unknown := [kind for kind in wanted if kind not in Kind.values]:
            raise ValidationError({"kinds": f"No alerts are of {unknown[0]!r:.50}: use {', '.join(Kind.values)}."})
        self.kinds = ",".join(dict.fromkeys(wanted))
        if self.way == self.Way.MAIL:
            self.url = ""
            self._check_addresses()
        else:
            self.addresses = ""
            try:
                check_base_url(self.url)
            except ValidationError as error:
                raise ValidationError({"url": sentence(error).replace("base URL", "URL")}) from error

    def _check_addresses(self) -> None:
        addresses = self.recipients
        if not addresses:
            raise ValidationError({"addresses": "Say to whom it is mailed."})
        if len(addresses) > MOST_ADDRESSES:
            raise ValidationError({"addresses": f"No more than {MOST_ADDRESSES} addresses: use a mailing list."})
        for address in addresses:
            try:
                validate_email(address)
            except ValidationError:
                raise ValidationError({"addresses": f"{address!r:.100} is no e-mail address."}) from None
        self.addresses = ", ".join(addresses)

    @property
    def recipients(self) -> list[str]:
        """The addresses, one by one."""
        return [found for part in self.addresses.replace("\n", ",").split(",") if (found := part.strip())]

    @property
    def kinds_wanted(self) -> list[str]:
        """What it is told of; empty for everything."""
        return [kind.strip() for kind in self.kinds.split(",") if kind.strip()]

    def signing_secret(self) -> str:
        """Return what webhooks are signed with, as a receiver has to enter it. Raises UnreadableCredential."""
        return decrypt(self.secret)


class Alert(models.Model):
    """Something that somebody should look at; put down once for each `mark`."""

    kind = models.CharField(max_length=40, choices=Kind)
    mark = models.CharField(max_length=200, unique=True, editable=False)
    """What makes it the same alert: what it is about, the threshold, the cycle or the day."""
    client = models.ForeignKey(Client, models.CASCADE, null=True, related_name="alerts")
    provider = models.ForeignKey(Provider, models.CASCADE, null=True, related_name="alerts")
    title = models.CharField(max_length=300)
    facts = models.JSONField(default=dict)
    """What a webhook tells beside the title: names, amounts as whole numbers, moments in ISO 8601."""
    raised_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        app_label = "usage"
        ordering = ["-raised_at", "-pk"]
        indexes = [models.Index(fields=["raised_at"], name="alert_by_time")]
        constraints = [
            models.CheckConstraint(
                condition=Q(client__isnull=False) | Q(provider__isnull=False), name="alert_is_about_something"
            )
        ]

    def __str__(self) -> str:
        return self.title


class Delivery(models.Model):
    """One alert on its way to one receiver. `alert` is empty for a test."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Given up"

    alert = models.ForeignKey(Alert, models.CASCADE, null=True, related_name="deliveries")
    receiver = models.ForeignKey(Receiver, models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    due_at = models.DateTimeField(default=timezone.now, help_text="When it is tried next, or given to another worker.")
    tried_at = models.DateTimeField(null=True)
    told = models.CharField(max_length=300, blank=True, help_text="What came of it, in words.")

    class Meta:
        app_label = "usage"
        ordering = ["-made_at", "-pk"]
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["alert", "receiver"], name="alert_delivered_once")]
        indexes = [models.Index(fields=["due_at"], condition=Q(state="waiting"), name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.alert or 'Test'} to {self.receiver}"

    def next_shown(self) -> datetime | None:
        """When it is tried again, None where never."""
        return self.due_at if self.state == self.State.WAITING else None
