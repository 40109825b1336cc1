"""How the stub provider plays one request: what it answers, how it is framed, and where it goes wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One scripted answer. The default is a healthy provider.

    `cut` ends the answer early, in one of three ways: 'reset' (RST), 'eof' (the connection is closed without an error)
    or 'stall' (nothing more comes, the connection stays open). It falls after `cut_at` bytes of the body as sent
    (compressed, before chunk framing); None means before the first byte of the head.

    `hold` waits for `StubProvider.release()`: 0 holds the head, k holds after the k-th piece of the body.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()  # added to the usual ones; the same name replaces
    body: bytes | None = None  # instead of OpenAI's shape
    raw: bytes | None = None  # instead of the whole response, head included
    content_type: str | None = None

    delay: float = 0.0  # seconds before the head
    chunks: int | None = None  # words of content, one SSE event each; default 8, capped by max_tokens
    gap: float = 0.0  # seconds between the pieces of the body
    hold: int | None = None

    framing: str = "auto"  # 'length', 'chunked', 'close'; auto: length for JSON, chunked for streams
    gzip: str = ""  # 'ok', 'truncated' (half of the bytes), 'bomb' (128 MiB from about 128 KiB)
    cut: str = ""
    cut_at: int | None = None
    cut_half: bool = False  # `cut_at` is the middle of the body
    done: bool = True  # False: a stream ends cleanly, but without [DONE] or its closing event
    hang_up: bool = False  # close the connection after a whole answer that promised to keep it

    tools: bool | None = None  # answer with a tool call; None: when the request offers tools and returns no result yet
    ending: str = "completed"  # of /v1/responses: 'completed', 'incomplete', 'failed'
    error: str | None = None  # an error event in the middle of a stream that began with 200
    usage: str = "good"  # 'good', 'none', 'two', 'negative', 'absurd', 'string'
    input_tokens: int | None = None  # None: counted from the request
    output_tokens: int | None = None  # None: the number of words sent
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str = "default"
    served_model: str | None = None  # None: the model asked for


_WORDS = re.compile(r"[a-z_]+|[0-9]+")
_FLAGS: dict[str, dict[str, object]] = {
    "hang": {"cut": "stall", "cut_at": None},
    "stall": {"cut": "stall", "cut_half": True},
    "reset": {"cut": "reset", "cut_half": True},
    "eof": {"cut": "eof", "cut_half": True},
    "refused": {"cut": "reset", "cut_at": None},
    "nodone": {"done": False},
    "html": {"body": b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>", "content_type": "text/html"},
    "redirect": {"status": 302, "headers": (("location", "http://127.0.0.1:1/elsewhere"),)},
    "date": {"headers": (("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT"),)},
    "truncated": {"gzip": "truncated"},
    "bomb": {"gzip": "bomb"},
    "gzip": {"gzip": "ok"},
    "length": {"framing": "length"},
    "chunked": {"framing": "chunked"},
    "close": {"framing": "close"},
    "hangup": {"hang_up": True},
    "tools": {"tools": True},
    "notools": {"tools": False},
    "completed": {"ending": "completed"},
    "incomplete": {"ending": "incomplete"},
    "failed": {"ending": "failed"},
    "midway": {"error": "The server had an error while processing your request."},
    "none": {"usage": "none"},
    "two": {"usage": "two"},
    "negative": {"usage": "negative"},
    "absurd": {"usage": "absurd"},
    "string": {"usage": "string"},
}
_NUMBERS = {
    "chunks": "chunks",
    "in": "input_tokens",
    "out": "output_tokens",
    "cached": "cached_tokens",
    "reasoning": "reasoning_tokens",
}


@cache
def behaviour_of_model(model: str) -> Behaviour:
    """Read a behaviour from a model's name.

    Names that begin with `stub-` are words joined by hyphens, some with a number after them: `stub-chunks-50-gap-10`
    (milliseconds), `stub-429`, `stub-429-date`, `stub-reset-100` (after 100 bytes of the body; without a number, in
    the middle), `stub-hang`, `stub-two` (usage chunks), `stub-in-1000-cached-200-out-50`. An embedding model may be
    called `stub-embed`. Other names are healthy. ValueError on an unknown word.
    """
    if not model.startswith("stub-"):
        return Behaviour()
    behaviour = Behaviour()
    parts = _WORDS.findall(model.removeprefix("stub-"))
    while parts:
        word = parts.pop(0)
        number = int(parts.pop(0)) if parts and parts[0].isdigit() and not word.isdigit() else None
        if word.isdigit():
            behaviour = replace(behaviour, status=int(word))
        elif word in _NUMBERS:
            behaviour = replace(behaviour, **{_NUMBERS[word]: number})
        elif word == "gap":
            behaviour = replace(behaviour, gap=(number or 0) / 1000)
        elif word == "delay":
            behaviour = replace(behaviour, delay=(number or 0) / 1000)
        elif word == "hold":
            behaviour = replace(behaviour, hold=number or 0)
        elif word in _FLAGS:
            behaviour = replace(behaviour, **_FLAGS[word])
            if number is not None:
                behaviour = replace(behaviour, cut_at=number, cut_half=False)
        elif word != "embed":
            raise ValueError(f"the stub knows no word {word!r} (in the model name {model!r})")
    return behaviour
