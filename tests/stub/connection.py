"""One connection of the stub provider: reads requests, plays their behaviours, and notes what became of them."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
import orjson

from tests.stub import answers
from tests.stub.behaviour import Behaviour, behaviour_of_model

if TYPE_CHECKING:
    from tests.stub.provider import Call, StubProvider

# What OpenAI sends beside the answer and a gateway must keep to itself (the last one it may pass).
PROVIDER_HEADERS = (
    ("openai-organization", "org-of-the-operator"),
    ("openai-project", "proj_of_the_operator"),
    ("openai-version", "2020-10-01"),
    ("openai-processing-ms", "12"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "199999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("set-cookie", "__cf_bm=canary-cookie; path=/; HttpOnly; Secure"),
    ("server", "stub-provider"),
)
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
BOMB_BYTES = 128 * 1024 * 1024


class StubConnection(asyncio.Protocol):
    """Reads requests with httptools; answers them one after another."""

    def __init__(self, stub: StubProvider) -> None:
        self.stub = stub
        self.transport: Any = None
        self.number = 0
        self.parser: Any = None
        self.waiting: deque[tuple[Call, bool]] = deque()
        self.task: asyncio.Task[None] | None = None
        self.call: Call | None = None  # the one being answered, else the one answered last
        self.busy = False
        self.dropped = False  # we cut it, not the peer
        self.writable = asyncio.Event()
        self.writable.set()

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stub.connections.add(self)
        self.stub.accepted += 1
        self.number = self.stub.accepted
        self.parser = httptools.HttpRequestParser(self)
        if self.stub.send_buffer:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.stub.send_buffer)
            self.transport.set_write_buffer_limits(high=self.stub.send_buffer)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stub.connections.discard(self)
        if self.task is not None:
            self.task.cancel()
        if self.call is not None:
            self.call.closed_at = time.monotonic()
            if self.busy:
                self.call.peer_closed = not self.dropped
                self.busy = False
                self.stub.ended(self.call)
            self.stub.changed()

    def drop(self) -> None:
        """Cut the connection from this side."""
        self.dropped = True
        self.transport.abort()

    # --- httptools --------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        method, path = self.parser.get_method().decode(), self.url.decode("latin-1")
        call = self.stub.begin(method, path, self.headers, b"".join(self.body), self.number)
        self.waiting.append((call, self.parser.should_keep_alive()))
        if not self.busy:
            self._answer_next()

    # --- answering --------------------------------------------------------------------------------------------------

    def _answer_next(self) -> None:
        while self.waiting and not self.busy:
            call, keep_alive = self.waiting.popleft()
            self.call, self.busy = call, True
            if self.stub.keep_calls:
                behaviour, stream, pieces, call.usage = _plan(
                    self.stub.next_script(), call.method, call.path, call.body, call.number
                )
            else:
                behaviour, stream, pieces, call.usage = _cached_plan(call.method, call.path, call.body)
            if stream or behaviour.delay or behaviour.gap or behaviour.cut or behaviour.hold is not None:
                self.task = asyncio.get_running_loop().create_task(
                    self._play(call, behaviour, stream, pieces, keep_alive)
                )
                return
            framing = _framing(behaviour, stream)
            head = b"" if behaviour.raw is not None else _head(behaviour, framing, stream, pieces, keep_alive)
            tail = b"0\r\n\r\n" if framing == "chunked" else b""
            call.status = behaviour.status
            call.pieces_sent = len(pieces)
            self._write(call, head + b"".join(_frame(piece, framing) for piece in pieces) + tail)
            self._finish(call, behaviour, framing, keep_alive)

    async def _play(
        self, call: Call, behaviour: Behaviour, stream: bool, pieces: list[bytes], keep_alive: bool
    ) -> None:
        """An answer that takes its time, or goes wrong."""
        left = _body_allowance(behaviour, pieces)
        framing = _framing(behaviour, stream)
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.hold == 0:
            await self.stub.held()
        if left is not None and left < 0:
            await self._cut(behaviour)
            return
        call.status = behaviour.status
        if behaviour.raw is None:
            self._write(call, _head(behaviour, framing, stream, pieces, keep_alive))
        for index, piece in enumerate(pieces):
            if index and behaviour.gap:
                await asyncio.sleep(behaviour.gap)
            if index and behaviour.hold == index:
                await self.stub.held()
            if left is not None and left < len(piece):
                framed = _frame(piece, framing)
                overhead = framed.index(b"\r\n") + 2 if framing == "chunked" else 0
                self._write(call, framed[: overhead + left] if left else b"")
                await self._cut(behaviour)
                return
            self._write(call, _frame(piece, framing))
            call.pieces_sent += 1
            left = None if left is None else left - len(piece)
            if stream:
                await asyncio.sleep(0)  # each event is a write of its own, as a provider sends them
                await self.writable.wait()
        if left is not None:
            await self._cut(behaviour)
            return
        if framing == "chunked":
            self._write(call, b"0\r\n\r\n")
        self._finish(call, behaviour, framing, keep_alive)
        self._answer_next()

    async def _cut(self, behaviour: Behaviour) -> None:
        self.stub.changed()
        if behaviour.cut == "stall":
            await asyncio.Event().wait()
        while self.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        if behaviour.cut == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    def _write(self, call: Call, data: bytes) -> None:
        self.transport.write(data)
        call.sent += len(data)
        self.stub.changed()

    def _finish(self, call: Call, behaviour: Behaviour, framing: str, keep_alive: bool) -> None:
        call.finished_at = time.monotonic()
        self.busy, self.task = False, None
        self.stub.ended(call)
        if framing == "close" or behaviour.hang_up or behaviour.raw is not None or not keep_alive:
            self.waiting.clear()
            self.transport.close()


Plan = tuple[Behaviour, bool, list[bytes], "answers.Json | None"]


def _plan(scripted: Behaviour | None, method: str, path: str, body: bytes, number: int) -> Plan:
    """The behaviour, whether it is an event stream, the body in pieces, and the usage it reports."""
    try:
        request = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        return scripted or Behaviour(status=400), False, [orjson.dumps(answers.error_body(400))], None
    try:
        behaviour = scripted or behaviour_of_model(str(request.get("model", "")))
    except ValueError as error:
        return Behaviour(status=400), False, [orjson.dumps(answers.error_body(400, str(error)))], None
    if behaviour.raw is not None:
        return behaviour, False, [behaviour.raw], None
    if behaviour.body is not None:
        return behaviour, False, _packed(behaviour, [behaviour.body]), None
    if behaviour.status >= 300:
        return behaviour, False, _packed(behaviour, [orjson.dumps(answers.error_body(behaviour.status))]), None
    answer = _shape(behaviour, method, path, request, number)
    if answer is None:
        body = orjson.dumps(answers.error_body(404, f"Invalid URL ({method} {path})"))
        return Behaviour(status=404), False, [body], None
    if isinstance(answer, list):
        return behaviour, True, _packed(behaviour, answer), answers.usage_in(answer)
    return behaviour, False, _packed(behaviour, [orjson.dumps(answer)]), answer.get("usage")


@functools.lru_cache(maxsize=256)
def _cached_plan(method: str, path: str, body: bytes) -> Plan:
    """For a stub that keeps no calls, where speed counts: equal requests get equal answers, their ids too."""
    return _plan(None, method, path, body, 1)


def _shape(
    behaviour: Behaviour, method: str, target: str, request: answers.Json, number: int
) -> answers.Json | list[bytes] | None:
    """The answer to one of the endpoints: an object, the events of a stream, or None for an unknown path."""
    path, stream = target.split("?", 1)[0], request.get("stream") is True
    if method == "POST":
        if path == "/v1/chat/completions":
            return (answers.chat_events if stream else answers.chat)(behaviour, request, number)
        if path == "/v1/completions":
            return (answers.completion_events if stream else answers.completion)(behaviour, request, number)
        if path == "/v1/responses":
            return (answers.response_events if stream else answers.response)(behaviour, request, number)
        if path == "/v1/embeddings":
            return answers.embeddings(behaviour, request)
    elif method == "GET":
        if path == "/v1/models":
            return answers.model_list()
        if path.startswith("/v1/models/"):
            return answers.model_object(path.removeprefix("/v1/models/"))
    return None


def _framing(behaviour: Behaviour, stream: bool) -> str:
    if behaviour.raw is not None:
        return "close"
    if behaviour.framing != "auto":
        return behaviour.framing
    return "chunked" if stream else "length"


def _frame(piece: bytes, framing: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece


def _head(behaviour: Behaviour, framing: str, stream: bool, pieces: list[bytes], keep_alive: bool) -> bytes:
    if not stream and not behaviour.headers and behaviour.content_type is None and not behaviour.gzip:
        length = len(pieces[0]) if framing == "length" else -1
        return _plain_head(behaviour.status, framing, length, keep_alive)
    headers = dict(PROVIDER_HEADERS)
    kind = "text/event-stream; charset=utf-8" if stream else "application/json"
    headers["content-type"] = behaviour.content_type or kind
    if behaviour.gzip:
        headers["content-encoding"] = "gzip"
    if framing == "length":
        headers["content-length"] = str(sum(map(len, pieces)))
    elif framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    if framing == "close" or not keep_alive:
        headers["connection"] = "close"
    headers["x-request-id"] = "req_stub"
    added = {name.lower(): value for name, value in behaviour.headers}
    return _render(behaviour.status, headers | added)


@functools.lru_cache(maxsize=1024)
def _plain_head(status: int, framing: str, length: int, keep_alive: bool) -> bytes:
    headers = dict(PROVIDER_HEADERS) | {"content-type": "application/json", "x-request-id": "req_stub"}
    if framing == "length":
        headers["content-length"] = str(length)
    elif framing == "chunked":
        headers["transfer-encoding"] = "chunked"
    if framing == "close" or not keep_alive:
        headers["connection"] = "close"
    if status == 429:
        headers["retry-after"] = "7"
    return _render(status, headers)


def _render(status: int, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Stub')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _packed(behaviour: Behaviour, pieces: list[bytes]) -> list[bytes]:
    """The pieces under the behaviour's content encoding."""
    if not behaviour.gzip:
        return pieces
    if behaviour.gzip == "bomb":
        return [_bomb(b"".join(pieces))]
    pack = zlib.compressobj(wbits=31)
    packed = [pack.compress(piece) + pack.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    packed[-1] += pack.flush()
    if behaviour.gzip == "truncated":
        whole = b"".join(packed)
        return [whole[: len(whole) // 2]]
    return packed


@functools.lru_cache(maxsize=1)
def _bomb(body: bytes) -> bytes:
    """A small gzip of the body and 128 MiB of white space, still valid JSON."""
    pack = zlib.compressobj(level=9, wbits=31)
    blank = b" " * (1024 * 1024)
    return pack.compress(body) + b"".join(pack.compress(blank) for _ in range(BOMB_BYTES // len(blank))) + pack.flush()


def _body_allowance(behaviour: Behaviour, pieces: list[bytes]) -> int | None:
    """How many bytes of the body go out before the cut: None for all, -1 when not even the head does."""
    if not behaviour.cut:
        return None
    if behaviour.cut_half:
        return sum(map(len, pieces)) // 2
    return -1 if behaviour.cut_at is None else behaviour.cut_at
