"""The HTTP/1.1 client towards providers: pooled connections, checked addresses, a time limit for every phase.

It connects to the very address it has checked, so that a name cannot point elsewhere between the check and the
connection (DNS rebinding). Redirects are never followed, cookies never kept.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from ipaddress import ip_address
from typing import cast

import certifi
import httptools

from pricing.addresses import is_public
from proxy.upstream_response import READ_BUFFER, ConnectFailed, Disconnected, Response, Target, TimedOut

IDLE_SECONDS = 60.0  # an unused connection is closed after that, before providers' own limits (nginx: 75 s)
TICK_SECONDS = 0.25
LINGER_SECONDS = 1.0  # how long a stream that has said its last word may take to end
STALE_SECONDS = 1.0  # a pooled connection that the provider had closed says so within a round trip


class Connection(asyncio.BufferedProtocol):
    """One connection to a provider, one call at a time."""

    def __init__(self, pool: "Pool", buffer: memoryview) -> None:
        self._pool = pool
        self._buffer = buffer
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._response: Response | None = None
        self.parser = httptools.HttpResponseParser(self)
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

    def send(self, response: Response, data: bytes) -> None:
        """Start a call on this connection."""
        self._response = response
        self.used += 1
        self._transport.write(data)

    def done(self, *, reusable: bool) -> None:
        """The call is over; the connection goes back to the pool, or is closed."""
        response, self._response = self._response, None
        if reusable and not self._transport.is_closing():
            if response is not None and response.head_only:
                self.parser = httptools.HttpResponseParser(self)  # the old one waits for a body that never comes
            self._pool.put(self)
        else:
            self._transport.abort()

    # --- parser callbacks: what is parsed belongs to the call under way ---

    def on_message_begin(self) -> None:
        self._answer.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.on_header(name, value)

    def on_headers_complete(self) -> None:
        self._answer.on_headers_complete()

    def on_body(self, data: bytes) -> None:
        self._answer.on_body(data)

    def on_message_complete(self) -> None:
        self._answer.on_message_complete()

    @property
    def _answer(self) -> Response:
        assert self._response is not None
        return self._response

    # --- the answer's steering ---

    def pause(self) -> None:
        """Stop reading: the client is slower than the provider."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        self._transport.resume_reading()


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
