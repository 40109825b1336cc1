"""Regenerate a key from the shell."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.sentences import sentence
from keys.lifecycle import find, parse_duration, regenerate


class Command(BaseCommand):
    """A door to `keys.lifecycle.regenerate`."""

    help = "Replace a key by a new one and print that alone, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("key", metavar="KEY-or-hint", help="the whole key, its hint, or its id")
        parser.add_argument(
            "--grace",
            default="0",
            metavar="TIME",
            help="how long the old one works on: 1h, 24h, 7d; without, it ends now",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the new key on stdout, or say in one sentence why there is none."""
        try:
            _, plain = regenerate(find(options["key"]), parse_duration(options["grace"]))
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        self.stdout.write(plain)
