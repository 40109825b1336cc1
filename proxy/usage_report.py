"""What a provider says a call used: its `usage` object into our counts, or None where it cannot be believed."""

from typing import Any

from pricing.quotes import Usage
from proxy.request import Endpoint

# No context window comes near it; a count beyond is a fault, not a bill.
ABSURD = 20_000_000


def read_usage(report: object, endpoint: Endpoint) -> Usage | None:
    """The counts of the `usage` object of an endpoint's answer; None if missing, incomplete or absurd.

    No prompt has no tokens: a zero there is a provider that does not count. Only a response that failed before it was
    read (/responses) may say so.
    """
    if not isinstance(report, dict):
        return None
    if endpoint is not Endpoint.RESPONSES and report.get("prompt_tokens") == 0:
        return None
    if endpoint is Endpoint.CHAT and report.get("completion_tokens") is None and report.get("output_tokens") is None:
        return None
    entered = _count(report, "prompt_tokens", "input_tokens")
    left = _count(report, "completion_tokens", "output_tokens")
    if entered is None or left is None or not _named(report):
        return None
    details_in = _details(report, "prompt_tokens_details", "input_tokens_details")
    details_out = _details(report, "completion_tokens_details", "output_tokens_details")
    if not details_in and not details_out:
        return Usage(entered, 0, 0, left)
    cached = _count(details_in, "cached_tokens")
    written = _count(details_in, "cache_write_tokens", "cache_creation_tokens")
    heard = _count(details_in, "audio_tokens")
    thought = _count(details_out, "reasoning_tokens")
    spoken = _count(details_out, "audio_tokens")
    if cached is None or written is None or heard is None or thought is None or spoken is None:
        return None
    if thought and report.get("total_tokens") == entered + left + thought:
        left += thought  # xAI counts reasoning beside the completion, as its total shows
    if cached + written > entered or heard > entered or thought > left or spoken > left:
        return None
    return Usage(entered, cached, written, left, thought, heard, spoken)


def _named(report: dict[str, Any]) -> bool:
    return report.get("prompt_tokens") is not None or report.get("input_tokens") is not None


def _count(report: dict[str, Any], *names: str) -> int | None:
    """The first of `names` that is there; 0 where none is, None where it is no believable count."""
    for name in names:
        value = report.get(name)
        if value is not None:
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ABSURD:
                return value
            return None
    return 0


_NOTHING: dict[str, Any] = {}


def _details(report: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        value = report.get(name)
        if isinstance(value, dict):
            return value
    return _NOTHING
