"""The HTTP/1.1 edge: sockets in, `Exchange` objects out. llhttp (through httptools) parses; it knows nothing of calls.

Why it is ours and not a server from the shelf: docs/decisions/1-an-edge-of-our-own.md. What it promises: back-pressure
with at most `WRITE_BUFFER` bytes held for a slow reader, the handler cancelled at once when the client hangs up,
bounded headers, body and time, and answers in the application's own words for whatever cannot be parsed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools

from proxy.errors import BodyTooLarge, GatewayError, HeadersTooLarge, InternalError, InvalidRequest, RequestTimeout
from proxy.exchange import CLIENT_GONE, NO_BODY, SHUTDOWN, Exchange, HeaderList, Request

log = logging.getLogger("gateway.server")

MAX_HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 10.0  # slow-loris: the header section must be whole by then
BODY_SILENCE_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 75.0
SEND_STALL_SECONDS = 60.0  # a reader that takes nothing for that long is gone
LINGER_SECONDS = 2.0  # after an early refusal, so that the client reads it before the reset
TICK_SECONDS = 0.5  # how exactly all of these are kept
LINGER_BODY = 64 * 1024  # a refused body up to this size is read to its end and the connection kept
WRITE_BUFFER = 16 * 1024
# Bytes that may come without completing a header section or a part of a body: the parser would collect one endless
# header. More than one read of the event loop's (256 KiB).
MAX_UNPARSED = 512 * 1024

_STATUS_LINE = {int(s): b"HTTP/1.1 %d %s\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}
_UNKNOWN_LENGTH = 1 << 64  # of a chunked body; no Content-Length that the parser lets through is as large


class Application(Protocol):
    """What the edge serves."""

    def check(self, request: Request) -> None:
        """Called when the headers are in; raises GatewayError to refuse before the body arrives."""

    async def serve(self, exchange: Exchange) -> None:
        """Answer one whole request."""

    def render(self, request: Request, error: GatewayError) -> tuple[int, HeaderList, bytes]:
        """An error as status, headers and body."""


class Connection(asyncio.Protocol):
    """One client connection: requests in order, one at a time."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.stalled: asyncio.Future[None] | None = None
        self._loop = server.loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._unparsed = 0
        self._in_head = True
        self._pending: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._peer = ""
        self.deadline = 0.0
        self.on_deadline: Callable[[], None] = self.close

    # --- transport callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self.server.connections.add(self)
        self._expect(HEADER_SECONDS, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self._closing = True
        self.deadline = 0.0
        self._release_writer()
        if self._task is not None:
            self._task.cancel(CLIENT_GONE)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_as_if_not_upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__)
        except httptools.HttpParserError:
            self._refuse(InvalidRequest("This is not a well-formed HTTP/1.1 request."))
        else:
            if self._request is not None:
                self._unparsed += len(data)
                if self._unparsed > MAX_UNPARSED:
                    self._refuse(_headers_too_large())

    def _read_as_if_not_upgraded(self, rest: bytes) -> None:
        """Java's and curl's clients offer HTTP/2 with every call; the parser stops at such a head, before the body."""
        request = self._request
        assert request is not None
        if request.method == b"CONNECT":
            self._refuse(InvalidRequest("This is no proxy for CONNECT."))
            return
        closing = b"close" in (request.header(b"connection") or b"").lower()
        headers = [header for header in request.headers if header[0] not in (b"upgrade", b"connection")]
        headers.append((b"connection", b"close" if closing else b"keep-alive"))
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method, request.target, lines, rest))

    def eof_received(self) -> None:
        """A client that closes its side has hung up: let the transport close, which cancels the call."""

    def pause_writing(self) -> None:
        if self.stalled is None:
            self.stalled = self._loop.create_future()
            self._expect_taken()

    def resume_writing(self) -> None:
        self.deadline = 0.0  # the call goes on, or `_run` waited for this before it set the next one
        self._release_writer()

    def _release_writer(self) -> None:
        if self.stalled is not None and not self.stalled.done():
            self.stalled.set_result(None)
        self.stalled = None

    # --- parser callbacks ---

    def on_message_begin(self) -> None:
        self._request = Request(self._peer)
        self._parts = []
        self._size = self._unparsed = 0
        self._in_head = True
        if self._task is None:
            self._expect(HEADER_SECONDS, self._late)

    def on_url(self, url: bytes) -> None:
        assert self._request is not None
        self._request.target += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._request is not None
        if self._in_head:  # else a trailer, which nobody here may take for a header
            self._request.headers.append((name.lower(), value))
            self._grow(len(name) + len(value))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEADER_BYTES:
            raise _headers_too_large()

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        request.method = self._parser.get_method()
        request.path = request.target.partition(b"?")[0]
        if self._parser.should_upgrade():
            return
        request.keep_alive = self._parser.should_keep_alive()
        request.minor = 1 if self._parser.get_http_version() == "1.1" else 0
        self._size = self._unparsed = 0
        self._in_head = False
        body_expected = expect_continue = False
        hosts = 0
        for name, value in request.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                request.length = int(value)
                body_expected = request.length > 0
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":  # the parser would take what is within for the body
                    raise InvalidRequest("The only transfer coding understood here is 'chunked'.")
                body_expected = True
                request.length = _UNKNOWN_LENGTH
            elif name == b"expect":
                expect_continue = value.lower() == b"100-continue"
        if hosts > 1:  # RFC 9112 section 3.2: the proxies in front may have judged by another one than we
            raise InvalidRequest("The request carries more than one Host header.")
        try:
            self.server.app.check(request)
            if request.length > self.server.max_body and request.length != _UNKNOWN_LENGTH:
                raise self._too_large()
        except GatewayError as error:
            if body_expected and (expect_continue or request.length > LINGER_BODY):
                raise
            request.refusal = error
        if body_expected:
            # Behind an answer that is still going out it would land in the middle of that; a client may not rely on it.
            if expect_continue and request.refusal is None and self._task is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._task is None:
                self._expect(BODY_SILENCE_SECONDS, self._late)

    def on_body(self, data: bytes) -> None:
        self._unparsed = 0
        self._size += len(data)
        if self._size > self.server.max_body:
            raise self._too_large()
        self._parts.append(data)
        if self._task is None:
            self._expect(BODY_SILENCE_SECONDS, self._late)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body exceeds {self.server.max_body:,} bytes.")

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        if self._parser.should_upgrade():
            return
        self._request = None
        request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self._task is None:
            self._begin(request)
        else:
            # Pipelined: wait, and read no further, since a flood of requests must not pile up here.
            self._pending.append(request)
            self._transport.pause_reading()

    # --- one request after the other ---

    def _begin(self, request: Request) -> None:
        self.deadline = 0.0
        self._task = self._loop.create_task(self._run(request))

    async def _run(self, request: Request) -> None:
        exchange = Exchange(self, request)
        try:
            try:
                if request.refusal is None:
                    await self.server.app.serve(exchange)
                else:
                    self._answer_error(exchange, request.refusal)
                    request.refusal = None  # its traceback leads back to the request: no circle for the collector
            except GatewayError as error:
                self._answer_error(exchange, error)
            if self.stalled is not None:
                # Who asks and asks without taking the answers gets none more; they would pile up here.
                await self.stalled
        except asyncio.CancelledError:
            # Nobody awaits this task: the hang-up ends here.
            self._closing = True
        except Exception:  # the last line of defence: one broken call must not take the others along
            log.exception("unexpected error", extra={"path": request.path.decode("latin-1")})
            self._answer_error(exchange, InternalError())
        self._task = None
        if self._closing or not exchange.finished or not request.keep_alive or self.server.draining:
            self.close()
        elif self._pending:
            following = self._pending.popleft()
            if not self._pending:
                self._transport.resume_reading()
            self._begin(following)
        elif self._request is None:
            self._expect(KEEP_ALIVE_SECONDS, self.close)
        else:
            self._expect(BODY_SILENCE_SECONDS, self._late)

    def _answer_error(self, exchange: Exchange, error: GatewayError) -> None:
        if not exchange.started and not self._transport.is_closing():
            exchange.respond(*self.server.app.render(exchange.request, error))

    def _refuse(self, error: BaseException | None) -> None:
        """Answer what could not be read to its end, let the client take the answer, and close."""
        if not isinstance(error, GatewayError):
            log.error("error while parsing a request", exc_info=error)
            error = InternalError()
        self._closing = True
        if self._task is not None:
            return  # the answer under way is finished first; its end closes the line
        request = self._request or Request(self._peer)
        request.keep_alive = False
        Exchange(self, request).respond(*self.server.app.render(request, error))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._expect(LINGER_SECONDS, self._transport.abort)

    def _late(self) -> None:
        self._refuse(RequestTimeout("The request did not arrive in time."))

    # --- writing ---

    def head(self, request: Request, status: int, headers: HeaderList, length: int | None) -> bytes:
        """Status line and header section; `length` None means chunked (or, for HTTP/1.0, until the end)."""
        parts = [_STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status, self.server.date]
        parts += [b"%b: %b\r\n" % header for header in headers]
        if length is not None:
            if status not in NO_BODY:
                parts.append(b"content-length: %d\r\n" % length)
        elif request.minor == 1:
            if status not in NO_BODY:
                parts.append(b"transfer-encoding: chunked\r\n")
        else:
            request.keep_alive = False
        if not request.keep_alive or self.server.draining or self._closing:
            request.keep_alive = False
            parts.append(b"connection: close\r\n")
        elif request.minor == 0:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """Hand `data` to the transport."""
        self._transport.write(data)

    # --- ends ---

    def _expect(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self.deadline = self._loop.time() + seconds
        self.on_deadline = otherwise

    def _expect_taken(self) -> None:
        """Abort unless the client takes some of what is held for it; a whole large answer may well take its time."""
        held = self._transport.get_write_buffer_size()

        def check() -> None:
            if self._transport.get_write_buffer_size() < held:
                self._expect_taken()
            else:
                self._transport.abort()

        if held:
            self._expect(SEND_STALL_SECONDS, check)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def close(self) -> None:
        """Close after what was written has gone out."""
        self._closing = True
        self.deadline = 0.0
        self._transport.close()
        self._expect_taken()

    def cut(self) -> None:
        """Cancel the call under way because this process stops."""
        if self._task is not None:
            self._task.cancel(SHUTDOWN)


def _headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"The header section exceeds {MAX_HEADER_BYTES // 1024} KiB.")


class Server:
    """Listens, keeps the connections, their deadlines and the drain."""

    def __init__(self, app: Application, *, max_body: int) -> None:
        self.app = app
        self.max_body = max_body
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Bind and serve; returns the port (useful with port 0). OSError if it is taken."""
        self._server = await self.loop.create_server(lambda: Connection(self), host, port, backlog=4096)
        self._tick()
        bound: int = cast(Any, self._server).sockets[0].getsockname()[1]  # a list in uvloop, a tuple in the stubs
        return bound

    def _tick(self) -> None:
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)
        now = self.loop.time()
        for connection in [c for c in self.connections if 0.0 < c.deadline <= now]:
            connection.deadline = 0.0
            connection.on_deadline()

    async def drain(self, seconds: float, *, grace: float = 5.0) -> int:
        """Stop listening, let calls finish for `seconds`, cut the rest and give them `grace` to settle.

        Returns how many had to be cut.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in [c for c in self.connections if not c.busy]:
            connection.close()
        await self._until_idle(seconds)
        left = [c for c in self.connections if c.busy]
        for connection in left:
            connection.cut()
        await self._until_idle(grace)
        for connection in list(self.connections):
            connection.close()
        if self._ticker is not None:
            self._ticker.cancel()
        return len(left)

    async def _until_idle(self, seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while any(c.busy for c in self.connections) and self.loop.time() < deadline:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.02)
