"""Take a client on from the shell."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clients.markup import parse_markup
from clients.onboarding import create_client, find_plan
from clients.sentences import sentence


class Command(BaseCommand):
    """A door to `clients.onboarding.create_client`."""

    help = "Create a client with its limits and print its id alone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("name")
        parser.add_argument(
            "--limit",
            action="append",
            default=[],
            metavar="METRIC=AMOUNT/CYCLE",
            help="such as requests=100/day, tokens=2000000/month, credits=25.50/month (USD) or sessions=500/month; "
            "cycles are minute, hour, day, week, month and total; may be repeated",
        )
        parser.add_argument(
            "--plan",
            metavar="NAME",
            help="take its limits and markup, but for those given; --limit requests=none/day leaves one of them out",
        )
        parser.add_argument("--email", default="")
        parser.add_argument("--company", default="")
        parser.add_argument("--phone", default="")
        parser.add_argument("--time-zone", metavar="ZONE", help="IANA name, such as Asia/Kolkata")
        parser.add_argument("--start-day", type=int, metavar="N", help="day of the month that starts a cycle, 1 to 31")
        parser.add_argument("--markup", metavar="PERCENT", help="on top of the provider's cost, such as 25 or 12.5")

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the client, or say in one sentence why not."""
        profile = {field: options[field] for field in ("email", "company", "phone")}
        if options["time_zone"] is not None:
            profile["time_zone"] = options["time_zone"]
        if options["start_day"] is not None:
            profile["cycle_start_day"] = options["start_day"]
        try:
            if options["markup"] is not None:
                profile["markup_bp"] = parse_markup(options["markup"])
            plan = None if options["plan"] is None else find_plan(options["plan"])
            client = create_client(options["name"], options["limit"], plan, **profile)
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        self.stdout.write(str(client.pk))
