"""A stub of an OpenAI-shaped provider: the oracle of the tests and the far end of the benchmark.

    with StubProvider() as stub:
        stub.script(Behaviour(status=429, headers=(("retry-after", "7"),)))
        ...                                  # calls to stub.url + "/chat/completions"
        assert stub.calls[0].header("authorization") == "Bearer sk-stub"

What a request gets is the next scripted behaviour, else what its model's name says (`behaviour_of_model`), else a
healthy answer. `python -m tests.stub.provider --port 0` runs one as a process of its own and prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
import uvloop

from tests.stub.behaviour import Behaviour
from tests.stub.connection import StubConnection

__all__ = ["Behaviour", "Call", "StubProvider", "closed_port"]


@dataclass(slots=True, eq=False)
class Call:
    """One request as it came and what became of it. Times are of `time.monotonic()`, in seconds."""

    number: int
    method: str
    path: str
    headers: list[tuple[str, str]]  # names in lower case, in the order they came
    body: bytes
    came_at: float
    connection: int  # which connection of the stub, counted from 1
    status: int | None = None  # None: no head was sent
    sent: int = 0  # bytes given to the socket, head and framing included
    pieces_sent: int = 0  # of the body
    finished_at: float | None = None  # the last byte of a whole answer was given to the socket
    closed_at: float | None = None  # the connection ended, by whomever
    peer_closed: bool = False  # ... by the peer, before the answer was whole
    usage: dict[str, Any] | None = None  # as reported in the answer, where there is one

    def header(self, name: str) -> str | None:
        """The first header of that name, None without one."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)

    @property
    def whole(self) -> bool:
        """Whether the whole answer was given to the socket."""
        return self.finished_at is not None


@dataclass(slots=True)
class _Log:
    """What the threads share: written by the stub's thread, read by the test's."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    calls: list[Call] = field(default_factory=list)
    scripts: deque[Behaviour] = field(default_factory=deque)


class StubProvider:
    """The server, in a thread of its own; a context manager.

    `send_buffer`: SO_SNDBUF of its connections, bytes; small ones show back-pressure early. `keep_calls=False` keeps no
    calls, so that a benchmark does not fill the memory. `log_file`: every call as a JSON line when it ends.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        send_buffer: int | None = None,
        keep_calls: bool = True,
        log_file: Path | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.send_buffer = send_buffer
        self.served = 0
        self.accepted = 0
        self.connections: set[StubConnection] = set()
        self.holds: deque[asyncio.Future[None]] = deque()  # answers that wait for release()
        self._permits = 0
        self.keep_calls = keep_calls
        self._log = _Log()
        self._file = log_file.open("ab", buffering=0) if log_file else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen, in a thread; returns when connections are accepted."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run_thread, args=(ready,), name="stub-provider", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise TimeoutError("the stub provider did not start")
        return self

    def close(self) -> None:
        """Cut all connections and stop the thread."""
        if self._thread is None or self._loop is None:
            return
        self._call(self._stop_listening)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._thread = None
        if self._file:
            self._file.close()

    def refuse(self) -> None:
        """Close the port and all connections: new ones are refused until `accept()`."""
        self._call(self._stop_listening)

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._call(self._listen)

    def _call(self, function: Callable[[], Any]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(function(), self._loop).result(10)

    def _run_thread(self, ready: threading.Event) -> None:
        self._loop = uvloop.new_event_loop()
        self._loop.run_until_complete(self._listen())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(_cancel_all())
        self._loop.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: StubConnection(self), self.host, self.port, backlog=4096, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.drop()
        await asyncio.sleep(0)

    async def serve(self) -> None:
        """Run in the current event loop until cancelled, for a process of its own."""
        await self._listen()
        print(self.port, flush=True)
        assert self._server is not None
        await self._server.serve_forever()

    # --- what tests ask and tell ------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL, as a provider's setting takes it."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def calls(self) -> list[Call]:
        """All requests so far, in the order in which they were read whole."""
        with self._log.changed:
            return list(self._log.calls)

    def script(self, *behaviours: Behaviour) -> None:
        """Play these, one a request, before models' names are looked at again."""
        with self._log.changed:
            self._log.scripts.extend(behaviours)

    def clear(self) -> None:
        """Forget calls and scripts."""
        with self._log.changed:
            self._log.calls.clear()
            self._log.scripts.clear()

    def release(self, count: int = 1) -> None:
        """Let `count` held answers go on, in the order in which they were held; also those that will be held yet."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._release, count)

    def wait_for(self, condition: Callable[[list[Call]], bool], timeout: float = 5.0) -> list[Call]:
        """Wait until the calls satisfy the condition, and return them; TimeoutError after `timeout` seconds."""
        with self._log.changed:
            if not self._log.changed.wait_for(lambda: condition(self._log.calls), timeout):
                raise TimeoutError(f"after {timeout} s the stub had seen {self._log.calls}")
            return list(self._log.calls)

    def wait_calls(self, count: int, timeout: float = 5.0) -> list[Call]:
        """Wait until that many requests have been read whole."""
        return self.wait_for(lambda calls: len(calls) >= count, timeout)

    def wait_closed(self, call: Call, timeout: float = 5.0) -> float:
        """Wait until the connection of that call has ended; returns when it did."""
        self.wait_for(lambda calls: call.closed_at is not None, timeout)
        assert call.closed_at is not None
        return call.closed_at

    # --- what connections tell --------------------------------------------------------------------------------------

    def next_script(self) -> Behaviour | None:
        """Take the next scripted behaviour."""
        if not self._log.scripts:
            return None
        with self._log.changed:
            return self._log.scripts.popleft()

    def begin(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, connection: int) -> Call:
        """A request has been read whole."""
        self.served += 1
        call = Call(self.served, method, path, headers, body, time.monotonic(), connection)
        if self.keep_calls:
            with self._log.changed:
                self._log.calls.append(call)
                self._log.changed.notify_all()
        return call

    def changed(self) -> None:
        """Something about a call changed that a test may wait for."""
        if self.keep_calls:
            with self._log.changed:
                self._log.changed.notify_all()

    def ended(self, call: Call) -> None:
        """The call's answer is whole, or will never be."""
        self.changed()
        if self._file:
            line = {
                "number": call.number,
                "path": call.path,
                "model": _model_of(call.body),
                "request_id": call.header("x-request-id"),
                "status": call.status,
                "whole": call.whole,
                "sent": call.sent,
                "usage": call.usage,
            }
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def held(self) -> None:
        """Wait for `release()`."""
        if self._permits:
            self._permits -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.holds.append(waiter)
        await waiter

    def _release(self, count: int) -> None:
        for _ in range(count):
            while self.holds and self.holds[0].done():  # its caller hung up
                self.holds.popleft()
            if self.holds:
                self.holds.popleft().set_result(None)
            else:
                self._permits += 1


def _model_of(body: bytes) -> str | None:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return request.get("model") if isinstance(request, dict) else None


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def closed_port() -> int:
    """A port of loopback on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def main() -> None:
    """Run a stub as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.stub.provider", description="A stub OpenAI-shaped provider.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--log", type=Path, default=None, help="write every call as a JSON line into this file")
    arguments = parser.parse_args()
    stub = StubProvider(arguments.port, keep_calls=False, log_file=arguments.log)
    try:
        uvloop.run(stub.serve())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
