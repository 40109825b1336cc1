"""What happened: one record for each call, written once by `usage.ingest` and never changed."""

from django.db import models
from django.db.models import Q

from clients.models import Client
from keys.models import APIKey
from pricing.models import Model, Price, Provider
from usage import outcomes

_AMOUNTS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost",
    "charge",
    "latency_us",
)


class UsageRecord(models.Model):
    """A call: whose, what it used, what it cost. Money is picodollars.

    The database does not enforce the foreign keys: a record of a call that was made is kept, whatever became of its
    client. Nor does it demand that parts of the tokens be no more than the whole: a record is never refused for a
    provider's strange report.
    """

    request_id = models.UUIDField(primary_key=True, editable=False)
    client = models.ForeignKey(
        Client, models.PROTECT, related_name="usage_records", db_constraint=False, db_index=False
    )
    key = models.ForeignKey(
        APIKey, models.PROTECT, related_name="usage_records", db_constraint=False, db_index=False, null=True
    )
    provider = models.ForeignKey(
        Provider, models.PROTECT, related_name="usage_records", db_constraint=False, db_index=False, null=True
    )
    model = models.ForeignKey(
        Model, models.PROTECT, related_name="usage_records", db_constraint=False, db_index=False, null=True
    )
    price = models.ForeignKey(
        Price, models.PROTECT, related_name="usage_records", db_constraint=False, db_index=False, null=True
    )
    endpoint = models.CharField(max_length=60)
    model_asked = models.CharField(max_length=200)
    model_served = models.CharField(max_length=200, blank=True)
    admitted_at = models.DateTimeField(help_text="Decides the cycle and the price that the call belongs to.")
    settled_at = models.DateTimeField()
    outcome = models.CharField(max_length=20, choices=outcomes.LABELS)
    status = models.PositiveSmallIntegerField("HTTP status", help_text="As sent to the client; 0 when none is known.")
    error_code = models.CharField(max_length=100, blank=True)
    stream = models.BooleanField()
    input_tokens = models.BigIntegerField(help_text="Cached, cache write and audio input among them.")
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField(help_text="Reasoning and audio output among them.")
    reasoning_tokens = models.BigIntegerField()
    audio_input_tokens = models.BigIntegerField()
    audio_output_tokens = models.BigIntegerField()
    cost = models.BigIntegerField(help_text="What the provider takes, picodollars.")
    charge = models.BigIntegerField(help_text="What the client pays, picodollars.")
    estimated = models.BooleanField(help_text="The tokens are the gateway's own count, not the provider's.")
    latency_us = models.BigIntegerField("latency", help_text="Microseconds.")
    first_byte_us = models.BigIntegerField("time to first byte", null=True, help_text="Microseconds.")
    session = models.CharField(max_length=64, blank=True, help_text="Keyed digest of the WhatsApp user.")
    session_opened = models.BooleanField(help_text="The call opened a session of 24 hours.")
    workflow = models.CharField(max_length=200, blank=True)
    execution = models.CharField(max_length=200, blank=True)
    env = models.CharField("environment", max_length=100, blank=True)
    service_tier = models.CharField(max_length=30, blank=True)
    provider_request_id = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = "usage record"
        indexes = [
            # With the charge, so that what all clients spent in a month is summed from the index alone
            models.Index(fields=["client", "admitted_at", "charge"], name="usage_by_client_with_charge"),
            models.Index(fields=["key", "admitted_at"], name="usage_by_key"),
            models.Index(fields=["admitted_at"], name="usage_by_time"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(**{f"{name}__gte": 0 for name in _AMOUNTS}), name="usage_amounts_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(first_byte_us=None) | Q(first_byte_us__gte=0), name="usage_first_byte_not_negative"
            ),
            models.CheckConstraint(condition=Q(outcome__in=sorted(outcomes.ALL)), name="usage_outcome_known"),
            models.CheckConstraint(
                condition=Q(outcome__in=sorted(outcomes.COUNTED)) | Q(charge=0, session_opened=False),
                name="usage_uncounted_consumes_nothing",
            ),
            models.CheckConstraint(
                condition=Q(session_opened=False) | ~Q(session=""), name="usage_opened_session_is_named"
            ),
        ]

    def __str__(self) -> str:
        return str(self.request_id)
