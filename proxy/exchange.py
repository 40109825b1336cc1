"""One request, and the means to answer it: what the edge hands to the application."""

import asyncio
import re
from typing import NamedTuple, Protocol

from proxy.errors import GatewayError

HeaderList = list[tuple[bytes, bytes]]

# Why a handler is cancelled: the argument of its CancelledError.
CLIENT_GONE = "client_gone"
SHUTDOWN = "shutdown"

NO_BODY = frozenset((204, 304))  # RFC 9110, section 8.6


class Request:
    """One request, whole: method, target as sent (bytes), headers in lower case, body, peer address."""

    __slots__ = (
        "body",
        "headers",
        "keep_alive",
        "length",
        "method",
        "minor",
        "path",
        "peer",
        "refusal",
        "state",
        "target",
    )

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.method = b""
        self.target = b""
        self.path = b""
        """The target without its query; set once the head is whole."""
        self.headers: HeaderList = []
        self.body = b""
        self.length = 0
        self.minor = 1
        self.keep_alive = True
        self.refusal: GatewayError | None = None
        self.state: object = None

    def header(self, name: bytes) -> bytes | None:
        """First value of the header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Origin(NamedTuple):
    """Where a call comes from, for the record of its key: short, printable ASCII."""

    address: str
    user_agent: str


NOWHERE = Origin("", "")
_UNPRINTABLE = re.compile("[^ -~]")


def origin(address: str, request: Request) -> Origin:
    """The origin of a request that comes from `address`."""
    agent = (request.header(b"user-agent") or b"")[:200].decode("latin-1")
    return Origin(_printable(address[:45]), _printable(agent))


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("?", text)


class Line(Protocol):
    """The connection that an answer goes out on. `stalled` is set while the client takes nothing."""

    stalled: asyncio.Future[None] | None

    def head(self, request: Request, status: int, headers: HeaderList, length: int | None) -> bytes:
        """Status line and header section."""

    def write(self, data: bytes) -> None:
        """Hand `data` to the transport."""


class Exchange:
    """One request and the means to answer it, once."""

    __slots__ = ("_chunked", "_connection", "_head_only", "finished", "request", "started")

    def __init__(self, connection: Line, request: Request) -> None:
        self._connection = connection
        self.request = request
        self._head_only = request.method == b"HEAD"
        self._chunked = False
        self.started = False
        self.finished = False

    def respond(self, status: int, headers: HeaderList, body: bytes) -> None:
        """Send a whole answer in one write."""
        self.started = self.finished = True
        head = self._connection.head(self.request, status, headers, len(body))
        self._connection.write(head if self._head_only else head + body)

    def start(self, status: int, headers: HeaderList) -> None:
        """Send the head of an answer whose length is not known yet."""
        self.started = True
        self._chunked = self.request.minor == 1 and not self._head_only and status not in NO_BODY
        self._connection.write(self._connection.head(self.request, status, headers, None))

    def send(self, data: bytes) -> None:
        """Send a part of the body now; await `drain` before reading more to send."""
        if data and not self._head_only:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        if self._connection.stalled is not None:
            await self._connection.stalled

    def finish(self, last: bytes = b"") -> None:
        """Send the last part and end the answer, in one write."""
        self.finished = True
        if self._chunked:
            self._connection.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n")
        elif last and not self._head_only:
            self._connection.write(last)
