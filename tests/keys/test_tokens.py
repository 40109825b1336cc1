"""The text of keys: its form, its checksum, and what is stored of it."""

import hashlib
import re
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from keys import tokens
from keys.tokens import ALPHABET, PREFIX, digest, generate, hint, well_formed


def test_a_key_is_a_prefix_and_40_base62_characters_the_last_six_its_checksum() -> None:
    keys = [generate() for _ in range(2_000)]
    assert len(set(keys)) == len(keys)
    used = set()
    for key in keys:
        assert re.fullmatch(r"llm_gw_[0-9A-Za-z]{40}", key)
        assert well_formed(key)
        assert well_formed(key.encode())
        number = 0
        for character in key[-6:]:
            number = number * 62 + ALPHABET.index(character)
        assert number == crc32(key[:-6].encode())
        used |= set(key[len(PREFIX) :])
    assert used == set(ALPHABET)


def test_the_checksum_of_a_known_key() -> None:
    """Keys that clients hold must stay well formed for ever."""
    known = PREFIX + "0123456789ABCDEFGHIJKLMNOPQRSTUVWX"
    assert well_formed(known + "0Iblfw")


def test_every_change_of_one_character_is_noticed() -> None:
    key = generate()
    for position in range(len(key)):
        for other in ALPHABET + "-_ é\x00":
            if other != key[position]:
                assert not well_formed(key[:position] + other + key[position + 1 :])


def test_every_swap_of_neighbours_is_noticed_and_nearly_every_other_swap() -> None:
    passed = tried = 0
    for _ in range(50):
        key = generate()
        for first in range(len(key)):
            for second in range(first + 1, len(key)):
                if key[first] == key[second]:
                    continue
                characters = list(key)
                characters[first], characters[second] = characters[second], characters[first]
                tried += 1
                slipped = well_formed("".join(characters))
                passed += slipped
                assert not (slipped and second == first + 1)
    assert tried > 40_000
    assert passed <= 1  # by chance 1 in 4 · 10**9


def test_what_is_too_short_or_too_long_is_no_key() -> None:
    key = generate()
    for text in ("", PREFIX, key[:-1], key + "0", key + "\n", " " + key, key[1:], key.upper(), key.swapcase()):
        assert not well_formed(text)


@settings(max_examples=500)
@given(st.one_of(st.text(), st.binary(), st.text(min_size=47, max_size=47), st.binary(min_size=47, max_size=47)))
def test_junk_is_no_key_and_never_an_error(junk: str | bytes) -> None:
    assert not well_formed(junk)


@given(st.text(st.characters(codec=None), min_size=40, max_size=40))
def test_junk_behind_the_prefix_is_no_key(junk: str) -> None:
    assert not well_formed(PREFIX + junk)


def test_lone_surrogates_are_no_key() -> None:
    assert not well_formed(PREFIX + "\ud800" * 40)


def test_the_digest_is_sha256_of_the_whole_text() -> None:
    key = generate()
    assert digest(key) == digest(key.encode()) == hashlib.sha256(key.encode()).digest()


def test_a_hint_tells_eight_characters_and_no_more() -> None:
    key = generate()
    assert hint(key) == f"{key[:11]}...{key[-4:]}"
    assert len(hint(key)) == len(tokens.PREFIX) + 11
