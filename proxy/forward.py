"""From an admitted call to a provider's answer: what goes upstream, and what a provider's failure means to a client."""

import asyncio
import logging
import zlib
from email.utils import parsedate_to_datetime
from time import time
from typing import Protocol

from proxy.body_edit import set_member
from proxy.directory import Route
from proxy.errors import (
    GatewayError,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamIdle,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefusedCredential,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from proxy.exchange import HeaderList
from proxy.provider_json import loads
from proxy.request import CallRequest, Endpoint
from proxy.sandbox import answer, takes_long
from proxy.upstream import Pool
from proxy.upstream_response import (
    ConnectFailed,
    Disconnected,
    Malformed,
    Response,
    TimedOut,
    UpstreamError,
)

log = logging.getLogger("gateway.forward")

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of a whole JSON answer: 2,048 embeddings of 3,072 numbers are 50 MB."""

# What of the client's headers a provider may see. Never its key, organisation or project, cookies, or where it is; and
# no idempotency key, since all clients share one account there, and one could be given another's answer.
_TO_PROVIDER = frozenset((b"accept", b"openai-beta"))
# What of the provider's headers a client may see. Never its limits, cookies or organisation.
_TO_CLIENT = frozenset((b"content-type", b"openai-processing-ms", b"openai-version", b"openai-model", b"cache-control"))
_SANDBOX = "sandbox"
_RETRY_AFTER = (1, 3600)  # seconds; a provider's word is kept within these


class Answer(Protocol):
    """A provider's answer, from the network or from the sandbox."""

    status: int
    headers: HeaderList

    def header(self, name: bytes) -> bytes | None: ...
    async def read(self, limit: int) -> bytes: ...
    async def chunk(self) -> bytes: ...
    def abort(self) -> None: ...


class Forwarder:
    """Sends calls to where their route leads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def send(self, call: CallRequest, route: Route, headers: HeaderList) -> Answer:
        """The answer, as soon as its head is in. Raises GatewayError for whatever the provider did wrong.

        Whoever gets an answer must `release` it.
        """
        provider = route.provider
        if provider.target is None:
            if provider.kind != _SANDBOX:  # its base URL cannot be read; the directory has logged why
                raise UpstreamUnavailable("The provider cannot be reached.")
            return await asyncio.to_thread(answer, call) if takes_long(call) else answer(call)
        head = provider.heads.get(call.endpoint)
        if head is None:
            raise self._refused_credential(route, "it cannot be decrypted with ENCRYPTION_KEYS")
        body = upstream_body(call, route.upstream_name)
        passed = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] in _TO_PROVIDER])
        request = b"%b%bcontent-length: %d\r\n\r\n%b" % (head, passed, len(body), body)
        try:
            response = await self._pool.send(provider.target, request)
        except UpstreamError as error:
            raise self.failure(error, route) from error
        if response.status == 200:
            return response
        if 400 <= response.status < 500 and response.status not in (401, 403, 429):
            return response
        try:
            raise self._failed(response, route)
        finally:
            self._pool.release(response)

    def release(self, response: Answer) -> None:
        """End the answer: a connection with something left to say is closed, which stops the provider."""
        if isinstance(response, Response):
            self._pool.release(response)

    def finish(self, answer: Answer) -> None:
        """Before `release`: a stream has said its last word; what is left to come is its framing."""
        if isinstance(answer, Response):
            self._pool.finish(answer)

    def failure(self, error: UpstreamError, route: Route) -> GatewayError:
        """What a failure on the wire means to the client; the operator's log has the details."""
        log.warning("provider %s: %s: %s", route.provider.name, type(error).__name__, error)
        match error:
            case ConnectFailed():
                return UpstreamUnavailable("The provider cannot be reached.")
            case TimedOut(phase="connect"):
                return UpstreamUnavailable("The provider cannot be reached in time.")
            case TimedOut(phase="idle"):
                return UpstreamIdle("The provider fell silent in the middle of its answer.")
            case TimedOut():
                return UpstreamTimeout("The provider did not answer in time.")
            case Malformed():
                return UpstreamInvalid("The provider's answer cannot be read.")
            case Disconnected():
                return UpstreamDisconnected("The provider's connection broke.")
        raise error

    def _refused_credential(self, route: Route, why: str) -> UpstreamRefusedCredential:
        log.error("ALERT provider %s refuses our credential: %s", route.provider.name, why)
        return UpstreamRefusedCredential("The provider refuses the gateway's credential; its operator has been told.")

    def _failed(self, response: Response, route: Route) -> GatewayError:
        status = response.status
        if status in (401, 403):
            return self._refused_credential(route, f"status {status}")
        if status == 429:
            log.warning("provider %s limits us: status 429", route.provider.name)
            wait = _retry_after(response.header(b"retry-after"))
            return UpstreamRateLimited(
                "The provider is limiting requests right now; try again shortly.",
                headers=() if wait is None else ((b"retry-after", b"%d" % wait),),
            )
        log.warning("provider %s answered with status %d", route.provider.name, status)
        if status >= 500:
            return UpstreamFailed("The provider failed to answer; try again shortly.")
        return UpstreamInvalid("The provider's answer cannot be used.")


def upstream_body(call: CallRequest, upstream_name: str) -> bytes:
    """The body as the provider gets it: the client's own bytes, but for the alias and the request for usage."""
    body = call.body
    if upstream_name != call.model:
        body = set_member(body, "model", upstream_name)
    if asks_for_usage(call):
        options = call.document.get("stream_options") or {}
        body = set_member(body, "stream_options", {**options, "include_usage": True})
    return body


def asks_for_usage(call: CallRequest) -> bool:
    """Whether we ask the provider for the usage chunk on our own account, so that it has to be hidden."""
    return call.stream and not call.wants_usage and call.endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS)


def client_headers(response: Answer) -> HeaderList:
    """The provider's headers that the client may see."""
    return [header for header in response.headers if header[0] in _TO_CLIENT]


def is_event_stream(response: Answer) -> bool:
    """Whether the answer is an event stream."""
    return (response.header(b"content-type") or b"").lower().startswith(b"text/event-stream")


async def read_body(response: Answer) -> bytes:
    """The whole body, decompressed if the provider compressed it unasked. Raises UpstreamError or UpstreamInvalid."""
    body = await response.read(MAX_ANSWER)
    encoding = (response.header(b"content-encoding") or b"identity").lower()
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise UpstreamInvalid("The provider's answer is compressed in a way that was not asked for.")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its header
    try:
        plain = inflater.decompress(body, MAX_ANSWER)
    except zlib.error as error:
        raise UpstreamInvalid("The provider's answer cannot be decompressed.") from error
    if not inflater.eof:  # cut short, or a bomb
        raise UpstreamInvalid("The provider's answer cannot be decompressed.")
    return plain


def parse_answer(body: bytes) -> dict[str, object]:
    """A JSON answer as an object. Raises UpstreamInvalid."""
    try:
        document = loads(body)
    except ValueError as error:
        raise UpstreamInvalid("The provider's answer is not valid JSON.") from error
    if not isinstance(document, dict):
        raise UpstreamInvalid("The provider's answer is no JSON object.")
    return document


def _retry_after(value: bytes | None) -> int | None:
    """Seconds of a Retry-After header in either form (RFC 9110, section 10.2.3), clamped; None if unreadable."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text[:9])
    else:
        try:
            seconds = int(parsedate_to_datetime(text).timestamp() - time())
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, _RETRY_AFTER[0]), _RETRY_AFTER[1])
