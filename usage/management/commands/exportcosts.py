"""`manage.py exportcosts`: the cost report as CSV on stdout."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from clients.models import default_time_zone
from clients.onboarding import find_client
from clients.sentences import sentence
from pricing.models import Model, Provider
from usage.archive.reading import MissingArchive
from usage.cost_csv import Form, text
from usage.costs import DIMENSIONS, Question, last, parse_group_by, whole_days


class Command(BaseCommand):
    """A door to `usage.cost_csv.text`."""

    help = "Print what calls cost and what was charged for them, as CSV; docs/finance.md explains every column."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--last", metavar="TIME", help="90d or 2w: calendar days, today among them; 24h: hours")
        parser.add_argument("--from", dest="first", metavar="DAY", help="the first day, as 2026-01-01")
        parser.add_argument("--to", metavar="DAY", help="the last day, itself included; today unless said")
        parser.add_argument(
            "--group-by",
            default="client",
            metavar="NAMES",
            help=f"any of {', '.join(DIMENSIONS)}, joined by commas; tag is workflow,env. Default: client",
        )
        parser.add_argument("--client", metavar="NAME-or-id", help="of this client alone")
        parser.add_argument("--model", metavar="NAME", help="of this model alone")
        parser.add_argument("--provider", metavar="NAME", help="of this provider alone")
        parser.add_argument("--zone", metavar="ZONE", help="whose calendar days: Europe/Berlin; TIME_ZONE unless said")
        parser.add_argument("--bom", action="store_true", help="begin with a byte order mark, for Excel")
        parser.add_argument("--decimal-comma", action="store_true", help="0,5 for 0.5, and ; between columns")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the file, or say in one sentence why there is none."""
        try:
            question = _question(options, timezone.now())
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        try:
            for piece in text(question, Form(bom=options["bom"], decimal_comma=options["decimal_comma"])):
                self.stdout.write(piece, ending="")
        except MissingArchive as error:
            raise CommandError(str(error)) from error


def _question(options: dict[str, Any], now: datetime) -> Question:
    zone = options["zone"] or default_time_zone()
    if options["last"] and (options["first"] or options["to"]):
        raise ValidationError("Say either --last or --from and --to.")
    if options["last"]:
        start, end = last(options["last"], zone, now)
    elif options["first"]:
        today = last("1d", zone, now)[0].astimezone(ZoneInfo(zone)).date()
        start, end = whole_days(_day(options["first"]), _day(options["to"]) if options["to"] else today, zone)
    else:
        raise ValidationError("Say which time: --last 90d, or --from 2026-01-01 --to 2026-01-31.")
    return Question(
        start,
        end,
        zone,
        parse_group_by(options["group_by"]),
        client=find_client(options["client"]).pk if options["client"] else None,
        model=_named(Model, options["model"]),
        provider=_named(Provider, options["provider"]),
    )


def _day(written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise ValidationError(f"A day is written like 2026-01-31, not {written!r:.50}.") from None


def _named(model: type[Model] | type[Provider], name: str | None) -> int | None:
    if name is None:
        return None
    found = model._default_manager.filter(name=name).first()
    if found is None:
        raise ValidationError(f"There is no {model._meta.verbose_name} {name!r:.200}.")
    return found.pk
