"""One question to somebody else's server: only addresses that were judged are dialled, and nothing is followed.

Within bounds of time and size, and the certificate is judged for the name.
"""

import asyncio
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum, auto
from urllib.parse import urlsplit

import certifi
import httpx
from django.core.exceptions import ValidationError

from pricing.addresses import Destination, Resolver, destination, resolve

MAX_ERROR_BYTES = 64 * 1024
"""Read of an answer that is not 200."""
_TURNS = threading.BoundedSemaphore(3)  # of a process: servers that hang must not take all threads of the pages

# X509_V_ERR_… of OpenSSL
_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_HOST = {62, 64}
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}


class Problem(StrEnum):
    """What can be the matter with a provider."""

    CREDENTIAL = auto()
    ADDRESS = auto()
    NAME = auto()
    REFUSED = auto()
    UNREACHABLE = auto()
    CERTIFICATE_EXPIRED = auto()
    CERTIFICATE_NOT_YET_VALID = auto()
    CERTIFICATE_OF_ANOTHER = auto()
    CERTIFICATE_ISSUER = auto()
    CERTIFICATE = auto()
    NO_TLS = auto()
    SLOW_NAME = auto()
    SLOW_CONNECTION = auto()
    SLOW_ANSWER = auto()
    BROKEN_OFF = auto()
    REDIRECT = auto()
    KEY_REFUSED = auto()
    NO_KEY = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    LIMITED = auto()
    PROVIDER_FAULT = auto()
    STATUS = auto()
    WEB_PAGE = auto()
    NOT_JSON = auto()
    NO_LIST = auto()
    TOO_LONG = auto()
    BUSY = auto()


class Trouble(Exception):
    """The list cannot be had. `detail` is short, printable and without anything secret."""

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(problem.value)
        self.problem = problem
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a server."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    max_bytes: int = MAX_ERROR_BYTES
    """Of an answer with status 200."""
    connect_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is cut off at MAX_ERROR_BYTES, but for status 200."""

    status: int
    content_type: str
    location: str
    body: bytes


def ask(asked: Asked, *, seconds: float, resolver: Resolver = resolve) -> Answer:
    """Ask, and wait `seconds` in all. Raises Trouble."""
    if not _TURNS.acquire(blocking=False):
        raise Trouble(Problem.BUSY)
    # Its thread is not waited for: a name server that hangs must not hold the page.
    threads = ThreadPoolExecutor(1, "resolve")
    try:
        return asyncio.run(_ask(asked, seconds, resolver, threads))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        _TURNS.release()


async def _ask(asked: Asked, seconds: float, resolver: Resolver, threads: ThreadPoolExecutor) -> Answer:
    slow = Problem.SLOW_NAME
    try:
        async with asyncio.timeout(seconds):
            try:
                loop = asyncio.get_running_loop()
                where = await loop.run_in_executor(threads, destination, asked.url, resolver)
            except ValidationError as error:
                raise Trouble(Problem.ADDRESS, error.messages[0]) from error
            except (OSError, UnicodeError) as error:
                raise Trouble(Problem.NAME) from error
            slow = Problem.SLOW_ANSWER
            return await _ask_at_any(where, asked, min(asked.connect_seconds, seconds / 2))
    except TimeoutError as error:
        raise Trouble(slow) from error


async def _ask_at_any(where: Destination, asked: Asked, connect_seconds: float) -> Answer:
    """Ask at the first address that takes the connection, as calls do."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(certifi.where())
    failure = Trouble(Problem.UNREACHABLE)
    timeout = httpx.Timeout(None, connect=connect_seconds).as_dict()
    # The bare transport: a client around it would take an interest in redirects, cookies and proxies.
    async with httpx.AsyncHTTPTransport(verify=trust, trust_env=False) as transport:
        for address in where.addresses:
            url, headers = _addressed(where, address, asked)
            # The certificate is judged for the name, though the address is dialled.
            extensions = {"timeout": timeout, "sni_hostname": where.host}
            request = httpx.Request(asked.method, url, headers=headers, content=asked.body, extensions=extensions)
            try:
                return await _exchange(transport, request, asked.max_bytes)
            except httpx.ConnectTimeout:
                failure = Trouble(Problem.SLOW_CONNECTION)
            except httpx.ConnectError as error:
                failure = _not_connected(error)
            except httpx.TransportError as error:
                raise Trouble(Problem.BROKEN_OFF) from error
    raise failure


def _addressed(where: Destination, address: str, asked: Asked) -> tuple[str, dict[str, str]]:
    scheme = "https" if where.tls else "http"
    shown = f"[{where.host}]" if ":" in where.host else where.host
    dialled = f"[{address}]" if ":" in address else address
    headers = {
        "host": shown if where.port == (443 if where.tls else 80) else f"{shown}:{where.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "llm-gateway",
        **asked.headers,
    }
    return f"{scheme}://{dialled}:{where.port}{urlsplit(asked.url).path}", headers


async def _exchange(transport: httpx.AsyncHTTPTransport, request: httpx.Request, max_bytes: int) -> Answer:
    response = await transport.handle_async_request(request)
    try:
        most = max_bytes if response.status_code == 200 else MAX_ERROR_BYTES
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > most:
                if response.status_code == 200:
                    raise Trouble(Problem.TOO_LONG)
                break
        headers = response.headers
        return Answer(
            response.status_code, headers.get("content-type", "").lower(), headers.get("location", ""), bytes(body)
        )
    finally:
        await response.aclose()


def _not_connected(error: httpx.ConnectError) -> Trouble:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _bad_certificate(cause)
        if isinstance(cause, ssl.SSLError):
            return Trouble(Problem.NO_TLS)
        if isinstance(cause, ConnectionRefusedError):
            return Trouble(Problem.REFUSED)
        if isinstance(cause, ConnectionResetError):
            return Trouble(Problem.BROKEN_OFF)
    return Trouble(Problem.UNREACHABLE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _bad_certificate(error: ssl.SSLCertVerificationError) -> Trouble:
    code = error.verify_code
    if code == _EXPIRED:
        return Trouble(Problem.CERTIFICATE_EXPIRED)
    if code == _NOT_YET_VALID:
        return Trouble(Problem.CERTIFICATE_NOT_YET_VALID)
    if code in _WRONG_HOST:
        return Trouble(Problem.CERTIFICATE_OF_ANOTHER)
    if code in _UNKNOWN_ISSUER:
        return Trouble(Problem.CERTIFICATE_ISSUER)
    return Trouble(Problem.CERTIFICATE)
