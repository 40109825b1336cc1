"""Bring the price list up to the catalogue that this installation carries."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from pricing.catalogue import sync_prices
from pricing.models import Model


class Command(BaseCommand):
    """A door to `pricing.catalogue.sync_prices`."""

    help = (
        "Add price versions where the catalogue (offline, of the installed genai-prices) differs from the price list."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--model", action="append", metavar="NAME", help="only this model; may be repeated")
        parser.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")
        parser.add_argument("--overwrite", action="store_true", help="replace prices that an operator entered, too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sync and print one line for each change."""
        models = Model.objects.select_related("provider")
        names = options["model"]
        if names:
            models = models.filter(name__in=names)
            unknown = set(names) - {model.name for model in models}
            if unknown:
                raise CommandError(f"No model named {', '.join(sorted(unknown))}.")
        changes = sync_prices(models, timezone.now(), dry_run=options["dry_run"], overwrite=options["overwrite"])
        for change in changes:
            tier = f" ({change.service_tier})" if change.service_tier else ""
            self.stdout.write(f"{change.action:8}{change.model}{tier}: {change.detail}")
        added = sum(change.action == "added" for change in changes)
        self.stdout.write(f"{added} price versions {'would be ' if options['dry_run'] else ''}added.")
