"""Tokens with which a person's own automation uses the REST API: of each only a digest is kept.

A token does at most what its person's role allows at that moment, narrowed to its scopes.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
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

from pricing import audit

PREFIX: Final = "llm_api_"
SCOPES: Final = (
    *("clients:read", "clients:write", "keys:read", "keys:write"),
    *("usage:read", "prices:read", "prices:write", "statements:write"),
)
LASTS: Final = timedelta(days=90)
LONGEST: Final = timedelta(days=365)
_RANDOM_BYTES: Final = 32
_FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_NOTED_EVERY: Final = timedelta(minutes=1)


class AccessToken(models.Model):
    """A token of a person. Its text is shown once, when it is made, and can not be had from here again."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=100, help_text="What it is used for, such as the workflow that holds it.")
    digest = models.BinaryField(max_length=32, unique=True)
    scopes = models.CharField(max_length=200, editable=False, help_text="Separated by blanks.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="To the minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "clients"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Exact(Length("digest"), 32), name="access_token_digest_is_sha256"),
            models.CheckConstraint(condition=~Q(scopes=""), name="access_token_scopes_given"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="access_token_expires_after_creation"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def allows(self, scope: str) -> bool:
        """Tell whether the token was given that scope; what the person's role allows is asked beside it."""
        return scope in self.scopes.split()


def make(user: User, name: str, scopes: Iterable[str], lasts: timedelta = LASTS) -> tuple[AccessToken, str]:
    """Make a token of `user`, and return it and its text.

    Raises ValidationError for a name that is not fit, no or unknown scopes, and a time not positive or over a year.
    """
    wanted = set(scopes)
    if not wanted or wanted - set(SCOPES):
        raise ValidationError({"scopes": f"Choose at least one scope of {', '.join(SCOPES)}."})
    if not timedelta() < lasts <= LONGEST:
        raise ValidationError({"expires_at": f"A token lasts for {LONGEST.days} days at most."})
    name = name.strip()
    if not name.isprintable():
        raise ValidationError({"name": "Control characters are not allowed."})
    plain = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    now = timezone.now()
    token = AccessToken(
        user=user,
        name=name,
        digest=_digest(plain),
        scopes=" ".join(scope for scope in SCOPES if scope in wanted),
        created_at=now,
        expires_at=now + lasts,
    )
    token.full_clean()
    token.save()
    return token, plain


def find(plain: str) -> AccessToken | None:
    """Return the token of that text with its person, if it works now and the person may still sign in; else None.

    Notes that it was used, at most once a minute.
    """
    if not _FORM.fullmatch(plain):
        return None
    now = timezone.now()
    working = AccessToken.objects.filter(revoked_at=None, expires_at__gt=now, user__is_active=True)
    token = working.select_related("user__membership").filter(digest=_digest(plain)).first()
    if token is not None and (token.last_used_at is None or token.last_used_at <= now - _NOTED_EVERY):
        token.last_used_at = now
        # Not through the audited manager: a use is no change
        models.QuerySet(AccessToken).filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(token: AccessToken) -> None:
    """End `token` now, for good. Raises ValidationError where it is revoked already."""
    alive = AccessToken.objects.filter(pk=token.pk, revoked_at=None)
    if not alive.update(revoked_at=timezone.now()):
        raise ValidationError(f"The token {token} is revoked already.")
    token.refresh_from_db()


def _digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode()).digest()
