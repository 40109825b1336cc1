"""`manage.py archiverecords`: move to the archive all that is due, now."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from usage.archive.moving import NotAsWritten, go_on
from usage.archive.reading import MissingArchive, folder


class Command(BaseCommand):
    """A door to `usage.archive.moving`."""

    help = (
        "Moves records older than the settings page says to Parquet files, as the worker does every minute. "
        "It may be stopped at any moment and started again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Move, and say what."""
        try:
            moved = go_on(timezone.now())
        except (MissingArchive, NotAsWritten) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{moved.files:,} files were written to {folder()}; {moved.records:,} records moved.")
