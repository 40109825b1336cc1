"""Encrypt all provider credentials anew under the first of ENCRYPTION_KEYS, so that the others can be dropped."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pricing.credentials import UnreadableCredential
from pricing.models import Provider


class Command(BaseCommand):
    """A door to `Provider.objects.reencrypt`."""

    help = "Re-encrypt all provider credentials under the first of ENCRYPTION_KEYS; after it, the old keys may go."

    def handle(self, *args: Any, **options: Any) -> None:
        """Re-encrypt all credentials, or none."""
        try:
            count = Provider.objects.reencrypt()
        except UnreadableCredential as error:
            raise CommandError(f"{error} Nothing was changed.") from error
        self.stdout.write(f"{count} credentials re-encrypted under the first of ENCRYPTION_KEYS.")
