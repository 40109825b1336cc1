"""Issue a key from the shell."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.onboarding import find_client
from clients.sentences import sentence
from keys.lifecycle import issue, parse_duration


class Command(BaseCommand):
    """A door to `keys.lifecycle.issue`."""

    help = "Issue a key for a client and print it alone, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--client", required=True, metavar="NAME-or-id")
        parser.add_argument("--name", default="", help="what the key is used for")
        parser.add_argument("--expires", metavar="TIME", help="how long it lasts: 90m, 12h, 30d, 2w; without, for ever")

        parser.add_argument(
            "--limit", action="append", default=[], metavar="METRIC=AMOUNT/CYCLE", help="of this key alone; repeatable"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key on stdout, or say in one sentence why there is none."""
        try:
            expires_in = None if options["expires"] is None else parse_duration(options["expires"])
            client = find_client(options["client"])
            _, plain = issue(client, options["name"], expires_in, limits=options["limit"])
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        self.stdout.write(plain)
