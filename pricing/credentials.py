"""Encryption of provider credentials at rest, under ENCRYPTION_KEYS: the first key encrypts, all of them decrypt."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class UnreadableCredential(Exception):
    """A stored credential that none of ENCRYPTION_KEYS decrypts."""

    def __init__(self) -> None:
        super().__init__(
            "A stored credential cannot be decrypted with any of ENCRYPTION_KEYS: "
            "put back the key it was encrypted with, or enter the credential again."
        )


def encrypt(plain: str) -> str:
    """Return the Fernet token of `plain` under the first of ENCRYPTION_KEYS."""
    return _cipher().encrypt(plain.encode()).decode()


def decrypt(token: str) -> str:
    """Return the text of a token made under any of ENCRYPTION_KEYS. Raises UnreadableCredential."""
    try:
        return _cipher().decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise UnreadableCredential from error


def reencrypt(token: str) -> str:
    """Return the same text under the first of ENCRYPTION_KEYS. Raises UnreadableCredential."""
    try:
        return _cipher().rotate(token.encode()).decode()
    except InvalidToken as error:
        raise UnreadableCredential from error


def check_keys() -> None:
    """Raise ImproperlyConfigured unless ENCRYPTION_KEYS holds one or more Fernet keys, and nothing else."""
    _cipher()


def _cipher() -> MultiFernet:
    keys: list[str] = settings.ENCRYPTION_KEYS
    if not keys:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: it needs at least one Fernet key.")
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:  # the key itself must not get into the message
        raise ImproperlyConfigured(
            "ENCRYPTION_KEYS holds something that is not a Fernet key (32 bytes in URL-safe base64)."
        ) from error
