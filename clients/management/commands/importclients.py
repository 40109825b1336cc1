"""Take many clients on from the shell."""

import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.importing import COLUMNS, LARGEST, commit, read
from clients.sentences import sentence


class Command(BaseCommand):
    """A door to `clients.importing`."""

    help = "Create the clients of a CSV file, all or none. Prints how many; what is wrong goes to stderr, by line."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "file",
            metavar="FILE",
            help=f"CSV in UTF-8 with commas, or - for stdin; its first line names the columns: {', '.join(COLUMNS)}; "
            "limits are separated by semicolons: requests=100/day;credits=25/month",
        )
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be made")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, or say line by line why not."""
        preview = read(_content(options["file"]))
        for problem in preview.problems:
            self.stderr.write(str(problem))
        if preview.problems:
            count = len(preview.problems) + preview.untold
            raise CommandError(f"Nothing was imported: {count} {'thing is' if count == 1 else 'things are'} wrong.")
        if not options["dry_run"]:
            try:
                commit(preview)
            except ValidationError as error:
                raise CommandError(sentence(error)) from error
        self.stdout.write(str(len(preview.rows)))


def _content(name: str) -> bytes:
    """One byte more than is allowed is enough to see that there is too much."""
    if name == "-":
        return sys.stdin.buffer.read(LARGEST + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise CommandError(f"{name} can't be read: {error.strerror}.") from error
