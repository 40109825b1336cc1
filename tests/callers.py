"""Accounts of an installation and callers that know whether an answer reached them whole."""

import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.installation import Installation, until

_numbers = itertools.count(1)


class NotWhole(ConnectionError):
    """The connection ended before the last byte of the answer."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The request's id, as records have it."""
        return self.headers["x-request-id"]

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape."""
        return dict(self.json()["error"])

    @property
    def code(self) -> str:
        """The error's code; empty for an answer that is none."""
        return "" if self.status < 400 else str(self.error["code"])

    @property
    def left(self) -> int:
        """Requests left, as the headers say."""
        return int(self.headers["x-ratelimit-remaining-requests"])


def request_bytes(method: str, path: str, key: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """An HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway", f"authorization: Bearer {key}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if method == "POST":
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read one answer to its last byte. Raises NotWhole."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            parts = []
            while size := int(await reader.readline(), 16):
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
            await reader.readexactly(2)
            body = b"".join(parts)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
        raise NotWhole(str(error)) from error
    return Reply(int(head[0].split(" ")[1]), headers, body)


async def exchange(port: int, request: bytes) -> Reply:
    """One request on a connection of its own. Raises ConnectionError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await read_reply(reader)
    finally:
        writer.close()


async def _at_once(port: int, requests: list[bytes]) -> list[Reply]:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in requests]
    for (_, writer), request in zip(connections, requests, strict=True):
        writer.write(request)
    replies = await asyncio.gather(*(read_reply(reader) for reader, _ in connections))
    for _, writer in connections:
        writer.close()
    return replies


def at_once(port: int, requests: list[bytes]) -> list[Reply]:
    """Send all requests at the same moment, over connections that are open already."""
    return asyncio.run(_at_once(port, requests))


@dataclass(frozen=True)
class Account:
    """A client with one key, and what its automations do."""

    installation: Installation
    name: str
    id: int
    key: str

    def request(
        self,
        model: str = "sandbox",
        text: str = "Hello",
        *,
        path: str = "chat/completions",
        headers: dict[str, str] | None = None,
        key: str | None = None,
        **members: Any,
    ) -> bytes:
        """A call, ready to be sent."""
        given: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        if path != "chat/completions":
            given = {"prompt": text} if path == "completions" else {"input": text}
        body = json.dumps({"model": model, **given, **members}).encode()
        return request_bytes("POST", f"/v1/{path}", key or self.key, body, headers)

    def call(self, *arguments: Any, **members: Any) -> Reply:
        """Make one call."""
        return asyncio.run(exchange(self.installation.port, self.request(*arguments, **members)))

    def calls_at_once(self, count: int, *arguments: Any, **members: Any) -> list[Reply]:
        """Make the same call `count` times at the same moment."""
        return at_once(self.installation.port, [self.request(*arguments, **members)] * count)

    def models(self, key: str | None = None) -> Reply:
        """GET /v1/models: touches no limit, shows how they stand."""
        return asyncio.run(exchange(self.installation.port, request_bytes("GET", "/v1/models", key or self.key)))

    def records(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """This client's records, once there are at least `count`; oldest first."""

        def enough() -> list[dict[str, Any]] | None:
            rows = self.recorded()
            return rows if len(rows) >= count else None

        return list(until(enough, seconds, f"{count} records of {self.name}"))

    def recorded(self) -> list[dict[str, Any]]:
        """This client's records as they are now; oldest first."""
        return self.installation.sql(
            "SELECT * FROM usage_usagerecord WHERE client_id = ? ORDER BY admitted_at", self.id
        )

    def records_of(self, ids: set[str], seconds: float = 30) -> dict[str, dict[str, Any]]:
        """This client's records by request id, once all of `ids` are among them."""

        def there() -> dict[str, dict[str, Any]] | None:
            rows = {UUID(row["request_id"]).hex: row for row in self.recorded()}
            return rows if ids <= rows.keys() else None

        return dict(until(there, seconds, f"records of {len(ids)} calls of {self.name}") or {})


def account(installation: Installation, *limits: str, **profile: Any) -> Account:
    """A new client with these limits, and a key."""
    name = f"Client {next(_numbers)}"
    client_id = installation.client(name, *limits, **profile)
    return Account(installation, name, client_id, installation.key(name))


def add_model(watcher: Account, name: str, rates: dict[str, int] | None, *, upstream: str = "") -> None:
    """A model of the provider `stub`; `rates` in picodollars per token, None: free. Waits until it is served."""
    watcher.installation.python(
        f"""
from datetime import UTC, datetime
from pricing.models import Model, Price, Provider
model = Model.objects.create(
    name={name!r}, provider=Provider.objects.get(name="stub"), free={rates is None}, upstream_name={upstream!r}
)
if {bool(rates)}:
    Price.objects.create(model=model, effective_from=datetime(2026, 1, 1, tzinfo=UTC), **{rates!r})
"""
    )
    if rates != {}:
        until(lambda: name in {model["id"] for model in watcher.models().json()["data"]}, 10, f"model {name}")
