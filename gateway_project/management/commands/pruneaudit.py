"""Let old entries of the audit log go."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clients.audit import prune
from clients.sentences import sentence
from keys.lifecycle import parse_duration


class Command(BaseCommand):
    """A door to `clients.audit.prune`."""

    help = "Delete entries of the audit log that are older than you must keep them. That it was done is logged."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--older-than", required=True, metavar="TIME", help="such as 730d or 104w")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete them, or say in one sentence why not."""
        try:
            age = parse_duration(options["older_than"])
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        count = prune(timezone.now() - age)
        self.stdout.write(f"{count:,} entries are gone.")
