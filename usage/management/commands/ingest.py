"""`manage.py ingest`: drain this host's journal into records until told to stop."""

import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from usage.ingest import Ingest


class Command(BaseCommand):
    """Move usage from the journal into records."""

    help = "Moves usage from this host's journal into records; runs until SIGTERM or Ctrl-C."
    requires_system_checks = []  # `start` has made them; they import every page of the back office

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare --once."""
        parser.add_argument("--once", action="store_true", help="move what is there, print how many, and exit")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drain; a first signal lets the batch in hand finish."""
        ingest = Ingest(settings.JOURNAL_DIR)
        if options["once"]:
            self.stdout.write(str(ingest.run_once()))
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        os.nice(5)  # the gateway has the processor first; less than `web` gives way, or the journal would grow
        ingest.run_forever(stop)
