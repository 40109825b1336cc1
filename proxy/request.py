"""Reading a call: only what the gateway needs of body and headers, and never differently from the provider.

JSON readers disagree on repeated names, and names can be spelled with escapes. So a body in which a name that we use
occurs twice, or letters are written as \\u00XX, goes through a strict slow parse that refuses duplicates; all others
never pay for it. Go's reader takes `Model` for `model`, so such spellings are refused too.
"""

import json
import re
from enum import Enum
from typing import Any, NamedTuple

import orjson

from proxy.errors import BodyTooLarge, InvalidJSON, InvalidRequest


class Endpoint(Enum):
    """The endpoints that reach a provider; the value is the path below /v1, and below the provider's base URL."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a Python function, on every look-up


# A model's own output cannot be larger; a request beyond it is a mistake, and sums must stay far below 2**63.
MAX_TOKENS = 100_000_000
MAX_CHOICES = 1_000
MAX_NAME = 200
# A body of small values takes twenty times its size in memory and holds up every other call while it is read (measured:
# 2.7 million in 8 MB, 2 s). The largest real ones are embeddings of token numbers, 300,000 a call at OpenAI.
MAX_VALUES = 500_000

_OUTPUT_BOUNDS = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.COMPLETIONS: ("max_tokens",),
    Endpoint.EMBEDDINGS: (),
    Endpoint.RESPONSES: ("max_output_tokens",),
}
# Grouped by their beginnings, which makes it twice as fast as a plain list.
_NAME = (
    r"b(?:est_of|ackground)|conversation|e(?:nv|xecution)|functions|in(?:clude_usage|put|structions)"
    r"|m(?:odel|essages|etadata|ax_(?:completion_|output_)?tokens)|n|pr(?:ompt|evious_response_id)|response_format"
    r"|s(?:tream(?:_options)?|ervice_tier|afety_identifier|ession)|tools|user|workflow"
)
_NAMES_USED = re.compile(rb'"(%b)"\s*:' % _NAME.encode())
_IS_USED = re.compile(_NAME).fullmatch
_ESCAPED_LETTER = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")  # a to z and the underscore

# Parts whose size in tokens does not follow from their size in bytes: an image behind a URL, a file by its id, a stored
# conversation. A call with one of them has no upper bound that we could know.
# And tools that the provider runs itself: what they find becomes input.
_UNBOUNDED_PART = re.compile(
    rb'"type"\s*:\s*"(?:image_url|input_image|input_file|file|input_audio|item_reference'
    rb'|file_search|web_search[a-z0-9_]*|code_interpreter|image_generation|computer[a-z0-9_]*|mcp)"'
)
_UNBOUNDED_MEMBERS = ("previous_response_id", "conversation", "prompt")


class Tags(NamedTuple):
    """Attribution of a call; each at most 128 characters, cleaned."""

    workflow: str | None = None
    execution: str | None = None
    session: str | None = None
    env: str | None = None


NO_TAGS = Tags()


class CallRequest(NamedTuple):
    """What the gateway read of a call."""

    endpoint: Endpoint
    model: str
    stream: bool
    wants_usage: bool
    """Whether the client itself asked for the usage chunk of a stream."""
    max_output: int | None
    """Upper bound of output tokens over all choices; None where the client gave none."""
    bounded_input: bool
    """Whether the prompt's bytes bound its tokens."""
    service_tier: str | None
    tags: Tags
    body: bytes
    document: dict[str, Any]


class _Object(dict[str, Any]):
    """A JSON object that remembers whether a name that we read occurred twice."""

    repeated: str | None


def _strict_object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    result.repeated = None
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen and _IS_USED(name):
                result.repeated = name
            seen.add(name)
    return result


def _parse(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_VALUES and body.count(b",") > MAX_VALUES:  # before the parser has made them
        raise BodyTooLarge(f"The body holds more than {MAX_VALUES:,} values.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise InvalidJSON("The body must be a JSON object.")
    found = _NAMES_USED.findall(body)
    if len(found) != len(set(found)) or _escapes_letters(body):
        _refuse_repeated(body)
    names = "".join(document)
    if not (names.isascii() and names.islower()):
        _refuse_lookalikes(document)
    return document


def _escapes_letters(body: bytes) -> bool:
    return b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _refuse_lookalikes(document: dict[str, Any]) -> None:
    for name in document:
        folded = name.casefold()
        if folded != name and _IS_USED(folded):
            raise InvalidJSON(f"The body names {name!r}; it is spelled {folded!r}.", param=name[:MAX_NAME])


def _refuse_repeated(body: bytes) -> None:
    """Refuse a body in which a name we read occurs twice in one object. Raises InvalidJSON."""
    try:
        # Numbers are of no interest here, and huge ones would cost or raise.
        document = json.loads(body.decode(), object_pairs_hook=_strict_object, parse_int=len, parse_float=len)
    except RecursionError as error:
        raise InvalidJSON("The body is nested too deeply.") from error
    for part in (document, document.get("stream_options"), document.get("metadata")):
        if isinstance(part, _Object) and part.repeated is not None:
            raise InvalidJSON(f"The body names {part.repeated!r} twice.", param=part.repeated)


def _string(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name!r} must be a string.", param=name)
    return value


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} must be true or false.", param=name)
    return value


def _count(document: dict[str, Any], name: str, highest: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
        raise InvalidRequest(f"{name!r} must be a whole number from 1 to {highest:,}.", param=name)
    return value


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name!r} must be an object.", param=name)
    return value


def _max_output(endpoint: Endpoint, document: dict[str, Any]) -> int | None:
    if endpoint is Endpoint.EMBEDDINGS:
        return 0
    given = [_count(document, name, MAX_TOKENS) for name in _OUTPUT_BOUNDS[endpoint]]
    bounds = [bound for bound in given if bound is not None]
    choices = 1
    if "n" in document or "best_of" in document:
        choices = max(_count(document, "n", MAX_CHOICES) or 1, _count(document, "best_of", MAX_CHOICES) or 1)
    prompts = 1
    if endpoint is Endpoint.COMPLETIONS:
        prompt = document.get("prompt")
        # A list of strings, or of token lists, is one completion each; a plain list of numbers is one prompt.
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            prompts = len(prompt)
    # Where both names are given, the provider decides which one holds: the larger is the bound.
    return max(bounds) * choices * prompts if bounds else None


def _bounded(endpoint: Endpoint, document: dict[str, Any], body: bytes) -> bool:
    if endpoint is Endpoint.RESPONSES and any(document.get(name) is not None for name in _UNBOUNDED_MEMBERS):
        return False
    if document.get("web_search_options") is not None or _escapes_letters(body):  # escapes would hide a part's type
        return False
    return _UNBOUNDED_PART.search(body) is None


def read_call(endpoint: Endpoint, body: bytes, tags_header: bytes | None) -> CallRequest:
    """Read one call. Raises InvalidJSON or InvalidRequest, whose `param` names the field."""
    document = _parse(body)
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' must name a model.", param="model")
    if len(model) > MAX_NAME:
        raise InvalidRequest(f"'model' is longer than {MAX_NAME} characters.", param="model")
    stream = _flag(document, "stream")
    options = _object(document, "stream_options")
    if any(isinstance(value, dict | list) for value in options.values()):
        raise InvalidRequest("'stream_options' takes plain values only.", param="stream_options")
    if endpoint is Endpoint.RESPONSES and _flag(document, "background"):
        # It would be answered at once and worked on later, when nobody here sees what it used.
        raise InvalidRequest("'background' is not available here; use a stream instead.", param="background")
    return CallRequest(
        endpoint=endpoint,
        model=model,
        stream=stream and endpoint is not Endpoint.EMBEDDINGS,
        wants_usage=_flag(options, "include_usage"),
        max_output=_max_output(endpoint, document),
        bounded_input=_bounded(endpoint, document, body),
        service_tier=_string(document, "service_tier"),
        tags=_tags(document, tags_header),
        body=body,
        document=document,
    )


# --- tags ---

_TAG_NAMES = ("workflow", "execution", "session", "env")
MAX_TAG = 128
_UNCLEAN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _clean(value: object) -> str | None:
    """A tag as it is kept: a bounded string without control characters; None where nothing is left."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return _UNCLEAN.sub("", str(value)[: 4 * MAX_TAG]).strip()[:MAX_TAG] or None


def _tags(document: dict[str, Any], header: bytes | None) -> Tags:
    """Tags of the header `x-gateway-tags`, then of `metadata`; the session also from the body's own user fields."""
    metadata = _object(document, "metadata")
    safety_identifier = _string(document, "safety_identifier")
    user = _string(document, "user")
    if header is None and not metadata and not safety_identifier and not user:
        return NO_TAGS
    found: dict[str, str | None] = {}
    if header is not None:
        for pair in header.decode("utf-8", "replace")[:2048].split(","):
            name, separator, value = pair.partition("=")
            if separator and name.strip() in _TAG_NAMES:
                found.setdefault(name.strip(), _clean(value))
    for name in _TAG_NAMES:
        if not found.get(name) and name in metadata:
            found[name] = _clean(metadata[name])
    session = found.get("session") or _clean(safety_identifier) or _clean(user)
    return Tags(found.get("workflow"), found.get("execution"), session, found.get("env"))
