"""The HTTP/1.1 client towards providers: pooled connections, checked addresses, a time limit for every phase.

It connects to the very address it has checked, so that a name cannot point elsewhere between the check and the
connection (DNS rebinding). Redirects are never followed, cookies never kept.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, cast

import certifi
import httptools

from pricing.addresses import is_public
from proxy.server import HeaderList

READ_BUFFER = 16 * 1024  # one read, and what a paused stream may hold
MAX_HEADER_BYTES = 64 * 1024
# Bytes that may come without completing the head or a part of the body: the parser would collect one endless header.
MAX_UNPARSED = MAX_HEADER_BYTES + 2 * READ_BUFFER
IDLE_SECONDS = 60.0  # an unused connection is closed after that, before providers' own limits (nginx: 75 s)
TICK_SECONDS = 0.25
LINGER_SECONDS = 1.0  # how long a stream that has said its last word may take to end
STALE_SECONDS = 1.0  # a pooled connection that the provider had closed says so within a round trip

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


class Connection(asyncio.BufferedProtocol):
    """One connection to a provider, one call at a time."""

    def __init__(self, pool: "Pool", buffer: memoryview) -> None:
        self._pool = pool
        self._buffer = buffer
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._response: Response | None = None
        self.used = 0
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._response is None:
            self._transport.abort()  # a provider that speaks unasked is out of step with us
        else:
            self._response.feed(self._buffer[:nbytes])

    def eof_received(self) -> None:
        """The transport closes by itself; connection_lost tells the call."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self._response is not None:
            self._response.lost(exc)

    @property
    def closing(self) -> bool:
        """Whether it can carry no further call."""
        return self._transport.is_closing()

    def send(self, response: "Response", data: bytes) -> None:
        """Start a call on this connection."""
        self._response = response
        self.used += 1
        self._transport.write(data)

    def done(self, *, reusable: bool) -> None:
        """The call is over; the connection goes back to the pool, or is closed."""
        self._response = None
        if reusable and not self._transport.is_closing():
            self._pool.put(self)
        else:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the client is slower than the provider."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        self._transport.resume_reading()


class Response:
    """A provider's answer as it arrives: status and headers first, then the body, whole or in chunks."""

    __slots__ = (
        "_body_ends_with_connection",
        "_chunks",
        "_complete",
        "_connection",
        "_error",
        "_head_only",
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
        "headers",
        "lingering",
        "phase",
        "status",
    )

    def __init__(self, target: Target, now: float, *, head_only: bool = False) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._parser = httptools.HttpResponseParser(self)
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
        self._head_only = head_only
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

    def attach(self, connection: Connection) -> None:
        """The connection that carries this call."""
        self._connection = connection

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
        if self._head_only or self.status in (204, 304):
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


class Pool:
    """All connections to all providers, their deadlines, and the one way to make a call."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Target, deque[Connection]] = {}
        self._home: dict[Connection, Target] = {}
        self._active: set[Response] = set()
        self._buffer = memoryview(bytearray(READ_BUFFER))  # one for all: what is read is parsed before the next read
        self._tls = ssl.create_default_context()
        self._tls.load_verify_locations(certifi.where())
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)

    async def send(self, target: Target, request: bytes, *, head_only: bool = False) -> Response:
        """Send `request` (head and body) and return the answer when its headers are in. Raises UpstreamError.

        A pooled connection that turns out to have been closed is replaced. One that ends later, without a byte of an
        answer, is not: the provider may have worked on the call, and would do so twice.
        """
        while True:
            connection = self._take(target)
            reused = connection is not None
            if connection is None:
                connection = await self._connect(target)
            now = self._loop.time()
            response = Response(target, now, head_only=head_only)
            response.attach(connection)
            self._active.add(response)
            try:
                connection.send(response, request)
                await response.started()
            except Disconnected:
                self._active.discard(response)
                if reused and not response.first_byte and self._loop.time() - now < STALE_SECONDS:
                    continue
                raise
            except BaseException:
                self.release(response)
                raise
            return response

    def release(self, response: Response) -> None:
        """End a call, whatever its state; must follow every `send`."""
        if response.lingering:
            return
        self._active.discard(response)
        response.abort()

    def finish(self, response: Response) -> None:
        """Before `release`: all that matters of the answer is here."""
        response.linger(self._loop.time() + LINGER_SECONDS)

    def put(self, connection: Connection) -> None:
        """Keep an idle connection for the next call."""
        connection.idle_since = self._loop.time()
        self._idle.setdefault(self._home[connection], deque()).append(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        target = self._home.pop(connection, None)
        if target is not None and target in self._idle:
            with contextlib.suppress(ValueError):
                self._idle[target].remove(connection)

    def close(self) -> None:
        """Close every connection."""
        self._ticker.cancel()
        for connection in list(self._home):
            connection.done(reusable=False)

    def _take(self, target: Target) -> Connection | None:
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if not connection.closing:
                return connection
        return None

    async def _connect(self, target: Target) -> Connection:
        try:
            async with asyncio.timeout(target.connect_timeout):
                return await self._connect_any(target)
        except TimeoutError as error:
            raise TimedOut("connect") from error

    async def _connect_any(self, target: Target) -> Connection:
        failure: Exception | None = None
        for address in await self._resolve(target):
            if not target.allow_private and not is_public(address):
                raise ConnectFailed(f"{target.host} leads to {address}, which is not a public address")
            try:
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, self._buffer),
                    address,
                    target.port,
                    ssl=self._tls if target.tls else None,
                    server_hostname=target.host if target.tls else None,
                )
            except (OSError, ssl.SSLError) as error:
                failure = error
                continue
            self._home[connection] = target
            return connection
        raise ConnectFailed(str(failure)) from failure

    async def _resolve(self, target: Target) -> list[str]:
        with contextlib.suppress(ValueError):
            return [str(ip_address(target.host))]
        try:
            found = await self._loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"{target.host}: {error}") from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK_SECONDS, self._tick)
        now = self._loop.time()
        for response in [r for r in self._active if r.deadline <= now]:
            response.expire()
            if response.lingering:
                self._active.discard(response)
        for target, idle in list(self._idle.items()):
            while idle and idle[0].idle_since + IDLE_SECONDS <= now:
                idle.popleft().done(reusable=False)
            if not idle:
                del self._idle[target]
