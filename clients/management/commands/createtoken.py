"""Make a token for the REST API from the shell."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.access_tokens import LASTS, LONGEST, SCOPES, make
from clients.sentences import sentence


class Command(BaseCommand):
    """A door to `clients.access_tokens.make`."""

    help = "Make a token with which a person's own automation uses the REST API, and print it alone, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("user", help="whose it is: it does at most what this person's role allows")
        parser.add_argument("--name", required=True, help="what it is used for, such as the workflow that holds it")
        parser.add_argument(
            "--scope", action="append", default=[], choices=SCOPES, help="what it may be used for; may be repeated"
        )
        parser.add_argument(
            "--days", type=int, default=LASTS.days, metavar="N", help=f"for how long, {LONGEST.days} at most"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, or say in one sentence why not."""
        person = User.objects.filter(username=options["user"], is_active=True).first()
        if person is None:
            raise CommandError(f"Nobody active here is called {options['user']!r:.150}.")
        try:
            _, plain = make(person, options["name"], options["scope"], timedelta(days=options["days"]))
        except (ValidationError, OverflowError) as error:
            raise CommandError(sentence(error) if isinstance(error, ValidationError) else "Too many days.") from error
        self.stdout.write(plain)
