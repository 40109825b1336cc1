"""What the worker does by the clock; the clock is CELERY_BEAT_SCHEDULE."""

from django.core.management import call_command
from django.db.models import F
from django.utils import timezone

from clients import idempotency
from clients.agency import agency
from gateway_project.celery import app
from keys import handover, notices
from usage import agency_days, heartbeats, pace_learning
from usage.alerts import outbox, watch
from usage.archive.models import ArchiveFile
from usage.reratings import work
from usage.rollups import roll_due
from usage.scheduled_exports import export_due

ROLLING_SECONDS = 20  # then other tasks have their turn
ARCHIVING_SECONDS = 20


@app.task  # type: ignore[untyped-decorator]  # Celery ships no types
def clear_sessions() -> None:
    """Delete what nobody needs any more: ended sessions, idempotency keys, alerts of long ago."""
    call_command("clearsessions")
    idempotency.forget(timezone.now())
    outbox.forget(timezone.now())


@app.task  # type: ignore[untyped-decorator]
def tell_of_keys() -> None:
    """Mail what keys expire soon, and which hand-over links were opened; erase the texts of links that ran out."""
    handover.erase_expired()
    notices.mail_expiring()
    notices.mail_opened()


@app.task  # type: ignore[untyped-decorator]
def roll_usage() -> None:
    """Add to rollups what ingest has recorded since."""
    roll_due(ROLLING_SECONDS)


@app.task  # type: ignore[untyped-decorator]
def rerate_calls() -> None:
    """Figure what re-ratings come to, and apply those that are to be."""
    work.go_on(ROLLING_SECONDS)


@app.task  # type: ignore[untyped-decorator]
def archive_records() -> None:
    """Move records to the archive that are older than the agency keeps in the database."""
    if agency().record_months is None and not ArchiveFile.objects.filter(taken__lt=F("records")).exists():
        return
    from usage.archive.moving import go_on  # noqa: PLC0415 - pyarrow is loaded where there is something to move

    go_on(timezone.now(), ARCHIVING_SECONDS)


@app.task  # type: ignore[untyped-decorator]
def export_costs() -> None:
    """Send the cost reports that are due."""
    export_due()


@app.task  # type: ignore[untyped-decorator]
def watch_usage() -> None:
    """Find what is to be told of limits and of the last calls."""
    watch.watch(timezone.now())


@app.task  # type: ignore[untyped-decorator]
def look_ahead() -> None:
    """Find what is to be told of forecasts, of silent clients and of unusual spend."""
    watch.look_ahead(timezone.now())


@app.task  # type: ignore[untyped-decorator]
def join_days() -> None:
    """Join up the rollups of days that are over."""
    agency_days.join_up(timezone.now())


@app.task  # type: ignore[untyped-decorator]
def learn_paces() -> None:
    """Learn what is usual for clients whose runaway brake goes by that."""
    pace_learning.learn(timezone.now())


@app.task  # type: ignore[untyped-decorator]
def deliver_alerts() -> None:
    """Deliver what is due."""
    outbox.deliver_due()


@app.task  # type: ignore[untyped-decorator]
def show_life() -> None:
    """Say that the worker does what the clock asks for; forget hosts of which nobody has heard for days."""
    heartbeats.beat(heartbeats.Heartbeat.Process.WORKER)
    heartbeats.forget(timezone.now() - heartbeats.FORGOTTEN_AFTER)
