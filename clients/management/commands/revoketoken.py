"""End tokens for the REST API from the shell."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.access_tokens import AccessToken, revoke


class Command(BaseCommand):
    """A door to `clients.access_tokens.revoke`."""

    help = "End a person's tokens of that name, at once and for good, and print how many there were."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("user")
        parser.add_argument("name", help="as given to createtoken")

    def handle(self, *args: Any, **options: Any) -> None:
        """End them, or say that there are none."""
        alive = AccessToken.objects.filter(user__username=options["user"], name=options["name"], revoked_at=None)
        tokens = list(alive)
        if not tokens:
            raise CommandError(f"{options['user']!r:.150} has no token {options['name']!r:.100} that works.")
        for token in tokens:
            revoke(token)
        self.stdout.write(str(len(tokens)))
