"""What happened: one record for each call, written once by `usage.ingest`; and sums of them.

Only `usage.reratings` changes anything of a record: what it cost and what was charged for it.
"""

from typing import Final

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce

from clients.models import Client
from keys.models import APIKey
from pricing.models import Model, Price, Provider
from usage import outcomes
from usage.alerts.models import Alert, AlertRules, Delivery, Receiver
from usage.archive.models import ArchivedUse, ArchiveFile
from usage.client_links import ClientLink
from usage.heartbeats import Heartbeat
from usage.paces import UsualPace
from usage.reratings.models import RerateStep, RerateSum, Rerating
from usage.schedules import ExportRun, ExportSchedule
from usage.statements import Statement, StatementLine
from usage.terms import Terms

__all__ = [
    "ALL",
    "HOUR",
    "AgencyDay",
    "Alert",
    "AlertRules",
    "ArchiveFile",
    "ArchivedUse",
    "ClientLink",
    "Delivery",
    "ExportRun",
    "ExportSchedule",
    "Heartbeat",
    "Receiver",
    "RerateStep",
    "RerateSum",
    "Rerating",
    "RolledZone",
    "RollupDue",
    "Statement",
    "StatementLine",
    "TagRollup",
    "Terms",
    "UsageRecord",
    "UsageRollup",
    "UsageSeries",
    "UsualPace",
]

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
    rerating = models.ForeignKey(
        Rerating,
        models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
        null=True,
        help_text="The last one that gave it other amounts than it was recorded with.",
    )

    class Meta:
        verbose_name = "usage record"
        indexes = [
            # With outcome and charge, so that what a month of a client or of a key was is summed from the index alone
            models.Index(fields=["client", "admitted_at", "outcome", "charge"], name="usage_by_client_summed"),
            models.Index(fields=["key", "admitted_at", "outcome", "charge"], name="usage_by_key_summed"),
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


HOUR: Final = "hour"
"""The grain of rollups by hours of UTC; every other grain is the name of a time zone, and is by its days."""
ALL: Final = "all"
"""Due in every grain that the call's client has."""


class UsageSeries(models.Model):
    """Calls that are alike in all that `UsageRollup` tells apart. What a rollup is about, said once."""

    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    key = models.ForeignKey(APIKey, models.PROTECT, related_name="+", db_constraint=False, db_index=False, null=True)
    provider = models.ForeignKey(
        Provider, models.PROTECT, related_name="+", db_constraint=False, db_index=False, null=True
    )
    model = models.ForeignKey(Model, models.PROTECT, related_name="+", db_constraint=False, db_index=False, null=True)
    endpoint = models.CharField(max_length=60)
    outcome = models.CharField(max_length=20, choices=outcomes.LABELS)
    estimated = models.BooleanField()

    class Meta:
        verbose_name_plural = "usage series"
        constraints = [
            models.UniqueConstraint(
                "client",
                *(Coalesce(name, 0, output_field=models.BigIntegerField()) for name in ("key", "provider", "model")),
                "endpoint",
                "outcome",
                "estimated",
                name="usage_series_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.endpoint}, {self.outcome}, client {self.client_id}, model {self.model_id}"


class UsageRollup(models.Model):
    """A client's sums over one hour of UTC, or over one day of a time zone, by series: a pack of `usage.packs`.

    Written by `usage.rollups` alone. Read it by `usage.analytics`: records that are still due are in no row.
    """

    grain = models.CharField(max_length=64, help_text="'hour', or the time zone whose day it is.")
    start = models.DateTimeField()
    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    rows = models.BinaryField(help_text="Series with their amounts: a pack of usage.packs.")
    latency = models.BinaryField(help_text="Their histograms, one behind the other.")
    first_byte = models.BinaryField(help_text="Likewise.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["grain", "start", "client"], name="usage_rollup_once"),
        ]

    def __str__(self) -> str:
        return f"{self.grain} of {self.start:%Y-%m-%d %H:%M}, client {self.client_id}"


class AgencyDay(models.Model):
    """All that `UsageRollup` has of one day of a zone, joined up: of thousands of rows one is read.

    Made by `usage.agency_days` once the day is over; gone with the first change of a row that it was made of.
    """

    grain = models.CharField(max_length=64, help_text="The time zone whose day it is.")
    start = models.DateTimeField()
    rows = models.BinaryField()
    latency = models.BinaryField()
    first_byte = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["grain", "start"], name="usage_agency_day_once")]

    def __str__(self) -> str:
        return f"{self.grain} of {self.start:%Y-%m-%d %H:%M}"


class TagRollup(models.Model):
    """Sums over one day of a time zone, of a client's calls that count and had one value of one tag.

    What a column cannot hold goes on in another row, of the next `part`.
    """

    WORKFLOW, ENV = "workflow", "env"

    grain = models.CharField(max_length=64, help_text="The time zone whose day it is.")
    start = models.DateTimeField()
    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    tag = models.CharField(max_length=10, choices={WORKFLOW: "Workflow", ENV: "Environment"})
    value = models.CharField(max_length=200)
    part = models.PositiveSmallIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    sessions = models.BigIntegerField(default=0, help_text="Opened.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_input_tokens = models.BigIntegerField(default=0)
    audio_output_tokens = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0)
    charge = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["grain", "start", "client", "tag", "value", "part"], name="usage_tag_rollup_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tag} {self.value} on {self.start:%Y-%m-%d}, client {self.client_id}"


class RolledZone(models.Model):
    """All of a client's calls are in rollups by the days of this zone, or due for them."""

    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    zone = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "zone"], name="usage_rolled_zone_once")]

    def __str__(self) -> str:
        return f"{self.zone}, client {self.client_id}"


class RollupDue(models.Model):
    """Records that no rollup of a grain has yet. Written in the transaction that makes it so, deleted likewise."""

    grain = models.CharField(max_length=64, default=ALL, help_text="'all', 'hour', or the time zone of the days.")
    earliest = models.DateTimeField(help_text="No record among them was admitted before.")
    latest = models.DateTimeField(help_text="Nor after.")
    ids = models.BinaryField(help_text="Request ids, 16 bytes each.")

    class Meta:
        verbose_name_plural = "rollups due"

    def __str__(self) -> str:
        return f"{len(self.ids) // 16} records for {self.grain}"
