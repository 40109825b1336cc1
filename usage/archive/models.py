"""What the database knows of archived calls: the files, and what all calls taken into them consumed."""

from django.db import models
from django.db.models import F
from django.db.models.functions import Coalesce

from clients.models import Client
from keys.models import APIKey


class ArchiveFile(models.Model):
    """A Parquet file of one UTC month. Of its records the first `taken` are out of the table, the others still in."""

    name = models.CharField(max_length=60, unique=True)
    month = models.DateTimeField(help_text="When the month begins, UTC.")
    earliest = models.DateTimeField(help_text="When its first record was admitted.")
    latest = models.DateTimeField(help_text="When its last was.")
    records = models.BigIntegerField()
    size = models.BigIntegerField(help_text="Bytes.")
    taken = models.BigIntegerField(default=0)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(taken__gte=0, taken__lte=F("records")), name="archive_file_taken_of_its_records"
            )
        ]

    def __str__(self) -> str:
        return self.name


class ArchivedUse(models.Model):
    """What the calls taken out of the table consumed, by client and key: what counters of all time begin with."""

    client = models.ForeignKey(Client, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    key = models.ForeignKey(APIKey, models.PROTECT, related_name="+", db_constraint=False, db_index=False, null=True)
    requests = models.BigIntegerField(default=0)
    tokens = models.BigIntegerField(default=0, help_text="In and out.")
    charge = models.BigIntegerField(default=0, help_text="Picodollars.")
    sessions = models.BigIntegerField(default=0, help_text="Opened.")

    class Meta:
        verbose_name_plural = "archived use"
        constraints = [
            models.UniqueConstraint(
                "client", Coalesce("key", 0, output_field=models.BigIntegerField()), name="archived_use_once"
            )
        ]

    def __str__(self) -> str:
        return f"client {self.client_id}, key {self.key_id}"
