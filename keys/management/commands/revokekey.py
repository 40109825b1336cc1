"""Revoke a key from the shell."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.sentences import sentence
from keys.lifecycle import find, revoke


class Command(BaseCommand):
    """A door to `keys.lifecycle.revoke`."""

    help = "Revoke a key: every process refuses it within a second, for good."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("key", metavar="KEY-or-hint", help="the whole key, its hint, or its id")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Revoke the key, or say in one sentence why not."""
        try:
            key = find(options["key"])
            revoke(key, options["reason"])
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        self.stdout.write(f"{key} of {key.client} is revoked.")
