"""A client's own page, by a link: no account, nothing of anybody else, of cost, margin or providers."""

import hashlib
import secrets
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length
from django.db.models.lookups import Exact
from django.utils import timezone

from clients.models import Client
from pricing import audit

LASTS: Final = timedelta(days=90)
LONGEST: Final = timedelta(days=400)
_TOKEN_BYTES: Final = 32
_NOTED_EVERY: Final = timedelta(minutes=1)


class ClientLink(models.Model):
    """The one link of a client. Of its token only a digest is kept."""

    client = models.OneToOneField(Client, models.CASCADE, related_name="usage_link")
    digest = models.BinaryField(max_length=32, unique=True)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(null=True, help_text="Last, to the minute.")

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        verbose_name = "usage link"
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), 32), name="client_link_digest_is_sha256"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="client_link_expires_after_creation"
            ),
        ]

    def __str__(self) -> str:
        return f"of {self.client}"

    @property
    def works(self) -> bool:
        """Whether it shows anything now."""
        return self.revoked_at is None and self.expires_at > timezone.now() and self.client.status != "inactive"


def make(client: Client, by: User | None, lasts: timedelta = LASTS) -> tuple[ClientLink, str]:
    """Return a link of `client` and its token; one that the client had before is dead with it.

    Raises ValidationError where the client is archived, or the time is not positive or more than 400 days.
    """
    if client.status == Client.Status.INACTIVE:
        raise ValidationError(f"{client} is archived: activate it before it gets a link.")
    if not timedelta() < lasts <= LONGEST:
        raise ValidationError(f"A link works for {LONGEST.days} days at most.")
    token, now = secrets.token_urlsafe(_TOKEN_BYTES), timezone.now()
    fields = {
        "digest": _digest(token),
        "made_by": by,
        "created_at": now,
        "expires_at": now + lasts,
        "revoked_at": None,
        "opened_at": None,
    }
    link, _ = ClientLink.objects.update_or_create(client=client, defaults=fields)
    return link, token


def find(token: str) -> ClientLink | None:
    """Return the link of a token if it works; None where there is none. Notes that it was opened."""
    link = ClientLink.objects.select_related("client").filter(digest=_digest(token[:200])).first()
    if link is None or not link.works:
        return None
    now = timezone.now()
    if link.opened_at is None or link.opened_at <= now - _NOTED_EVERY:
        # Not through the audited manager: to look is no change
        models.QuerySet(ClientLink).filter(pk=link.pk).update(opened_at=now)
    return link


def revoke(client: Client) -> None:
    """End the client's link now. Raises ValidationError where there is none that works."""
    if not ClientLink.objects.filter(client=client, revoked_at=None).update(revoked_at=timezone.now()):
        raise ValidationError(f"{client} has no link that could be ended.")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
