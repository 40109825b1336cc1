"""Encrypt everything that is kept encrypted anew under the first of ENCRYPTION_KEYS, so that the others can go."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from gateway_project.sign_in import reencrypt_second_factors
from keys import handover
from pricing.credentials import UnreadableCredential
from pricing.models import Provider


class Command(BaseCommand):
    """A door to what each part does for itself."""

    help = (
        "Re-encrypt provider credentials, second factors and open hand-over links under the first of ENCRYPTION_KEYS, "
        "all or none; after it, the old keys may go."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Re-encrypt all, or nothing."""
        try:
            with transaction.atomic():
                count = Provider.objects.reencrypt() + reencrypt_second_factors() + handover.reencrypt()
        except UnreadableCredential as error:
            raise CommandError(f"{error} Nothing was changed.") from error
        self.stdout.write(f"{count} credentials re-encrypted under the first of ENCRYPTION_KEYS.")
