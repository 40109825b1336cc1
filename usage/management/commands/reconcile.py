"""`manage.py reconcile`: the provider's own export laid beside our records."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from pricing.models import Provider
from pricing.money import format_dollars
from usage.provider_exports import LARGEST, merged, read
from usage.reconcile import Report, compare, text, usual_providers


class Command(BaseCommand):
    """A door to `usage.reconcile.compare`."""

    help = "Lay OpenAI's usage or cost export (CSV or JSON) beside the records, by day of UTC and model."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="an export of usage, one of costs, or one of each")
        parser.add_argument(
            "--provider", action="append", metavar="NAME", help="whose it is; those at api.openai.com unless said"
        )
        parser.add_argument("--csv", action="store_true", help="print every day and model as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the sums and what differs, or say in words why there is nothing."""
        try:
            export = merged([read(_bytes(name)) for name in options["files"]])
            report = compare(export, _providers(options["provider"]))
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        if options["csv"]:
            for piece in text(report):
                self.stdout.write(piece, ending="")
            return
        for line in _summary(report):
            self.stdout.write(line)


def _summary(report: Report) -> list[str]:
    days = f"{report.first} to {report.last}, {len(report.lines):,} days and models"
    lines = [days, f"{'':15}{'provider':>24}{'gateway':>24}{'difference':>24}"]
    for name in report.told:
        sides = [getattr(report.theirs, name), getattr(report.ours, name)]
        lines.append(f"{name:15}" + "".join(f"{_shown(name, value):>24}" for value in (*sides, sides[0] - sides[1])))
    if report.agrees:
        lines.append("All of it agrees.")
    for cause, count, shares in report.causes:
        told = ", ".join(f"{name} {_shown(name, value)}" for name, value in shares.items())
        lines += [f"{cause}, {count:,} line{'s'[: count != 1]}: {told}", f"  {cause.meaning}"]
    return [*lines, *report.notes]


def _shown(name: str, value: int) -> str:
    return f"{format_dollars(value)} USD" if name == "cost" else f"{value:,}"


def _bytes(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(LARGEST + 1)  # one more: that it is too large is told by whoever reads it
    except OSError as error:
        raise ValidationError(f"{name!r:.300} cannot be read: {error.strerror}.") from error


def _providers(names: list[str] | None) -> list[Provider]:
    everyone = list(Provider.objects.all())
    if not names:
        return usual_providers(everyone)
    for name in names:
        if not any(provider.name == name for provider in everyone):
            raise ValidationError(f"There is no provider {name!r:.200}.")
    return [provider for provider in everyone if provider.name in names]
