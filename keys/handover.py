"""Handing a key over by a link that shows it once, instead of pasting it into a chat.

The key's text is kept only while the link may be opened, encrypted twice: under ENCRYPTION_KEYS and under the link's
own token, of which only a digest is kept. So neither the database nor a copy of the keys with it gives a key away.
"""

import base64
import hashlib
import secrets
from datetime import timedelta
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from keys.models import APIKey, Handover
from pricing import credentials
from pricing.credentials import UnreadableCredential, decrypt, encrypt

LASTS: Final = timedelta(hours=72)
LONGEST: Final = timedelta(days=14)
_TOKEN_BYTES: Final = 32


def make(key: APIKey, plain: str, by: User | None, lasts: timedelta = LASTS) -> tuple[Handover, str]:
    """Return a link for `key` and its token; a link that the key had before is dead with it.

    Raises ValidationError where the key does not work any more, or the time is not positive or more than 14 days.
    """
    if not timedelta() < lasts <= LONGEST:
        raise ValidationError(f"A link works for {LONGEST.days} days at most.")
    now = timezone.now()
    if key.state(now) != "active":
        raise ValidationError(f"{key} does not work any more, so it cannot be handed over.")
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    fields = {
        "digest": _digest(token),
        "ciphertext": encrypt(_cipher(token).encrypt(plain.encode()).decode()),
        "made_by": by,
        "created_at": now,
        "expires_at": now + lasts,
        "opened_at": None,
        "opened_address": "",
        "opened_user_agent": "",
        "told_at": None,
        "withdrawn_at": None,
    }
    handover, _ = Handover.objects.update_or_create(key=key, defaults=fields)
    return handover, token


def look(token: str) -> Handover | None:
    """Return the link of a token, whatever its state; None where there is none."""
    return Handover.objects.select_related("key__client").filter(digest=_digest(token)).first()


def open_once(token: str, address: str, user_agent: str) -> str | None:
    """Return the key's text to the first who asks, and erase it; None where the link shows nothing (any more)."""
    now = timezone.now()
    with transaction.atomic():
        handover = look(token)
        if handover is None or handover.state(now) != "ready":
            return None
        try:
            plain = _cipher(token).decrypt(decrypt(handover.ciphertext).encode()).decode()
        except (UnreadableCredential, InvalidToken):
            return None
        # The condition again: of two who open it at once, one gets the key
        opened = Handover.objects.filter(pk=handover.pk, digest=_digest(token), opened_at=None, withdrawn_at=None)
        if not opened.update(
            opened_at=now, opened_address=address[:45], opened_user_agent=user_agent[:200], ciphertext=""
        ):
            return None
    return plain


def withdraw(key_id: int) -> None:
    """Let the link of a key, if it has one that was not opened, show nothing any more."""
    waiting = Handover.objects.filter(key_id=key_id, opened_at=None, withdrawn_at=None)
    waiting.update(withdrawn_at=timezone.now(), ciphertext="")


def erase_expired() -> int:
    """Erase the texts of links that ran out, or whose keys did; return how many there were."""
    now = timezone.now()
    over = Handover.objects.filter(Q(expires_at__lte=now) | Q(key__expires_at__lte=now))
    return over.exclude(ciphertext="").update(ciphertext="")


def reencrypt() -> int:
    """Encrypt the texts of open links anew; return how many there were. Raises UnreadableCredential."""
    waiting = list(Handover.objects.select_for_update().exclude(ciphertext=""))
    for link in waiting:
        Handover.objects.filter(pk=link.pk).update(ciphertext=credentials.reencrypt(link.ciphertext))
    return len(waiting)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _cipher(token: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"handover\0" + token.encode()).digest()))
