"""The options --from and --to of commands: days of the installation's time zone."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError, CommandParser

from clients.models import default_time_zone
from usage.days import midnight

_FIRST, _LAST = date(1970, 1, 2), date(9998, 12, 30)


def add_range(parser: CommandParser) -> None:
    """Declare the options."""
    for name, meaning in (("from", "first day, such as 2026-01-31"), ("to", "last day; today if left out")):
        parser.add_argument(f"--{name}", dest=f"{name}_day", type=date.fromisoformat, metavar="DAY", help=meaning)


def range_of(options: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """Return the range asked for, None where none was. Raises CommandError."""
    zone = ZoneInfo(default_time_zone())
    first, last = options["from_day"], options["to_day"]
    if first is None:
        if last is not None:
            raise CommandError("--to needs --from.")
        return None
    last = last or datetime.now(zone).date()
    if last < first:
        raise CommandError("The range ends before it begins: exchange its days.")
    if not _FIRST <= first <= last <= _LAST:
        raise CommandError(f"Days are from {_FIRST} to {_LAST}.")
    return midnight(first, zone), midnight(last + timedelta(days=1), zone)
