"""The sandbox provider: OpenAI's shapes, answered by the gateway itself; free, deterministic, for trying a workflow.

It stands where a provider's connection would: calls to it are authenticated, limited, recorded and relayed like any
other. Its text says what it was asked, so that a wrong wiring shows.
"""

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.exchange import HeaderList
from proxy.request import CallRequest, Endpoint
from proxy.tokens import LARGE, count_prompt, count_text, texts_in

EMBEDDING_SIZE = 1536  # as text-embedding-3-small
_VOCABULARY = "gpt-4o"
MAX_DEPTH = 64
MAX_CHOICES = 128  # of all prompts together, and
MAX_INPUTS = 2048  # texts to embed: OpenAI's own bounds, platform.openai.com/docs/api-reference
_FEW = 16  # choices or texts; each takes half a millisecond
_CREATED = 1_700_000_000  # a fixed time keeps answers deterministic
_JSON: HeaderList = [(b"content-type", b"application/json")]
_EVENTS: HeaderList = [(b"content-type", b"text/event-stream; charset=utf-8")]


class SandboxResponse:
    """Looks like a provider's answer to whoever relays it."""

    __slots__ = ("_parts", "headers", "status")

    def __init__(self, status: int, headers: HeaderList, parts: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._parts = parts

    def header(self, name: bytes) -> bytes | None:
        """First value of the header `name`, or None."""
        return next((value for key, value in self.headers if key == name), None)

    async def read(self, limit: int) -> bytes:
        """The whole body; the sandbox writes no answer near `limit`."""
        return b"".join(self._parts)

    async def chunk(self) -> bytes:
        """The next part of the body, b"" at the end."""
        return next(self._parts, b"")

    def abort(self) -> None:
        """Nothing to drop."""


def answer(call: CallRequest) -> SandboxResponse:
    """The sandbox's answer to a call: always the same for the same body."""
    asked = {Endpoint.CHAT: "messages", Endpoint.COMPLETIONS: "prompt"}.get(call.endpoint, "input")
    if not call.document.get(asked):
        return _rejected(f"Missing required parameter: '{asked}'.", asked)
    if _too_deep(call.document):
        return _rejected(f"The body is nested deeper than {MAX_DEPTH} levels.", asked)
    if "embed" in call.model and call.endpoint is not Endpoint.EMBEDDINGS:
        return _rejected("The model 'sandbox-embedding' makes embeddings only; for text use 'sandbox'.")
    if call.endpoint is Endpoint.EMBEDDINGS:
        if "embed" not in call.model:
            return _rejected("The model 'sandbox' makes text only; for embeddings use 'sandbox-embedding'.")
        if texts_in(call.document.get("input")) > MAX_INPUTS:
            return _rejected(f"The sandbox embeds {MAX_INPUTS:,} texts at most.", "input")
        return _whole(_embeddings(call))
    if _choices(call) > MAX_CHOICES:
        return _rejected(f"The sandbox makes {MAX_CHOICES} choices at most.", "n")
    return {Endpoint.CHAT: _chat, Endpoint.COMPLETIONS: _completion, Endpoint.RESPONSES: _response}[call.endpoint](call)


def takes_long(call: CallRequest) -> bool:
    """Whether the answer takes so many milliseconds that all other calls would notice."""
    parts = texts_in(call.document.get("input")) if call.endpoint is Endpoint.EMBEDDINGS else _choices(call)
    return len(call.body) > LARGE or parts > _FEW


def _choices(call: CallRequest) -> int:
    return texts_in(call.document.get("prompt")) * (call.document.get("n") or 1)


def _too_deep(value: object, levels: int = MAX_DEPTH) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_too_deep(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_too_deep(inner, levels - 1) for inner in value)
    return False


def _rejected(message: str, param: str = "model") -> SandboxResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return SandboxResponse(400, _JSON, iter((orjson.dumps({"error": error}),)))


def _whole(document: dict[str, Any]) -> SandboxResponse:
    return SandboxResponse(200, _JSON, iter((orjson.dumps(document),)))


def _events(documents: list[dict[str, Any]], *, named: bool = False) -> SandboxResponse:
    if named:
        parts = [b"event: %b\ndata: %b\n\n" % (d["type"].encode(), orjson.dumps(d)) for d in documents]
    else:
        parts = [b"data: %b\n\n" % orjson.dumps(d) for d in documents] + [b"data: [DONE]\n\n"]
    return SandboxResponse(200, _EVENTS, iter(parts))


# --- what it says ---


def _id(call: CallRequest, prefix: str) -> str:
    return prefix + hashlib.sha256(call.body).hexdigest()[:24]


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def _last(items: object) -> dict[str, Any]:
    return items[-1] if isinstance(items, list) and items and isinstance(items[-1], dict) else {}


def _last_user_text(messages: object) -> str:
    if isinstance(messages, str):
        return messages
    if isinstance(messages, list):
        for message in reversed(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return _text_of(message.get("content"))
    return ""


def _reply(asked: str, limit: int | None) -> tuple[list[str], bool]:
    """The words of the reply, and whether the token limit cut it short."""
    words = f"Sandbox reply to: {' '.join(asked.split())[:400]}".split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    if limit is None:
        return pieces, False
    kept: list[str] = []
    for piece in pieces:
        if count_text("".join([*kept, piece]), _VOCABULARY) > limit:
            return kept, True
        kept.append(piece)
    return kept, False


def _wants_json(document: dict[str, Any]) -> bool:
    for holder in (document.get("response_format"), document.get("text")):
        if isinstance(holder, dict):
            inner = holder.get("format")
            kind = (inner if isinstance(inner, dict) else holder).get("type")
            if kind in ("json_object", "json_schema"):
                return True
    return False


def _as_json(pieces: list[str]) -> list[str]:
    return [orjson.dumps({"reply": "".join(pieces)}).decode()]


def _tool_call(tools: object, choice: object, last: object, asked: str) -> tuple[str, str] | None:
    """(name, arguments) of the first tool, where tools are offered and nothing was called yet."""
    if not isinstance(tools, list) or choice == "none" or last in ("tool", "function_call_output"):
        return None
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) and tool.get("type") == "function" else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return function["name"], orjson.dumps(_sample(function.get("parameters"), asked)).decode()
    return None


def _sample(schema: object, asked: str) -> Any:
    """A value that fits a JSON schema, simply: the required members of objects, the first of an enumeration."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        required = schema.get("required")
        if not isinstance(properties, dict):
            return {}
        wanted = required if isinstance(required, list) else []
        names = [name for name in wanted if isinstance(name, str) and name in properties]
        return {name: _sample(properties[name], asked) for name in names}
    simple = {"integer": 0, "number": 0, "boolean": False, "array": [], "null": None}
    return simple.get(kind, asked[:100]) if isinstance(kind, str) else asked[:100]


def _allowance(call: CallRequest, *names: str) -> int | None:
    given = [call.document[name] for name in names if call.document.get(name) is not None]
    return min(given) if given else None


# --- chat completions ---


def _chat(call: CallRequest) -> SandboxResponse:
    document = call.document
    messages = document.get("messages")
    last = _last(messages).get("role")
    asked = _last_user_text(messages)
    pieces, cut = _reply(asked, _allowance(call, "max_tokens", "max_completion_tokens"))
    if _wants_json(document):
        pieces = _as_json(pieces)
    tool = _tool_call(document.get("tools"), document.get("tool_choice"), last, asked)
    choices = document.get("n") or 1
    spoken = count_text("".join(tool) if tool else "".join(pieces), _VOCABULARY) * choices
    prompt = count_prompt(call)
    usage = {"prompt_tokens": prompt, "completion_tokens": spoken, "total_tokens": prompt + spoken}
    identity = {"id": _id(call, "chatcmpl-"), "created": _CREATED, "model": call.model}
    finish = "tool_calls" if tool else "length" if cut else "stop"
    called = (
        [{"id": _id(call, "call_"), "type": "function", "function": {"name": tool[0], "arguments": tool[1]}}]
        if tool
        else []
    )
    if not call.stream:
        message: dict[str, Any] = {"role": "assistant", "content": None if tool else "".join(pieces)}
        if tool:
            message["tool_calls"] = called
        found = [{"index": i, "message": message, "finish_reason": finish} for i in range(choices)]
        return _whole({**identity, "object": "chat.completion", "choices": found, "usage": usage})
    frame = {**identity, "object": "chat.completion.chunk"}
    events: list[dict[str, Any]] = []
    for index in range(choices):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if tool else ""}]
        deltas += [{"tool_calls": [{"index": 0, **called[0]}]}] if tool else [{"content": piece} for piece in pieces]
        events += [{**frame, "choices": [{"index": index, "delta": d, "finish_reason": None}]} for d in deltas]
        events.append({**frame, "choices": [{"index": index, "delta": {}, "finish_reason": finish}]})
    return _events([*events, {**frame, "choices": [], "usage": usage}])


# --- completions ---


def _completion(call: CallRequest) -> SandboxResponse:
    prompt = call.document.get("prompt")
    prompts = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str) else [prompt]
    choices = call.document.get("n") or 1
    limit = _allowance(call, "max_tokens")
    replies = [_reply(asked if isinstance(asked, str) else "", limit) for asked in prompts for _ in range(choices)]
    entered = count_prompt(call)
    spoken = sum(count_text("".join(pieces), _VOCABULARY) for pieces, _ in replies)
    usage = {"prompt_tokens": entered, "completion_tokens": spoken, "total_tokens": entered + spoken}
    frame = {"id": _id(call, "cmpl-"), "object": "text_completion", "created": _CREATED, "model": call.model}

    def choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    ends = ["length" if cut else "stop" for _, cut in replies]
    if not call.stream:
        found = [choice(i, "".join(pieces), ends[i]) for i, (pieces, _) in enumerate(replies)]
        return _whole({**frame, "choices": found, "usage": usage})
    events: list[dict[str, Any]] = []
    for index, (pieces, _) in enumerate(replies):
        events += [{**frame, "choices": [choice(index, piece, None)]} for piece in pieces]
        events.append({**frame, "choices": [choice(index, "", ends[index])]})
    return _events([*events, {**frame, "choices": [], "usage": usage}])


# --- responses ---


def _response(call: CallRequest) -> SandboxResponse:
    document = call.document
    given = document.get("input")
    last = _last(given).get("type")
    asked = _last_user_text(given)
    pieces, cut = _reply(asked, _allowance(call, "max_output_tokens"))
    if _wants_json(document):
        pieces = _as_json(pieces)
    tool = _tool_call(document.get("tools"), document.get("tool_choice"), last, asked)
    text = "".join(pieces)
    entered, spoken = count_prompt(call), count_text("".join(tool) if tool else text, _VOCABULARY)
    part = {"type": "output_text", "text": text, "annotations": []}
    item: dict[str, Any] = (
        {
            "type": "function_call",
            "id": _id(call, "fc_"),
            "call_id": _id(call, "call_"),
            "name": tool[0],
            "arguments": tool[1],
            "status": "completed",
        }
        if tool
        else {
            "type": "message",
            "id": _id(call, "msg_"),
            "role": "assistant",
            "status": "incomplete" if cut else "completed",
            "content": [part],
        }
    )
    incomplete = cut and not tool
    final = {
        **_response_frame(call),
        "status": "incomplete" if incomplete else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
        "output": [item],
        "usage": {
            "input_tokens": entered,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": spoken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": entered + spoken,
        },
    }
    if not call.stream:
        return _whole(final)
    opened = {**_response_frame(call), "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
        *(_tool_events(item) if tool else _text_events(item, part, pieces)),
        {"type": "response.incomplete" if incomplete else "response.completed", "response": final},
    ]
    return _events([{**event, "sequence_number": i} for i, event in enumerate(events)], named=True)


def _response_frame(call: CallRequest) -> dict[str, Any]:
    document = call.document
    return {
        "id": _id(call, "resp_"),
        "object": "response",
        "created_at": _CREATED,
        "model": call.model,
        "error": None,
        "instructions": document.get("instructions"),
        "metadata": document.get("metadata") or {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": document.get("tool_choice") or "auto",
        "tools": document.get("tools") or [],
        "top_p": 1.0,
    }


def _text_events(item: dict[str, Any], part: dict[str, Any], pieces: list[str]) -> Iterator[dict[str, Any]]:
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    started = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    for piece in pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}


def _tool_events(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    at = {"item_id": item["id"], "output_index": 0}
    started = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}
    yield {"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]}
    yield {"type": "response.function_call_arguments.done", **at, "name": item["name"], "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}


# --- embeddings ---


def _embeddings(call: CallRequest) -> dict[str, Any]:
    given = call.document.get("input")
    # A list of numbers is one text in tokens; a list of strings or of such lists is one text each.
    texts = given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]
    size = call.document.get("dimensions")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= EMBEDDING_SIZE:
        size = EMBEDDING_SIZE
    as_base64 = call.document.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = _vector(orjson.dumps(text), size)
        packed = struct.pack(f"<{size}f", *vector)
        embedding: object = base64.b64encode(packed).decode() if as_base64 else list(struct.unpack(f"<{size}f", packed))
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = count_prompt(call)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": call.model, "usage": usage}


def _vector(text: bytes, size: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    noise = hashlib.shake_128(text).digest(size)
    values = [byte - 127.5 for byte in noise]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]
