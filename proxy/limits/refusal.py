"""What a caller is told when a limit refuses: in words, and in the headers that SDKs obey."""

from datetime import UTC, datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from pricing.money import format_dollars
from proxy.limits.rules import SECOND, Refusal

_NOUNS: Final = {
    "requests": ("request", "requests"),
    "tokens": ("token", "tokens"),
    "sessions": ("WhatsApp session", "WhatsApp sessions"),
}
_RETRY_WORTH_WAITING: Final = (
    60  # s; an SDK that sleeps longer than this looks hung to the automation that waits for it
)
_TOO_LARGE_FOR_EVER: Final = "It is larger than the whole limit, so no reset will let it through."
_NO_RETRY: Final = (b"x-should-retry", b"false")


class Explanation(NamedTuple):
    """`code` is OpenAI's: `rate_limit_exceeded` or `insufficient_quota`. Headers: `retry-after`, `x-should-retry`."""

    code: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...]


def explain(refusal: Refusal, zone: ZoneInfo, now: int) -> Explanation:
    """Return what to answer with status 429. `zone` is the client's, in which the message tells times; `now` in µs.

    Waiting helps where only calls in flight are in the way (a second), and where a minute's or an hour's limit is
    spent (until the call would fit); nothing but a new cycle or a higher limit helps otherwise.
    """
    message = _message(refusal, zone, now)
    if refusal.kind == "held":
        return Explanation("rate_limit_exceeded", message, ((b"retry-after", b"1"),))
    if refusal.kind == "too_large" or refusal.rule.cycle not in ("minute", "hour") or refusal.resets_at is None:
        return Explanation("insufficient_quota", message, (_NO_RETRY,))
    wait = max(1, -(-(refusal.resets_at - now) // SECOND))
    headers: tuple[tuple[bytes, bytes], ...] = ((b"retry-after", b"%d" % wait),)
    return Explanation(
        "rate_limit_exceeded", message, headers if wait <= _RETRY_WORTH_WAITING else (*headers, _NO_RETRY)
    )


def _message(refusal: Refusal, zone: ZoneInfo, now: int) -> str:
    rule = refusal.rule
    limit = f"{_amount(rule.metric, rule.amount)} {'in total' if rule.cycle == 'total' else f'per {rule.cycle}'}"
    if rule.key_id:
        limit += " of this key"
    left = _amount(rule.metric, refusal.left)
    fits = _amount(rule.metric, refusal.fits)
    reset = _reset(refusal, zone, now)
    if refusal.kind == "spent":
        return f"The limit of {limit} is used up: {left} left. {reset}"
    wanted = _amount(rule.metric, refusal.wanted)
    if refusal.kind == "too_large":
        return (
            f"This call may need {wanted}, more than the limit of {limit} allows now: {left} left, "
            f"a call of at most {fits} would fit{_meanwhile(refusal)}. "
            f"{_TOO_LARGE_FOR_EVER if refusal.wanted > rule.amount else reset}"
        )
    return (
        f"Calls in flight take up the limit of {limit}: {left} left until they finish, "
        f"then up to {fits} would fit. Retry in a moment. {reset}"
    )


def _meanwhile(refusal: Refusal) -> str:
    return " once calls in flight have finished" if refusal.left < refusal.fits else ""


def _amount(metric: str, amount: int) -> str:
    if metric == "credits":
        return f"{format_dollars(amount)} USD"
    one, many = _NOUNS[metric]
    return f"{amount:,} {one if amount == 1 else many}"


def _reset(refusal: Refusal, zone: ZoneInfo, now: int) -> str:
    rule, resets_at = refusal.rule, refusal.resets_at
    if resets_at is None:
        return "It does not reset."
    if rule.cycle == "minute":
        return f"It resets in {max(1, -(-(resets_at - now) // SECOND))} s."
    local = datetime.fromtimestamp(-(-resets_at // SECOND), UTC).astimezone(zone)
    return f"It resets at {local:%Y-%m-%d %H:%M} ({zone.key})."
