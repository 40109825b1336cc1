"""A request of the REST API that is sent twice makes one thing: what its Idempotency-Key made is remembered for a week.

After draft-ietf-httpapi-idempotency-key-header-07: the same key with another request is refused, with 422.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.utils import timezone

KEPT: Final = timedelta(days=7)
LONGEST: Final = 200
"""Characters of the header."""

T = TypeVar("T")


class OtherRequest(Exception):
    """The key came before, with another request."""


class IdempotencyKey(models.Model):
    """A key that a person's automation sent, with what it asked for and the row that came of it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    digest = models.BinaryField(max_length=32)
    request = models.BinaryField(max_length=32, help_text="Digest of what was asked for.")
    made = models.BigIntegerField(help_text="Id of the row that came of it.")
    made_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        app_label = "clients"
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["made_at"], name="idempotency_key_by_time")]

    def __str__(self) -> str:
        return f"{self.made}"


def once(user: User, key: str, request: tuple[str, Any], make: Callable[[], tuple[int, T]]) -> tuple[int, T | None]:
    """Do `make` once for each `key` of `user`, however often and however concurrently it is sent.

    `request` is the path and the body as JSON; `make` returns the id of the row that it made, and what only whoever
    made it is told, which is None on a repeat. Raises OtherRequest, and whatever `make` raises.
    """
    asked = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
    digest = hashlib.sha256(key.encode()).digest()
    before = IdempotencyKey.objects.filter(user=user, digest=digest)
    try:
        with transaction.atomic():
            found = before.first()
            if found is None:
                made, told = make()
                IdempotencyKey.objects.create(user=user, digest=digest, request=asked, made=made)
                return made, told
    except (ValidationError, IntegrityError):
        found = before.first()  # of two at once the other was first; else what was raised is what is wrong
        if found is None:
            raise
    if bytes(found.request) != asked:
        raise OtherRequest
    return found.made, None


def forget(now: datetime) -> int:
    """Delete the keys that are older than `KEPT`; return how many."""
    return IdempotencyKey.objects.filter(made_at__lt=now - KEPT).delete()[0]
