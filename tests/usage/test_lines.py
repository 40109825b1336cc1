"""Lines of the journal: what is written is read, and what cannot become a record is told apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage import lines
from usage.lines import BIGINT_MAX, LATEST_US, BadLine, encode, interrupted, parse


def test_what_is_encoded_is_parsed(calls):
    begin = calls.begin(w="ünï\x00code\n", s="ab" * 32)
    for line in (begin, calls.end(begin)):
        raw = encode(line)
        assert raw.endswith(b"\n")
        assert raw.count(b"\n") == 1
        assert b"\0" not in raw
        assert parse(raw) == line


def test_begins_are_told_by_their_first_bytes(calls):
    assert encode(calls.begin()).startswith(lines.BEGIN_PREFIX)
    assert not encode(calls.end()).startswith(lines.BEGIN_PREFIX)


def test_a_seal_is_nothing():
    assert parse(lines.SEAL) is None


def test_text_beyond_utf8_and_numbers_beyond_64_bits_do_not_lose_the_line(calls):
    line = parse(encode(calls.end(w="a\ud800b", cost=2**80)))
    assert line["w"] == "a?b"
    assert line["cost"] == BIGINT_MAX


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "zz"),
        ("id", "A" * 32),
        ("id", None),
        ("at", -1),
        ("at", LATEST_US + 1),
        ("end", LATEST_US + 1),
        ("at", "1"),
        ("c", None),
        ("c", 1.5),
        ("cost", -1),
        ("charge", BIGINT_MAX + 1),
        ("in", "7"),
        ("out", None),
        ("st", 2),
        ("so", 7),
        ("est", -1),
        ("status", 70000),
        ("o", "fine"),
        ("o", None),
        ("ask", None),
        ("ask", 5),
        ("key", "x"),
        ("key", -4),
        ("price", BIGINT_MAX + 1),
        ("w", 5),
        ("k", "z"),
    ],
)
def test_an_end_that_fits_no_record_is_refused(calls, field, value):
    raw = json.dumps(calls.end() | {field: value}).encode()
    with pytest.raises(BadLine):
        parse(raw)


@pytest.mark.parametrize("field", ["c", "in", "charge", "at", "o", "end", "ask"])
def test_an_end_without_a_required_field_is_refused(calls, field):
    end = calls.end()
    del end[field]
    with pytest.raises(BadLine):
        parse(json.dumps(end).encode())


def test_an_end_without_an_optional_field_is_read(calls):
    end = calls.end()
    del end["prid"], end["price"]
    line = parse(json.dumps(end).encode())
    assert line["prid"] is None
    assert line["price"] is None


def test_a_clock_set_back_during_a_call_does_not_cost_the_record(calls):
    line = parse(encode(calls.end(ms=-3_600_000_000, ttfb=-5)))
    assert (line["ms"], line["ttfb"]) == (0, 0)


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@given((st.binary() | VALUES.map(lambda value: json.dumps(value).encode())).filter(lambda raw: b'"k"' not in raw))
def test_any_other_bytes_are_refused(raw):
    with pytest.raises(BadLine):
        parse(raw)


def test_an_interrupted_call_is_its_estimate(calls):
    begin = calls.begin(so=1, s="cd" * 32, key=4)
    end = interrupted(begin, begin["at"] + 5)
    assert parse(encode(end)) == end
    assert end["o"] == "interrupted"
    assert (end["in"], end["out"], end["cost"], end["charge"], end["so"], end["est"]) == (100, 50, 1000, 1500, 1, 1)
    assert end["end"] == begin["at"] + 5
    assert interrupted(begin, begin["at"] - 5)["end"] == begin["at"]
