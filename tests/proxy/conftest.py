"""One gateway with a stub provider for all tests here, since a process costs seconds."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.installation import Installation, until
from tests.stub.provider import StubProvider, closed_port

CREDENTIAL = "sk-provider-canary-0123456789"
RATES = {"input": 150_000, "output": 600_000}
MESSAGES = [{"role": "user", "content": "one two three"}]


@dataclass(frozen=True)
class Raw:
    """What came back on a raw socket: one answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> dict[str, Any]:
        """The error object, after checking OpenAI's shape and the request id."""
        document = json.loads(self.body)
        assert set(document) == {"error"}
        error = document["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["x-request-id"]
        assert self.headers["content-type"] == "application/json"
        return dict(error)


class House:
    """A running gateway, its stub provider, and one client's key."""

    def __init__(self, stub: StubProvider, installation: Installation, key: str) -> None:
        self.stub = stub
        self.installation = installation
        self.key = key
        self.http = httpx.Client(base_url=installation.url, timeout=20, trust_env=False)

    def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        """Send a body (bytes as they are) and return the whole answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | names
        return self.http.post(path, content=content, headers=sent)

    def chat(self, model: str = "plain", **members: Any) -> httpx.Response:
        """A chat call."""
        return self.post({"model": model, "messages": MESSAGES, **members})

    def connect(self) -> socket.socket:
        """A raw connection to the gateway."""
        return socket.create_connection(("127.0.0.1", self.installation.port), 20)

    def head(self, *lines: str, path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
        """The head of a raw request with the key, CRLF and all, up to the empty line."""
        whole = (f"{method} {path} HTTP/1.1", "host: gateway", f"authorization: Bearer {self.key}", *lines)
        return "".join(f"{line}\r\n" for line in whole).encode("latin-1") + b"\r\n"

    def raw(self, data: bytes) -> Raw:
        """Send bytes on a connection of their own and read one answer."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_answer(sock)

    def record(self, answer: httpx.Response | Raw) -> dict[str, Any]:
        """The usage record of a call, by the request id of its answer."""
        request_id = answer.headers["x-request-id"]
        return dict(until(lambda: self._find(request_id), 10, f"record of {request_id}"))

    def _find(self, request_id: str) -> dict[str, Any] | None:
        found = self.installation.sql(
            "SELECT * FROM usage_usagerecord WHERE replace(request_id, '-', '') = ?", request_id
        )
        return found[0] if found else None


def read_answer(sock: socket.socket, held: bytearray | None = None) -> Raw:
    """Read one answer from a raw connection; `held` keeps what came after it for the next call."""
    buffer = bytearray() if held is None else held
    while b"\r\n\r\n" not in buffer:
        _more(sock, buffer)
    head = bytes(buffer).partition(b"\r\n\r\n")[0]
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    status = int(lines[0].split(" ")[1])
    del buffer[: len(head) + 4]
    if status in (100, 204, 304):
        return Raw(status, headers, b"")
    if "content-length" in headers:
        length = int(headers["content-length"])
        while len(buffer) < length:
            _more(sock, buffer)
        body = bytes(buffer[:length])
        del buffer[:length]
        return Raw(status, headers, body)
    body = b""
    while headers.get("transfer-encoding") == "chunked":
        while b"\r\n" not in buffer:
            _more(sock, buffer)
        size_line, _, _ = bytes(buffer).partition(b"\r\n")
        size = int(size_line, 16)
        while len(buffer) < len(size_line) + 2 + size + 2:
            _more(sock, buffer)
        body += bytes(buffer[len(size_line) + 2 : len(size_line) + 2 + size])
        del buffer[: len(size_line) + 2 + size + 2]
        if size == 0:
            return Raw(status, headers, body)
    while piece := sock.recv(65536):
        buffer += piece
    return Raw(status, headers, bytes(buffer))


def _more(sock: socket.socket, buffer: bytearray) -> None:
    piece = sock.recv(65536)
    if not piece:
        raise EOFError(f"closed after {bytes(buffer)!r}")
    buffer += piece


def events(body: bytes) -> list[Any]:
    """The data of every event of a stream, parsed; "[DONE]" as it is."""
    datas = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


@pytest.fixture(scope="session")
def _house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with StubProvider() as stub, Installation(tmp_path_factory.mktemp("proxy") / "data") as installation:
        installation.provider(
            stub.url,
            {"plain": RATES, "alias": RATES, "embedder": RATES},
            credential=CREDENTIAL,
            upstream_names={"alias": 'the-provider\'s "own" näme'},
        )
        installation.provider(
            stub.url,
            {"hasty": RATES},
            name="hasty",
            credential=CREDENTIAL,
            first_byte_timeout=1,
            idle_timeout=1,
            connect_timeout=1,
        )
        installation.provider(f"http://127.0.0.1:{closed_port()}/v1", {"refused": RATES}, name="refused")
        installation.provider("http://no-such-host.invalid/v1", {"nowhere": RATES}, name="nowhere", connect_timeout=2)
        installation.client("Acme")
        key = installation.key("Acme")
        installation.start()
        yield House(stub, installation, key)


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    """The gateway; scripts and calls of the stub are the test's own."""
    _house.stub.clear()
    yield _house
    _house.stub.clear()
    assert "unexpected error" not in _house.installation.log()
    assert "error while parsing" not in _house.installation.log()
    assert "Traceback" not in _house.installation.log()
