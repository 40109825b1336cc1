"""The Celery application: `celery -A gateway_project worker -B`."""

import logging.config
import os
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.signals import beat_embedded_init, setup_logging, worker_init
from django.conf import settings

from gateway_project.lifeline import end_with_parent, give_way
from pricing.actors import Actor, Door, acting

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")


class NamedTask(Task):  # type: ignore[misc]  # Celery ships no types
    """A task under whose name the audit log keeps what it changes."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run it."""
        with acting(Actor(Door.AUTOMATIC, f"automatic: {self.name.rpartition('.')[2]}")):
            return super().__call__(*args, **options)


app = Celery("gateway_project", task_cls=NamedTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if not settings.REDIS_URL:
    for folder in ("queue", "control"):  # kombu's filesystem transport expects them to be there
        Path(settings.BROKER_DIR, folder).mkdir(parents=True, exist_ok=True)


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def log_as_django_does(**_: object) -> None:
    """Keep Celery from replacing our logging with its own."""
    logging.config.dictConfig(settings.LOGGING)


@worker_init.connect  # type: ignore[untyped-decorator]
def calls_come_first(**_: object) -> None:
    """Compute with what the gateway leaves."""
    give_way()


@beat_embedded_init.connect  # type: ignore[untyped-decorator]
def beat_ends_with_worker(**_: object) -> None:
    """Keep the clock of a killed worker from ticking beside the next one's."""
    end_with_parent()
