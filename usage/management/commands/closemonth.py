"""`manage.py closemonth`: what a month comes to, and its statements."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clients.models import Client
from clients.onboarding import find_client
from clients.sentences import sentence
from pricing.money import format_dollars
from usage.closing import close, drafts
from usage.statements import month_of


class Command(BaseCommand):
    """A door to `usage.closing`."""

    help = "Print what each client's month comes to and what looks odd; with --yes make the statements."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("month", help="a month that is over, such as 2026-10")
        parser.add_argument("--client", metavar="NAME-or-id", help="of this client alone")
        parser.add_argument("--yes", action="store_true", help="make the statements; nobody changes them afterwards")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, and close. Raises CommandError."""
        try:
            month = month_of(options["month"])
            clients = [find_client(options["client"])] if options["client"] else Client.objects.order_by("name", "pk")
            found = drafts(clients, month, timezone.now())
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        made = 0
        for draft in found:
            if draft.refused:
                self.stdout.write(f"{draft.client}: not now: {draft.refused}")
                continue
            self.stdout.write(f"{draft.client}: {format_dollars(draft.amount)} USD. {' '.join(draft.odd)}".rstrip())
            if options["yes"]:
                try:
                    statement = close(draft, None, timezone.now())
                except ValidationError as error:
                    raise CommandError(sentence(error)) from error
                made += 1
                self.stdout.write(f"  statement {statement.number}")
        self.stdout.write(f"Made: {made}." if options["yes"] else "Nothing was made: add --yes for that.")
