"""Rate-limit headers under OpenAI's names, in bytes as they go out."""

from collections.abc import Iterable
from functools import lru_cache

from proxy.limits.rules import SECOND, Standing

_MILLISECOND = 1_000
_REQUESTS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def limit_headers(standings: Iterable[Standing], now: int) -> list[tuple[bytes, bytes]]:
    """Return limit, remaining and reset for requests and for tokens, each of the limit with the least left.

    Where two have as little left, the one that resets later speaks. A limit that never resets has no reset header;
    a metric without a limit has none at all, and OpenAI has no names for credits and sessions. `now` in µs.
    """
    requests: Standing | None = None
    tokens: Standing | None = None
    for standing in standings:
        metric = standing.rule.metric
        if metric == "requests":
            if requests is None or _tighter(standing, requests):
                requests = standing
        elif metric == "tokens" and (tokens is None or _tighter(standing, tokens)):
            tokens = standing
    headers: list[tuple[bytes, bytes]] = []
    for (limit, remaining, reset), tightest in ((_REQUESTS, requests), (_TOKENS, tokens)):
        if tightest is not None:
            rule, _, _, left, resets_at = tightest
            headers += ((limit, _number(rule.amount)), (remaining, b"%d" % left))
            if resets_at is not None:
                headers.append((reset, duration(resets_at - now)))
    return headers


def _tighter(standing: Standing, other: Standing) -> bool:
    if standing.left != other.left:
        return standing.left < other.left
    return other.resets_at is not None and (standing.resets_at is None or standing.resets_at > other.resets_at)


@lru_cache(maxsize=4096)
def _number(amount: int) -> bytes:
    return b"%d" % amount


def duration(microseconds: int) -> bytes:
    """Return a duration as OpenAI writes it: `20ms` below a second, else `1s`, `6m0s`, `49h0m7s`; rounded up."""
    if microseconds > SECOND - _MILLISECOND:
        return _clock(-(-microseconds // SECOND))
    return b"%dms" % -(-microseconds // _MILLISECOND) if microseconds > 0 else b"0s"


@lru_cache(maxsize=4096)
def _clock(seconds: int) -> bytes:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, seconds)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds
