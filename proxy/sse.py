"""Event streams on their way through: cut into whole events, usage read, the end recognised, nothing re-serialised.

The framing is that of https://html.spec.whatwg.org/multipage/server-sent-events.html, as OpenAI uses it.
"""

import re
from typing import Any

import orjson

from pricing.quotes import Usage
from proxy.errors import GatewayError
from proxy.provider_json import loads
from proxy.request import Endpoint
from proxy.usage_report import read_usage

HOLD = 64 * 1024  # an unfinished event up to this size waits for its end; a longer one passes as it comes
INSPECT = 32 * 1024 * 1024  # an event longer than that is not read for usage

_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')
_BOUNDARY = re.compile(rb"\r?\n\r?\n")
# Cheap signs that a chunk holds an event worth reading; text that happens to contain one only costs a parse.
_CHAT_MARKERS = (b'"usage"', b"[DONE]", b"error")
_RESPONSES_MARKERS = (b"response.completed", b"response.incomplete", b"response.failed", b"error")
_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class EventStream:
    """Takes a provider's bytes, gives what the client may have of them, and keeps what the record needs."""

    def __init__(self, endpoint: Endpoint, *, hide_usage: bool) -> None:
        self._endpoint = endpoint
        self._responses = endpoint is Endpoint.RESPONSES
        self._hide_usage = hide_usage
        self._markers = _RESPONSES_MARKERS if self._responses else _CHAT_MARKERS
        self._pending = b""
        self._long: list[bytes] | None = None  # an event beyond HOLD that goes out as it comes; empty: not to be read
        self._long_size = 0
        self._tail = b""  # its last bytes, since a boundary may be cut in two
        self.usage: Usage | None = None
        self.done = False
        """Whether the stream came to its own end."""
        self.failed = False
        """Whether the provider sent an error event."""
        self.model: str | None = None
        self.service_tier: str | None = None

    def feed(self, chunk: bytes) -> bytes:
        """What the client gets for `chunk`: whole events, or a part of a very long one."""
        if self._long is not None:
            return self._feed_long(chunk)
        if self._pending:
            chunk = self._pending + chunk
        if chunk.endswith((b"\n\n", b"\r\n\r\n")):
            whole, self._pending = chunk, b""
        else:
            end = max(chunk.rfind(b"\n\n") + 2, chunk.rfind(b"\r\n\r\n") + 4)
            if end < 4:
                return self._unfinished(chunk)
            whole, self._pending = chunk[:end], chunk[end:]
        if self._hide_usage and b'"usage"' in whole:
            # We asked for usage, so the provider adds a null to every chunk; the client did not ask for it. Inside a
            # JSON string the quotes would be escaped, so these bytes are always a member.
            whole = whole.replace(b',"usage":null', b"")  # as OpenAI spells it; the pattern costs ten times that
            if b'"usage"' in whole:
                whole = _NULL_USAGE.sub(b"", whole)
        if self._matters(whole):
            whole = self._inspect(whole)
        return whole

    def _unfinished(self, part: bytes) -> bytes:
        if len(part) <= HOLD:
            self._pending = part
            return b""
        self._pending, self._tail, self._long_size = b"", part[-3:], len(part)
        # Events of /responses begin with their type, so that one with a picture in it need not be held to be read.
        self._long = [part] if not self._responses or self._matters(part) else []
        return part

    def _feed_long(self, chunk: bytes) -> bytes:
        assert self._long is not None
        joint = self._tail + chunk
        boundary = _BOUNDARY.search(joint)
        if boundary is None:
            self._tail = joint[-3:]
            self._long_size += len(chunk)
            if self._long_size > INSPECT:
                self._long = []
            elif self._long:
                self._long.append(chunk)
            return chunk
        end = boundary.end() - len(self._tail)
        last = chunk[:end]
        if self._long:
            self._read(b"".join(self._long) + last)
        self._long = None
        return last if self.done else last + self.feed(chunk[end:])

    def _matters(self, events: bytes) -> bool:
        for marker in self._markers:  # noqa: SIM110 - any() over a generator takes three times as long
            if marker in events:
                return True
        return False

    def _inspect(self, whole: bytes) -> bytes:
        """Read the events that matter; return `whole` without those to hide."""
        start = 0
        kept: list[bytes] = []
        for boundary in _BOUNDARY.finditer(whole):
            event = whole[start : boundary.end()]
            start = boundary.end()
            if not self._read(event):
                kept.append(event)
            if self.done:
                break
        return b"".join(kept)

    def _read(self, event: bytes) -> bool:
        """Note what one event says; True where it is to be hidden."""
        if not self._matters(event):
            return False
        data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if data == b"[DONE]":
            self.done = True
            return False
        try:
            document = loads(data)
        except ValueError:
            return False
        return isinstance(document, dict) and self._note(document)

    def _note(self, document: dict[str, Any]) -> bool:
        inner = document.get("response") if self._responses else document
        if isinstance(inner, dict):
            self._note_usage(inner)
        if self._responses:
            if document.get("type") in _TERMINAL:
                self.done = True
            elif document.get("type") == "error":
                self.failed = self.done = True
            return False
        if document.get("error"):
            self.failed = self.done = True
            return False
        return self._hide_usage and isinstance(document.get("usage"), dict) and document.get("choices") == []

    def _note_usage(self, part: dict[str, Any]) -> None:
        report = part.get("usage")
        if report is None:
            return
        usage = read_usage(report, self._endpoint)
        if usage is not None:
            self.usage = usage
        model, tier = part.get("model"), part.get("service_tier")
        self.model = model if isinstance(model, str) else self.model
        self.service_tier = tier if isinstance(tier, str) else self.service_tier


def error_event(endpoint: Endpoint, error: GatewayError) -> bytes:
    """The event that ends a stream which failed half way, in the endpoint's own form, and without [DONE].

    The official SDKs raise on a truthy `error` member and take a quiet end for success (openai-python `_streaming.py`),
    so the event of /responses carries one beside its documented members.
    """
    payload: dict[str, Any] = dict(error.payload())
    if endpoint is not Endpoint.RESPONSES:
        return b"data: %b\n\n" % orjson.dumps(payload)
    event = {"type": "error", "code": error.code, "message": error.message, "param": None, **payload}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(event)
