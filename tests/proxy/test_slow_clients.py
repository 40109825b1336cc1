"""Time limits of the edge, with the numbers made small: a server in this process with a tiny application."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from proxy import server as edge
from proxy.errors import GatewayError, InvalidKey
from proxy.exchange import Exchange, HeaderList, Request
from proxy.server import Server

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Tiny:
    """Answers with `answer`, notes what was cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.served = 0

    def check(self, request: Request) -> None:
        if request.path == b"/refused":
            raise InvalidKey("No.")

    async def serve(self, exchange: Exchange) -> None:
        self.served += 1
        if exchange.request.path == b"/big":
            exchange.respond(200, [], b"x" * 20_000_000)
        elif exchange.request.path == b"/broken":
            raise ZeroDivisionError
        elif exchange.request.path == b"/broken-late":
            exchange.start(200, [])
            exchange.send(b"some")
            raise ZeroDivisionError
        elif exchange.request.path == b"/304":
            exchange.start(304, [])
            exchange.finish()
        elif exchange.request.path == b"/wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as why:
                self.cancelled.append(str(why))
                raise
        else:
            exchange.respond(200, [], exchange.request.body)

    def render(self, request: Request, error: GatewayError) -> tuple[int, HeaderList, bytes]:
        return error.status, [], (error.code or "").encode()


@asynccontextmanager
async def serving(app: Tiny) -> AsyncIterator[Callable[[], socket.socket]]:
    server = Server(app, max_body=1_000_000)
    port = await server.listen("127.0.0.1", 0)

    def connect() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        return sock

    connect.server = server  # type: ignore[attr-defined]
    yield connect
    await server.drain(0, grace=1)


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADER_SECONDS", "BODY_SILENCE_SECONDS", "KEEP_ALIVE_SECONDS", "SEND_STALL_SECONDS"):
        monkeypatch.setattr(edge, name, 0.3)
    monkeypatch.setattr(edge, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(edge, "TICK_SECONDS", 0.02)


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock: socket.socket, size: int = 65536) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, size)


async def rest(sock: socket.socket) -> bytes:
    """Everything until the connection ends, however it ends."""
    got = b""
    try:
        while piece := await receive(sock, 1 << 20):
            got += piece
    except ConnectionResetError:
        pass
    return got


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(Tiny()) as connect:
        assert await rest(connect()) == b""


@pytest.mark.parametrize("start", [b"G", b"POST / HTTP/1.1\r\nhost: x\r\nx-a: b"])
async def test_a_head_that_does_not_end_is_408(start: bytes) -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, start)
        assert b"408 Request Timeout" in await rest(sock)


async def test_a_head_that_drips_is_408_all_the_same() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"POST / HTTP/1.1\r\n")
        began = asyncio.get_running_loop().time()
        dripping = asyncio.create_task(drip(sock, b"x-a: b\r\n"))
        assert b"408" in await rest(sock)
        assert asyncio.get_running_loop().time() - began < 2
        dripping.cancel()


async def drip(sock: socket.socket, data: bytes) -> None:
    while True:
        await send(sock, data)
        await asyncio.sleep(0.05)


async def test_a_body_that_stops_is_408() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        assert b"408" in await rest(sock)


async def test_a_body_that_comes_slowly_but_comes_is_served() -> None:
    app = Tiny()
    async with serving(app) as connect:
        sock = connect()
        await send(sock, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.1)
            await send(sock, b"x")
        assert (await receive(sock)).endswith(b"xxxxxxxx")


async def test_a_kept_connection_that_is_not_used_is_closed() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, GET)
        assert b"200 OK" in await receive(sock)
        assert await rest(sock) == b""


async def test_a_kept_connection_is_closed_after_a_large_answer_too() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        assert len(await rest(sock)) > 20_000_000  # all of it, and then the end


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        server: Server = connect.server  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
        assert len(await rest(sock)) < 20_000_000


async def test_a_reader_that_takes_a_little_at_a_time_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "SEND_STALL_SECONDS", 1.0)
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        size = 0
        # Slow against the limit, fast against the kernel, which tells of free space by the megabyte.
        for _ in range(16):
            want = size + 1_000_000
            while size < want:
                size += len(await receive(sock))
            await asyncio.sleep(0.1)
        assert size + len(await rest(sock)) > 20_000_000


async def test_who_pipelines_and_reads_nothing_is_served_one_answer() -> None:
    app = Tiny()
    async with serving(app) as connect:
        sock = connect()
        await send(sock, b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        await asyncio.sleep(0.15)
        assert app.served == 1


async def test_a_client_that_hangs_up_cancels_its_call() -> None:
    app = Tiny()
    async with serving(app) as connect:
        sock = connect()
        await send(sock, b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        sock.close()
        async with asyncio.timeout(1):
            while not app.cancelled:
                await asyncio.sleep(0.005)
        assert app.cancelled == [edge.CLIENT_GONE]


async def test_a_stop_cancels_what_is_left_and_says_why() -> None:
    app = Tiny()
    async with serving(app) as connect:
        sock = connect()
        await send(sock, b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        server: Server = connect.server  # type: ignore[attr-defined]
        assert await server.drain(0.05, grace=1) == 1
        assert app.cancelled == [edge.SHUTDOWN]
        assert await rest(sock) == b""


async def test_a_fault_of_ours_is_500_and_the_connection_goes_on() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"500 Internal" in await receive(sock)
        await send(sock, GET)
        assert b"200 OK" in await receive(sock)


async def test_a_fault_in_the_middle_of_an_answer_cuts_it() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /broken-late HTTP/1.1\r\nhost: x\r\n\r\n")
        got = await rest(sock)
        assert b"some" in got
        assert not got.endswith(b"0\r\n\r\n")


async def test_304_has_no_body_and_no_framing() -> None:
    async with serving(Tiny()) as connect:
        sock = connect()
        await send(sock, b"GET /304 HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
        got = await receive(sock)
        if b"200 OK" not in got:
            got += await receive(sock)
        first, _, second = got.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 304")
        assert b"transfer-encoding" not in first
        assert second.startswith(b"HTTP/1.1 200")


async def test_a_refused_request_leaves_the_connection_usable() -> None:
    app = Tiny()
    async with serving(app) as connect:
        sock = connect()
        await send(sock, b"POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
        assert b"401" in await receive(sock)
        await send(sock, GET)
        assert b"200 OK" in await receive(sock)
        assert app.served == 1
