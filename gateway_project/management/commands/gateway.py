from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway_project.gateway import CannotStart, run


class Command(BaseCommand):
    """The data plane."""

    help = "Runs the gateway process: /v1, health and metrics; every other path goes on to the web process."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        try:
            run(settings.HOST, settings.PORT, settings.WEB_PORT)
        except CannotStart as error:
            raise CommandError(str(error)) from error
