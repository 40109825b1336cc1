"""`manage.py checkrollups`: do rollups say what the records say?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from usage.days import EVER
from usage.management.ranges import add_range, range_of
from usage.rollups import Difference, check

SHOWN = 100


class Command(BaseCommand):
    """A door to `usage.rollups.check`."""

    help = "Compares rollups with records, in all or from --from to --to, and says where they differ. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the range."""
        add_range(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare; exit with 1 where anything differs."""
        count = 0
        for count, one in enumerate(check(*(range_of(options) or EVER)), start=1):
            if count <= SHOWN:
                self.stdout.write(_told(one))
        if count:
            more = f" The first {SHOWN} are shown." if count > SHOWN else ""
            raise CommandError(
                f"{count:,} rows differ from their records.{more} `manage.py rollup --from … --to …` makes them anew."
            )
        self.stdout.write("Rollups are what the records make up.")


def _told(one: Difference) -> str:
    grain = "hour" if one.grain == "hour" else f"day in {one.grain}"
    amounts = "; ".join(
        f"{name} {'differs' if isinstance(value, dict) else f'{value:,}, by records {one.recorded[name]:,}'}"
        for name, value in one.rolled.items()
    )
    return f"{grain} from {one.start:%Y-%m-%d %H:%M} UTC, {one.what}: {amounts}"
