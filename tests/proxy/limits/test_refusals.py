"""What a caller reads and obeys when a limit refuses."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.cycles import CYCLES
from proxy.limits.refusal import explain
from proxy.limits.rules import Refusal, Rule

SECOND = 1_000_000
NOW = 1_793_490_000 * SECOND  # 2026-10-31 23:40 UTC
BERLIN = ZoneInfo("Europe/Berlin")
NO_RETRY = (b"x-should-retry", b"false")


def refusal(
    kind: str, metric: str, amount: int, cycle: str, left: int, fits: int, wanted: int, resets_in: float | None
):
    resets_at = None if resets_in is None else NOW + int(resets_in * SECOND)
    return Refusal(kind, Rule(1, metric, amount, cycle), left, fits, resets_at, wanted)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (
            refusal("spent", "requests", 1_000, "day", 0, 0, 1, 83_999.5),
            "The limit of 1,000 requests per day is used up: 0 requests left. "
            "It resets at 2026-11-02 00:00 (Europe/Berlin).",
        ),
        (
            refusal("spent", "sessions", 1, "total", 0, 0, 1, None),
            "The limit of 1 WhatsApp session in total is used up: 0 WhatsApp sessions left. It does not reset.",
        ),
        (
            refusal("too_large", "tokens", 20_000, "month", 3_000, 3_000, 12_000, 1_200),
            "This call may need 12,000 tokens, more than the limit of 20,000 tokens per month allows now: "
            "3,000 tokens left, a call of at most 3,000 tokens would fit. "
            "It resets at 2026-11-01 01:00 (Europe/Berlin).",
        ),
        (
            refusal("too_large", "credits", 25 * 10**12, "month", 10**11, 5 * 10**11, 26 * 10**12, 1_200),
            "This call may need 26.00 USD, more than the limit of 25.00 USD per month allows now: 0.10 USD left, "
            "a call of at most 0.50 USD would fit once calls in flight have finished. "
            "It is larger than the whole limit, so no reset will let it through.",
        ),
        (
            refusal("held", "tokens", 500, "minute", 100, 300, 250, 12.1),
            "Calls in flight take up the limit of 500 tokens per minute: 100 tokens left until they finish, "
            "then up to 300 tokens would fit. Retry in a moment. It resets in 13 s.",
        ),
    ],
)
def test_the_message_tells_the_limit_what_is_left_what_fits_and_the_reset(refused: Refusal, message: str) -> None:
    assert explain(refused, BERLIN, NOW).message == message


@pytest.mark.parametrize(
    ("kind", "cycle", "resets_in", "code", "headers"),
    [
        ("held", "minute", 30, "rate_limit_exceeded", ((b"retry-after", b"1"),)),
        ("held", "month", 10**6, "rate_limit_exceeded", ((b"retry-after", b"1"),)),
        ("held", "total", None, "rate_limit_exceeded", ((b"retry-after", b"1"),)),
        ("spent", "minute", 0.2, "rate_limit_exceeded", ((b"retry-after", b"1"),)),
        ("spent", "minute", -3, "rate_limit_exceeded", ((b"retry-after", b"1"),)),
        ("spent", "minute", 12.1, "rate_limit_exceeded", ((b"retry-after", b"13"),)),
        ("spent", "hour", 60, "rate_limit_exceeded", ((b"retry-after", b"60"),)),
        ("spent", "hour", 60.1, "rate_limit_exceeded", ((b"retry-after", b"61"), NO_RETRY)),
        ("spent", "day", 5, "insufficient_quota", (NO_RETRY,)),
        ("spent", "week", 5, "insufficient_quota", (NO_RETRY,)),
        ("spent", "month", 5, "insufficient_quota", (NO_RETRY,)),
        ("spent", "total", None, "insufficient_quota", (NO_RETRY,)),
        ("spent", "hour", None, "insufficient_quota", (NO_RETRY,)),  # an amount of 0
        ("too_large", "minute", 5, "insufficient_quota", (NO_RETRY,)),
        ("too_large", "month", 5, "insufficient_quota", (NO_RETRY,)),
    ],
)
def test_code_and_headers_say_whether_waiting_helps(kind, cycle, resets_in, code, headers) -> None:
    told = explain(refusal(kind, "tokens", 100, cycle, 0, 0, 5, resets_in), BERLIN, NOW)
    assert (told.code, told.headers) == (code, headers)


@given(
    st.sampled_from(["spent", "too_large", "held"]),
    st.sampled_from(["requests", "tokens", "credits", "sessions"]),
    st.sampled_from(CYCLES),
    st.tuples(*[st.integers(0, 10**24)] * 4),
    st.one_of(st.none(), st.integers(-SECOND, 10**9)),
)
def test_any_refusal_can_be_told(kind: str, metric: str, cycle: str, amounts: tuple, resets_in: int | None) -> None:
    amount, left, fits, wanted = amounts
    told = explain(refusal(kind, metric, amount, cycle, left, fits, wanted, resets_in), BERLIN, NOW)
    assert told.message.endswith(".")
    assert "\n" not in told.message
