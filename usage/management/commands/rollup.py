"""`manage.py rollup`: add records to rollups now, or make those of a range anew."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from usage.management.ranges import add_range, range_of
from usage.rollups import Archived, roll_due, roll_up


class Command(BaseCommand):
    """A door to `usage.rollups`."""

    help = (
        "Adds to rollups what is due, as the worker does every few seconds. With --from, makes all hours and days of "
        "that range anew from the records; calls go on meanwhile, and sums stay right."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the range."""
        add_range(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Roll, and say how much."""
        asked = range_of(options)
        if asked is None:
            self.stdout.write(f"{roll_due():,} records were due.")
        else:
            try:
                again = roll_up(*asked)
            except Archived as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"{again:,} records were rolled again, counted once for each grain.")
