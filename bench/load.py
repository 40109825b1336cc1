"""The load generator: raw HTTP/1.1 over kept connections, in one event loop, with as little work a call as can be.

It believes its servers: answers are not parsed beyond what tells their end. Two ways to drive: *closed* (each
connection sends its next request when the last is answered: the most that goes through) and *at a rate* (requests are
due at fixed moments and timed from those, so that a server that stalls cannot hide it: no coordinated omission).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson

END_OF_STREAM = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Result:
    """What came of one run. Times in seconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    first_bytes: array[float] = field(default_factory=lambda: array("d"))
    broken: int = 0  # connections that ended, or streams without [DONE]

    @property
    def done(self) -> int:
        """Answers that came whole, whatever their status."""
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Whole answers a second."""
        return self.done / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """A latency in seconds, by rank."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else float("nan")


def request_bytes(path: str, document: object | None, key: str = "", cookie: str = "") -> bytes:
    """A whole request, ready to be written: a POST of JSON, or a GET without a document."""
    body = b"" if document is None else orjson.dumps(document)
    lines = [f"{'GET' if document is None else 'POST'} {path} HTTP/1.1", "host: 127.0.0.1", "user-agent: bench"]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if cookie:
        lines.append(f"cookie: sessionid={cookie}")
    if document is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One kept connection. `on_answer(connection, latency)` is called after each whole answer."""

    def __init__(self, result: Result, on_answer: Callable[[Connection], None]) -> None:
        self.result = result
        self.on_answer = on_answer
        self.transport: asyncio.Transport
        self.began = 0.0
        self.buffer = b""
        self.status = 0
        self.missing = 0  # bytes of a body with a length
        self.chunked = False
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclasses of it

    def send(self, request: bytes, due: float | None = None) -> None:
        """Send; the clock runs from `due`, else from now."""
        self.busy = True
        self.began = time.perf_counter() if due is None else due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.buffer[:end].lower(), self.buffer[end + 4 :]
            self.status = int(head[9:12])
            at = head.find(b"\r\ncontent-length: ")
            self.chunked = at < 0
            if self.chunked:
                self.result.first_bytes.append(time.perf_counter() - self.began)
                self.buffer = b"\r\n"
            else:
                stop = head.find(b"\r", at + 18)
                self.missing = int(head[at + 18 :] if stop < 0 else head[at + 18 : stop])
                self.buffer = b""
        if self.chunked:
            # The tail is enough: the end of the chunks, and [DONE] shortly before it.
            self.buffer = (self.buffer + data)[-64:] if len(data) < 64 else data[-64:]
            if self.buffer.endswith(END_OF_STREAM):
                if b"data: [DONE]" not in self.buffer and self.status == 200:
                    self.result.broken += 1
                self._whole()
        else:
            self.missing -= len(data)
            if self.missing <= 0:
                self._whole()

    def _whole(self) -> None:
        self.result.latencies.append(time.perf_counter() - self.began)
        self.result.statuses[self.status] += 1
        self.status, self.buffer, self.busy = 0, b"", False
        self.on_answer(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.result.broken += 1
            self.busy = False


async def _connect(port: int, count: int, result: Result, on_answer: Callable[[Connection], None]) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: Connection(result, on_answer), "127.0.0.1", port)
        made.append(connection)
    return made


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.busy = False
        connection.transport.abort()


async def closed(
    port: int, request: bytes, *, connections: int, seconds: float | None = None, calls: int | None = None
) -> Result:
    """Keep `connections` busy for that long, or until that many calls are answered (10 minutes at most)."""
    result = Result()
    over = asyncio.get_running_loop().create_future()
    left = calls if calls is not None else 1 << 62
    end = time.perf_counter() + (seconds if seconds is not None else 600)

    def next_one(connection: Connection) -> None:
        nonlocal left
        left -= 1
        if left >= 0 and time.perf_counter() < end:
            connection.send(request)
        elif not any(other.busy for other in pool) and not over.done():  # every call is let finish
            over.set_result(None)

    pool = await _connect(port, connections, result, next_one)
    began = time.perf_counter()
    for connection in pool:
        next_one(connection)
    try:
        await asyncio.wait_for(over, 660)
    finally:
        result.seconds = time.perf_counter() - began
        _close(pool)
    return result


@contextmanager
def _beats(rate: float) -> Iterator[tuple[int, threading.Event]]:
    """An eventfd that a thread writes `rate` times a second: the event loop's own timers tick in milliseconds."""
    fd, stop = os.eventfd(0, os.EFD_NONBLOCK), threading.Event()
    began = time.perf_counter()

    def beat() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            os.eventfd_write(fd, 1)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield fd, stop
    finally:
        stop.set()
        thread.join()
        os.close(fd)


async def at_rate(port: int, request: bytes, *, rate: float, connections: int, seconds: float) -> Result:
    """Send `rate` requests a second for that long over at most so many connections; timed from when each was due."""
    result = Result()
    loop = asyncio.get_running_loop()
    free: deque[Connection] = deque()
    late: deque[float] = deque()
    sent = 0
    total = int(rate * seconds)

    def freed(connection: Connection) -> None:
        if late:
            connection.send(request, late.popleft())
        else:
            free.append(connection)

    pool = await _connect(port, connections, result, freed)
    free.extend(pool)
    began = time.perf_counter()
    over = loop.create_future()

    def due() -> None:
        nonlocal sent
        os.eventfd_read(fd)
        now = time.perf_counter()
        while sent < total and (moment := began + sent / rate) <= now:
            sent += 1
            if free:
                free.popleft().send(request, moment)
            else:
                late.append(moment)
        if sent >= total and not over.done():
            over.set_result(None)

    with _beats(rate) as (fd, _):
        loop.add_reader(fd, due)
        try:
            await asyncio.wait_for(over, seconds * 3 + 10)
            deadline = time.perf_counter() + 5
            while (late or any(c.busy for c in pool)) and time.perf_counter() < deadline:
                await asyncio.sleep(0.01)
        finally:
            loop.remove_reader(fd)
            result.seconds = time.perf_counter() - began
            result.broken += len(late)
            _close(pool)
    return result


async def hang_up(port: int, request: bytes) -> None:
    """Make a call that streams slowly, and leave after half a second."""
    await open_streams(port, request, count=1, seconds=0.5)


async def open_streams(
    port: int, request: bytes, *, count: int, seconds: float, when_open: Callable[[], None] = lambda: None
) -> Result:
    """Open that many streams at once, one connection each, and read all to their ends within `seconds`.

    `when_open` is called when every stream has given its first byte.
    """
    result = Result()
    pool: list[Connection] = []
    began = time.perf_counter()
    told = False
    loop = asyncio.get_running_loop()
    try:
        for start in range(0, count, 50):  # a wave at a time, so that the backlog of accept() is not what is measured
            wave = await asyncio.gather(
                *(
                    loop.create_connection(lambda: Connection(result, lambda _: None), "127.0.0.1", port)
                    for _ in range(min(50, count - start))
                )
            )
            for _, connection in wave:
                pool.append(connection)
                connection.send(request)
        while result.done + result.broken < count and time.perf_counter() - began < seconds:
            await asyncio.sleep(0.02)
            if not told and len(result.first_bytes) >= count:
                told = True
                when_open()
        result.broken += sum(connection.busy for connection in pool)
    finally:
        result.seconds = time.perf_counter() - began
        _close(pool)
    return result
