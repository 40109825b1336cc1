"""Rate-limit headers under OpenAI's names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits.headers import duration, limit_headers
from proxy.limits.rules import Rule, Standing

SECOND = 1_000_000
NOW = 1_793_490_000 * SECOND


def standing(metric: str, amount: int, left: int, resets_in: int | None) -> Standing:
    resets_at = None if resets_in is None else NOW + resets_in * SECOND
    return Standing(Rule(1, metric, amount, "day"), amount - left, 0, left, resets_at)


def test_the_tightest_limit_of_each_metric_speaks() -> None:
    standings = [
        standing("requests", 1000, 900, 3600),
        standing("requests", 60, 7, 1),
        standing("tokens", 150_000, 149_984, 360),
        standing("tokens", 10**9, 149_985, 7200),
        standing("credits", 10**12, 1, 1),
        standing("sessions", 3, 0, 1),
    ]
    assert limit_headers(standings, NOW) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"7"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"150000"),
        (b"x-ratelimit-remaining-tokens", b"149984"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
    ]


@pytest.mark.parametrize("resets", [(10, 20, 5), (20, None, 10)])
def test_among_equally_tight_the_later_reset_speaks(resets: tuple[int | None, ...]) -> None:
    headers = limit_headers([standing("tokens", n, 3, at) for n, at in enumerate(resets, 10)], NOW)
    assert headers[0] == (b"x-ratelimit-limit-tokens", b"11")


def test_what_never_resets_has_no_reset_and_no_limit_no_header() -> None:
    assert limit_headers([], NOW) == []
    assert limit_headers([standing("tokens", 5, 5, None)], NOW) == [
        (b"x-ratelimit-limit-tokens", b"5"),
        (b"x-ratelimit-remaining-tokens", b"5"),
    ]


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (-5, b"0s"),
        (0, b"0s"),
        (1, b"1ms"),
        (20_000, b"20ms"),
        (999_000, b"999ms"),
        (999_001, b"1s"),
        (SECOND, b"1s"),
        (SECOND + 1, b"2s"),
        (59 * SECOND + 1, b"1m0s"),
        (360 * SECOND, b"6m0s"),
        (3600 * SECOND, b"1h0m0s"),
        ((49 * 3600 + 7) * SECOND, b"49h0m7s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(microseconds: int, text: bytes) -> None:
    assert duration(microseconds) == text


@given(st.integers(1, 400 * 86_400 * SECOND))
def test_a_duration_is_never_short_and_less_than_a_second_long(microseconds: int) -> None:
    text = duration(microseconds).decode()
    parts = re.fullmatch(r"(?:(?:(\d+)h)?(\d+)m)?(\d+)s|(\d+)ms", text)
    assert parts, text
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts.groups())
    assert 0 <= ((hours * 60 + minutes) * 60 + seconds) * SECOND + milliseconds * 1_000 - microseconds < SECOND
