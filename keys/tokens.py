"""The text of a key: `llm_gw_`, 34 random base-62 characters, 6 of checksum. Pure; fast enough for the path of a call.

34 characters carry 202 bits; a hint discloses 8 of the 40, which leaves more than 150 to guess.
"""

import hashlib
import secrets
from typing import Final
from zlib import crc32

PREFIX: Final = "llm_gw_"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARACTERS: Final = 34
CHECKSUM_CHARACTERS: Final = 6  # 62**6 > 2**32: a CRC-32 always fits
LENGTH: Final = len(PREFIX) + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS

_PREFIX: Final = PREFIX.encode()
_SIGNED: Final = len(PREFIX) + RANDOM_CHARACTERS
_PREFIX_CRC: Final = crc32(_PREFIX)
_PAIRS: Final = tuple((high + low).encode() for high in ALPHABET for low in ALPHABET)  # two base-62 digits at a time


def _checksum(random: bytes) -> bytes:
    rest, low = divmod(crc32(random, _PREFIX_CRC), 3844)
    high, middle = divmod(rest, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def generate() -> str:
    """Return a new key from the system's source of randomness."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return PREFIX + random + _checksum(random.encode()).decode()


def well_formed(text: str | bytes) -> bool:
    """Tell whether `text` may be a key at all: prefix, length, alphabet and checksum; never raises.

    It is no proof of anything, only spares a look-up for typing errors and junk.
    """
    if len(text) != LENGTH:
        return False
    if isinstance(text, str):
        if not text.isascii():
            return False
        text = text.encode()
    random = text[len(_PREFIX) : _SIGNED]
    # bytes.isalnum() knows ASCII only, so it is exactly the alphabet
    return text.startswith(_PREFIX) and random.isalnum() and text[_SIGNED:] == _checksum(random)


def digest(text: str | bytes) -> bytes:
    """Return the SHA-256 of the whole key, 32 bytes: all that is ever stored of it (it is too random to be guessed)."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).digest()


def hint(text: str) -> str:
    """Return what people tell keys apart by: the first and the last four of the 40 characters, `llm_gw_Ab3f...x9Zq`."""
    return f"{text[: len(PREFIX) + 4]}...{text[-4:]}"
