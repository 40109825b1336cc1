"""A provider's own list of models (`GET …/models`), read within bounds of time and size.

Of what the provider says only model ids come out.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from pricing.addresses import Resolver, resolve
from pricing.asking import Answer, Asked, Problem, Trouble, ask
from pricing.credentials import UnreadableCredential
from pricing.models import Provider

SECONDS = 10.0
MAX_BYTES = 8 * 1024 * 1024
MAX_MODELS = 5_000
_MODEL_ID = re.compile(r"[!-~]{1,200}")
_ERROR_CODE = re.compile(r"[a-z][a-z_]{2,39}")


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
    asked = Asked(
        f"{provider.base_url.rstrip('/')}/models",
        headers={"authorization": f"Bearer {credential}"} if credential else {},
        max_bytes=MAX_BYTES,
        connect_seconds=provider.connect_timeout,
    )
    answer = ask(asked, seconds=seconds, resolver=resolver)
    _judge(answer, credential)
    return _parse(answer.body)


def _judge(answer: Answer, credential: str) -> None:
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
