"""What the worker does by the clock; the clock is CELERY_BEAT_SCHEDULE."""

from django.core.management import call_command

from gateway_project.celery import app


@app.task  # type: ignore[untyped-decorator]  # Celery ships no types
def clear_sessions() -> None:
    """Delete the sessions of people whose sign-in has run out."""
    call_command("clearsessions")
