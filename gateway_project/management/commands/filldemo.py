"""`manage.py filldemo`: fill a new installation with an agency that never was."""

import argparse
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from gateway_project.demo.fill import CLIENTS, DAYS, FEWEST_DAYS, MOST_DAYS, RECORDS, SEED, fill
from gateway_project.demo.shapes import MOST_CLIENTS
from gateway_project.preflight import hold_data_dir


class Command(BaseCommand):
    """A door to `gateway_project.demo.fill.fill`."""

    help = (
        "Fills a new, migrated installation with a dozen made-up clients and their usage up to now, wholly or not at "
        "all, and prints how many records there are. Refuses where there are real clients. No demo call leaves it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--days",
            type=_between(FEWEST_DAYS, MOST_DAYS),
            default=DAYS,
            help=f"{FEWEST_DAYS} to {MOST_DAYS} whole days before today, {DAYS} unless said",
        )
        parser.add_argument(
            "--records",
            type=_between(0, 100_000_000),
            default=RECORDS,
            help=f"about so many usage records, and today's on top; {RECORDS:,} unless said",
        )
        parser.add_argument(
            "--clients",
            type=_between(CLIENTS, MOST_CLIENTS),
            default=CLIENTS,
            help=f"how many, {CLIENTS} unless said; more are the same again under numbered names",
        )
        parser.add_argument("--seed", type=int, default=SEED, help="another number, other calls")

    def handle(self, *args: Any, days: int, records: int, clients: int, seed: int, **options: Any) -> None:
        """Fill it, or say in one sentence why not. The operator's password, if there was none, is shown once."""
        (settings.DATA_DIR / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with hold_data_dir():
                filled = fill(timezone.now(), days=days, records=records, clients=clients, seed=seed, say=self._say)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if filled.welcome is not None:
            self._say(f"Back office: user {filled.welcome.operator}, password {filled.welcome.password}")
        self.stdout.write(str(filled.records))

    def _say(self, text: str) -> None:
        self.stderr.write(text, str)  # in no colour: nothing is wrong


def _between(low: int, high: int) -> Any:
    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return whole
