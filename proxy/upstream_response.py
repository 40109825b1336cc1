"""A provider's answer as it arrives on a connection, and what can go wrong on the way."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

import httptools

from proxy.exchange import HeaderList

READ_BUFFER = 16 * 1024  # one read, and what a paused stream may hold
MAX_HEADER_BYTES = 64 * 1024
# Bytes that may come without completing the head or a part of the body: the parser would collect one endless header.
MAX_UNPARSED = MAX_HEADER_BYTES + 2 * READ_BUFFER

Phase = Literal["connect", "first_byte", "idle", "total"]


class UpstreamError(Exception):
    """The provider's side failed on the way; the subclass says how. Texts are for the operator's log."""


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, unknown name, TLS, or an address that is not allowed."""


class Disconnected(UpstreamError):
    """The connection broke before the answer was whole."""


class Malformed(UpstreamError):
    """What arrived is no well-formed HTTP, or exceeds a bound."""


class TimedOut(UpstreamError):
    """A phase exceeded its limit."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"timeout: {phase}")
        self.phase = phase


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where a provider listens, and how long each phase may take (seconds). One object a provider: it keys the pool."""

    host: str
    port: int
    tls: bool
    connect_timeout: float = 5.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 300.0
    total_timeout: float = 1800.0
    allow_private: bool = False


class Line(Protocol):
    """The connection that an answer comes on, as far as the answer steers it."""

    parser: httptools.HttpResponseParser
    """The connection's own: one made for every answer would hold that answer in a circle, for the collector to find."""

    def pause(self) -> None:
        """Stop reading: the client is slower than the provider."""

    def resume(self) -> None:
        """Go on reading."""

    def done(self, *, reusable: bool) -> None:
        """The call is over; the connection goes back to the pool, or is closed."""


class Response:
    """A provider's answer as it arrives: status and headers first, then the body, whole or in chunks."""

    __slots__ = (
        "_body_ends_with_connection",
        "_chunks",
        "_complete",
        "_connection",
        "_error",
        "_header_bytes",
        "_held",
        "_in_headers",
        "_keep_alive",
        "_parser",
        "_paused",
        "_target",
        "_total_deadline",
        "_unparsed",
        "_waiter",
        "_whole",
        "deadline",
        "first_byte",
        "head_only",
        "headers",
        "lingering",
        "phase",
        "status",
    )

    def __init__(self, target: Target, now: float, *, head_only: bool = False) -> None:
        self._target = target
        self._connection: Line | None = None
        self._parser: httptools.HttpResponseParser = None  # type: ignore[assignment]  # set by attach
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._header_bytes = 0
        self._unparsed = 0
        self._in_headers = True
        self._keep_alive = False
        self._whole = True
        self._paused = False
        self._complete = False
        self.head_only = head_only
        self._body_ends_with_connection = True
        self._error: UpstreamError | None = None
        self._total_deadline = now + target.total_timeout
        self.deadline = min(now + target.first_byte_timeout, self._total_deadline)
        self.phase: Phase = "first_byte"
        self.status = 0
        self.headers: HeaderList = []
        self.first_byte = False
        self.lingering = False

    # --- reading, by the call ---

    async def started(self) -> None:
        """Wait for status and headers. Raises UpstreamError."""
        while self._in_headers:
            await self._wait()

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes (Malformed beyond). Raises UpstreamError."""
        while not self._complete:
            if self._held > limit:
                self.abort()
                raise Malformed(f"answer exceeds {limit} bytes")
            await self._wait()
        if self._held > limit:
            raise Malformed(f"answer exceeds {limit} bytes")
        chunks, self._chunks = self._chunks, deque()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def chunk(self) -> bytes:
        """The next part of the body, as it arrived; b"" at the end. Raises UpstreamError, after all parts before it."""
        self._whole = False
        while not self._chunks:
            if self._complete:
                return b""
            if self._paused:
                self._paused = False
                self._rest_deadline(asyncio.get_running_loop().time())
                if self._connection is not None:
                    self._connection.resume()
            await self._wait()
        data = self._chunks.popleft()
        self._held -= len(data)
        return data

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def header(self, name: bytes) -> bytes | None:
        """First value of the header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def abort(self) -> None:
        """Drop the call: the provider sees the connection close, and stops. Harmless when it is over."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._complete = True
            connection.done(reusable=False)

    def linger(self, until: float) -> None:
        """Read on for the end of an answer whose last word is here, so that its connection can be used again."""
        if self._connection is not None:
            self.lingering = True
            self.deadline = until
            if self._paused:
                self._connection.resume()

    # --- feeding, by the connection ---

    def attach(self, connection: Line) -> None:
        """The connection that carries this call."""
        self._connection = connection
        self._parser = connection.parser

    def feed(self, data: memoryview) -> None:
        """Bytes from the provider."""
        self.first_byte = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(error.__context__ if isinstance(error.__context__, Malformed) else Malformed("not HTTP"))
                return
            self._keep_alive = False  # what follows a whole answer is no part of it, and nothing can follow that
        if self._complete:
            self._release(reusable=self._keep_alive and not self._body_ends_with_connection)
            self._wake()
            return
        if self.lingering:
            if self._held > READ_BUFFER:
                self.abort()
            return
        self._unparsed += len(data)
        if self._unparsed > MAX_UNPARSED:
            self._fail(Malformed("header section too large"))
            return
        if not self._in_headers:
            self._rest_deadline(asyncio.get_running_loop().time())
        if not self._whole and self._held >= READ_BUFFER and not self._paused and self._connection is not None:
            self._paused = True
            self.deadline = self._total_deadline
            self.phase = "total"
            self._connection.pause()
        self._wake()

    def lost(self, exc: Exception | None) -> None:
        """The connection closed; `exc` where it broke."""
        if self._complete:
            return
        if not self._in_headers and self._body_ends_with_connection and exc is None:
            self._complete = True
            self._connection = None
            self._wake()
        else:
            self._fail(Disconnected("closed before the answer was whole"))

    def expire(self) -> None:
        """The phase under way exceeded its limit."""
        if not self._complete:  # else a slow client is still taking what is here
            self._fail(TimedOut(self.phase))

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        self.abort()
        self._complete = False
        self._wake()

    def _release(self, *, reusable: bool) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.done(reusable=reusable)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _rest_deadline(self, now: float) -> None:
        idle = now + self._target.idle_timeout
        self.phase = "idle" if idle < self._total_deadline else "total"
        self.deadline = min(idle, self._total_deadline)

    # --- parser callbacks ---

    def on_message_begin(self) -> None:
        if self._complete:
            raise Malformed("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise Malformed("header section too large")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self._in_headers = False
        self._keep_alive = self._parser.should_keep_alive()  # only here: the parser has forgotten it at the end
        for name, _ in self.headers:
            if name in (b"content-length", b"transfer-encoding"):
                self._body_ends_with_connection = False
        if self.head_only or self.status in (204, 304):
            self._body_ends_with_connection = False
            self._complete = True

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        self._unparsed = 0

    def on_message_complete(self) -> None:
        if self.status < 200:  # an interim answer (100, 103): the real one follows
            self.headers = []
            return
        self._complete = True
