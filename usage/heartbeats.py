"""Signs of life of the processes that nobody calls: `ingest` and `worker` say in the database that they got on.

A sign says more than that a process runs: `ingest` gives one when the whole journal of its host is in the database.
"""

import socket
import time
from datetime import datetime, timedelta
from typing import Final

from django.db import models
from django.db.models import Q
from django.utils import timezone

EVERY_SECONDS: Final = 10.0
FORGOTTEN_AFTER: Final = timedelta(days=7)
"""Of a host that is gone nobody wants to hear for ever."""


class Heartbeat(models.Model):
    """When a process of a host last got on."""

    class Process(models.TextChoices):
        INGEST = "ingest", "ingest"
        WORKER = "worker", "worker"

    process = models.CharField(max_length=10, choices=Process)
    host = models.CharField(max_length=255)
    seen_at = models.DateTimeField()

    class Meta:
        app_label = "usage"
        ordering = ["process", "host"]
        constraints = [
            models.UniqueConstraint(fields=["process", "host"], name="heartbeat_once_per_host"),
            models.CheckConstraint(condition=Q(process__in=["ingest", "worker"]), name="heartbeat_process_known"),
        ]

    def __str__(self) -> str:
        return f"{self.process} on {self.host}"


def beat(process: Heartbeat.Process) -> None:
    """Say that `process` got on, here and now. Raises django.db.Error where the database refuses."""
    Heartbeat.objects.update_or_create(
        process=process, host=socket.gethostname()[:255], defaults={"seen_at": timezone.now()}
    )


def forget(before: datetime) -> int:
    """Delete signs from before that moment; return how many."""
    count, _ = Heartbeat.objects.filter(seen_at__lt=before).delete()
    return count


class Pulse:
    """Gives signs of life of one process, at most one in `EVERY_SECONDS`, however often it is asked to."""

    def __init__(self, process: Heartbeat.Process) -> None:
        self._process = process
        self._next = 0.0

    def beat(self) -> None:
        """Give a sign if it is time. Raises django.db.Error where the database refuses."""
        if time.monotonic() >= self._next:
            beat(self._process)
            self._next = time.monotonic() + EVERY_SECONDS
