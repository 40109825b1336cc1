"""A provider's own list of models (`GET …/models`), read within bounds of time and size.

Only addresses that were judged are dialled, nothing is followed, and of what the provider says only model ids come out.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any
from urllib.parse import urlsplit

import certifi
import httpx
import orjson
from django.core.exceptions import ValidationError

from pricing.addresses import Destination, Resolver, destination, resolve
from pricing.credentials import UnreadableCredential
from pricing.models import Provider

SECONDS = 10.0
MAX_BYTES = 8 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_MODELS = 5_000
_TURNS = threading.BoundedSemaphore(3)  # of a process: providers that hang must not take all threads of the pages
_MODEL_ID = re.compile(r"[!-~]{1,200}")
_ERROR_CODE = re.compile(r"[a-z][a-z_]{2,39}")

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
class ModelList:
    """The ids a provider lists, sorted; `unusable` counts those that no client could ask for."""

    ids: tuple[str, ...]
    unusable: int


def read_model_list(provider: Provider, *, seconds: float = SECONDS, resolver: Resolver = resolve) -> ModelList:
    """Ask a provider, saved or not, for its models; wait `seconds` in all. Raises Trouble."""
    try:
        credential = provider.credential()
    except UnreadableCredential as error:
        raise Trouble(Problem.CREDENTIAL) from error
    if not _TURNS.acquire(blocking=False):
        raise Trouble(Problem.BUSY)
    # Its thread is not waited for: a name server that hangs must not hold the page.
    threads = ThreadPoolExecutor(1, "resolve")
    try:
        answer = asyncio.run(_ask(provider, credential, seconds, resolver, threads))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        _TURNS.release()
    _judge(answer, credential)
    return _parse(answer.body)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    location: str
    body: bytes


async def _ask(
    provider: Provider, credential: str, seconds: float, resolver: Resolver, threads: ThreadPoolExecutor
) -> _Answer:
    slow = Problem.SLOW_NAME
    try:
        async with asyncio.timeout(seconds):
            try:
                loop = asyncio.get_running_loop()
                where = await loop.run_in_executor(threads, destination, provider.base_url, resolver)
            except ValidationError as error:
                raise Trouble(Problem.ADDRESS, error.messages[0]) from error
            except (OSError, UnicodeError) as error:
                raise Trouble(Problem.NAME) from error
            slow = Problem.SLOW_ANSWER
            return await _ask_at_any(where, provider, credential, min(provider.connect_timeout, seconds / 2))
    except TimeoutError as error:
        raise Trouble(slow) from error


async def _ask_at_any(where: Destination, provider: Provider, credential: str, connect_seconds: float) -> _Answer:
    """Ask at the first address that takes the connection, as calls do."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(certifi.where())
    failure = Trouble(Problem.UNREACHABLE)
    timeout = httpx.Timeout(None, connect=connect_seconds).as_dict()
    # The bare transport: a client around it would take an interest in redirects, cookies and proxies.
    async with httpx.AsyncHTTPTransport(verify=trust, trust_env=False) as transport:
        for address in where.addresses:
            url, headers = _request(where, address, provider.base_url, credential)
            # The certificate is judged for the name, though the address is dialled.
            extensions = {"timeout": timeout, "sni_hostname": where.host}
            try:
                return await _exchange(transport, httpx.Request("GET", url, headers=headers, extensions=extensions))
            except httpx.ConnectTimeout:
                failure = Trouble(Problem.SLOW_CONNECTION)
            except httpx.ConnectError as error:
                failure = _not_connected(error)
            except httpx.TransportError as error:
                raise Trouble(Problem.BROKEN_OFF) from error
    raise failure


def _request(where: Destination, address: str, base_url: str, credential: str) -> tuple[str, dict[str, str]]:
    scheme = "https" if where.tls else "http"
    shown = f"[{where.host}]" if ":" in where.host else where.host
    dialled = f"[{address}]" if ":" in address else address
    headers = {
        "host": shown if where.port == (443 if where.tls else 80) else f"{shown}:{where.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "llm-gateway",
    }
    if credential:
        headers["authorization"] = f"Bearer {credential}"
    return f"{scheme}://{dialled}:{where.port}{urlsplit(base_url).path.rstrip('/')}/models", headers


async def _exchange(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> _Answer:
    response = await transport.handle_async_request(request)
    try:
        most = MAX_BYTES if response.status_code == 200 else MAX_ERROR_BYTES
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > most:
                if response.status_code == 200:
                    raise Trouble(Problem.TOO_LONG)
                break
        headers = response.headers
        return _Answer(
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


def _judge(answer: _Answer, credential: str) -> None:
    """Raise Trouble unless the answer may be a list."""
    status = answer.status
    code = _error_code(answer.body, credential)
    if 300 <= status < 400:
        raise Trouble(Problem.REDIRECT, _shown_location(answer.location, credential))
    if status == 401:
        raise Trouble(Problem.KEY_REFUSED if credential else Problem.NO_KEY, code)
    if status == 403:
        raise Trouble(Problem.FORBIDDEN if credential else Problem.NO_KEY, code)
    if status in (404, 405, 410):
        raise Trouble(Problem.NOT_FOUND, str(status))
    if status == 429:
        raise Trouble(Problem.LIMITED, code)
    if status >= 500:
        raise Trouble(Problem.PROVIDER_FAULT, str(status))
    if status != 200:
        raise Trouble(Problem.STATUS, f"{status}{code and f' ({code})'}")
    if "html" in answer.content_type or answer.body.lstrip()[:1] == b"<":
        raise Trouble(Problem.WEB_PAGE)


def _error_code(body: bytes, credential: str) -> str:
    """Return the error's code in OpenAI's shape, where it looks like one; other text of the provider's is not shown."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and _ERROR_CODE.fullmatch(code) and code not in credential:
        return code
    return ""


def _shown_location(location: str, credential: str) -> str:
    """Return scheme, host and path of where a redirect leads; '' for what is no plain URL or repeats the key."""
    try:
        parts = urlsplit(location[:300])
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    shown = f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path.removesuffix('/models')}"
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", shown):
        return ""
    if credential and credential in shown:
        return ""
    return shown


def _parse(body: bytes) -> ModelList:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Trouble(Problem.NOT_JSON) from error
    entries = document.get("data") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise Trouble(Problem.NO_LIST)
    if len(entries) > MAX_MODELS:
        raise Trouble(Problem.TOO_LONG)
    named = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
    ids = {name for name in named if isinstance(name, str) and _MODEL_ID.fullmatch(name)}
    unusable = sum(not (isinstance(name, str) and _MODEL_ID.fullmatch(name)) for name in named)
    if named and not ids:
        raise Trouble(Problem.NO_LIST)
    return ModelList(tuple(sorted(ids)), unusable)
