"""OpenAI's answers as the stub gives them: deterministic text, vectors and token counts for a request."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from tests.stub.behaviour import Behaviour

CREATED = 1_700_000_000
# Not only ASCII, so that a cut may fall inside a character.
WORDS = ("The", " quick", " brown", " fox", " jümps", " over", " the", " läzy", " dog", " 🦊", '"\\', "\n")
MODELS = ("gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small")
ERROR_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
Json = dict[str, Any]


def content(words: int) -> list[str]:
    """The first `words` pieces of the stub's endless text."""
    return [WORDS[i % len(WORDS)] for i in range(words)]


def error_body(status: int, message: str | None = None) -> Json:
    """An error in OpenAI's shape."""
    kind, code = ERROR_TYPES.get(status, ("server_error", None))
    return {"error": {"message": message or f"The stub answers {status}.", "type": kind, "param": None, "code": code}}


def input_tokens(request: Json) -> int:
    """How many tokens the stub counts in a request: words in all of its texts, and 3 more."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, dict):
            for name in ("content", "text"):
                yield from texts(value.get(name))

    words = sum(len(text.split()) for name in ("messages", "prompt", "input") for text in texts(request.get(name)))
    return words + 3


def _usage(form: str, behaviour: Behaviour, request: Json, produced: int) -> Json | None:
    """Usage as the provider reports it. `form`: 'chat' (completions too), 'responses' or 'embeddings'."""
    given = behaviour.input_tokens
    tokens_in: Any = input_tokens(request) if given is None else given
    tokens_out: Any = produced if behaviour.output_tokens is None else behaviour.output_tokens
    total: Any = tokens_in + tokens_out
    if behaviour.usage == "none":
        return None
    if behaviour.usage == "negative":
        tokens_in, tokens_out, total = -tokens_in, -tokens_out, -total
    elif behaviour.usage == "absurd":
        tokens_in, tokens_out, total = 10**18, 10**18, 2 * 10**18
    elif behaviour.usage == "string":
        tokens_in, tokens_out, total = str(tokens_in), str(tokens_out), str(total)
    if form == "embeddings":
        return {"prompt_tokens": tokens_in, "total_tokens": tokens_in}
    cached, reasoning = behaviour.cached_tokens, behaviour.reasoning_tokens
    if form == "responses":
        return {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": total,
        }
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _words_of(behaviour: Behaviour, request: Json) -> tuple[int, bool]:
    """How many words to say, and whether a limit in the request cut them short."""
    words = 8 if behaviour.chunks is None else behaviour.chunks
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        allowed = request.get(name)
        if isinstance(allowed, int) and allowed < words:
            return allowed, True
    return words, False


def _tool_call(behaviour: Behaviour, request: Json) -> Json | None:
    tools = request.get("tools") or []
    messages = request.get("messages") or []
    answered = bool(messages) and isinstance(messages[-1], dict) and messages[-1].get("role") == "tool"
    if behaviour.tools is False or (behaviour.tools is None and (not tools or answered)):
        return None
    name = tools[0]["function"]["name"] if tools and "function" in tools[0] else "get_weather"
    return {"id": "call_stub0001", "type": "function", "function": {"name": name, "arguments": '{"city":"Zürich"}'}}


def _event(data: Json, name: str = "") -> bytes:
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


def chat(behaviour: Behaviour, request: Json, number: int) -> Json:
    """The JSON answer of /v1/chat/completions."""
    words, cut = _words_of(behaviour, request)
    tool = _tool_call(behaviour, request)
    message: Json = {"role": "assistant", "content": None if tool else "".join(content(words)), "refusal": None}
    if tool:
        message["tool_calls"] = [tool]
    answer: Json = {
        "id": f"chatcmpl-stub{number:06d}",
        "object": "chat.completion",
        "created": CREATED,
        "model": behaviour.served_model or request.get("model"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if tool else "length" if cut else "stop",
            }
        ],
        "service_tier": behaviour.service_tier,
        "system_fingerprint": "fp_stub",
    }
    usage = _usage("chat", behaviour, request, words)
    return answer | ({} if usage is None else {"usage": usage})


def chat_events(behaviour: Behaviour, request: Json, number: int) -> list[bytes]:
    """The event stream of /v1/chat/completions: role, words or pieces of a tool call, finish, [usage], [DONE]."""
    words, cut = _words_of(behaviour, request)
    tool = _tool_call(behaviour, request)
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    common: Json = {
        "id": f"chatcmpl-stub{number:06d}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": behaviour.served_model or request.get("model"),
        "service_tier": behaviour.service_tier,
        "system_fingerprint": "fp_stub",
    }

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(common | {"choices": [choice]} | ({"usage": None} if wants_usage else {}))

    events = [chunk({"role": "assistant", "content": None if tool else "", "refusal": None})]
    if tool:
        function = tool["function"]
        opening = {"index": 0, "id": tool["id"], "type": "function", "function": function | {"arguments": ""}}
        events.append(chunk({"tool_calls": [opening]}))
        arguments = function["arguments"]
        for start in range(0, len(arguments), 5):
            piece = {"index": 0, "function": {"arguments": arguments[start : start + 5]}}
            events.append(chunk({"tool_calls": [piece]}))
    else:
        events += [chunk({"content": word}) for word in content(words)]
    if behaviour.error is not None:
        events.insert(len(events) // 2 + 1, _event(error_body(500, behaviour.error)))
    events.append(chunk({}, "tool_calls" if tool else "length" if cut else "stop"))
    return _with_usage_and_done(behaviour, request, events, common | {"choices": []}, words)


def _with_usage_and_done(
    behaviour: Behaviour, request: Json, events: list[bytes], common: Json, words: int
) -> list[bytes]:
    if (request.get("stream_options") or {}).get("include_usage"):
        usage = _usage("chat", behaviour, request, words)
        if behaviour.usage == "two":
            early = _usage("chat", behaviour, request, 1)
            events.append(_event(common | {"usage": early}))
        if usage is not None:
            events.append(_event(common | {"usage": usage}))
    if behaviour.done:
        events.append(b"data: [DONE]\n\n")
    return events


def completion(behaviour: Behaviour, request: Json, number: int) -> Json:
    """The JSON answer of /v1/completions."""
    words, cut = _words_of(behaviour, request)
    answer: Json = {
        "id": f"cmpl-stub{number:06d}",
        "object": "text_completion",
        "created": CREATED,
        "model": behaviour.served_model or request.get("model"),
        "choices": [
            {
                "text": "".join(content(words)),
                "index": 0,
                "logprobs": None,
                "finish_reason": "length" if cut else "stop",
            }
        ],
    }
    usage = _usage("chat", behaviour, request, words)
    return answer | ({} if usage is None else {"usage": usage})


def completion_events(behaviour: Behaviour, request: Json, number: int) -> list[bytes]:
    """The event stream of /v1/completions."""
    words, cut = _words_of(behaviour, request)
    common: Json = {
        "id": f"cmpl-stub{number:06d}",
        "object": "text_completion",
        "created": CREATED,
        "model": behaviour.served_model or request.get("model"),
    }
    said = content(words)
    events = []
    for i, word in enumerate(said):
        finish = ("length" if cut else "stop") if i == len(said) - 1 else None
        choice = {"text": word, "index": 0, "logprobs": None, "finish_reason": finish}
        events.append(_event(common | {"choices": [choice]}))
    return _with_usage_and_done(behaviour, request, events, common | {"choices": []}, words)


def vector(text: str, dimensions: int) -> list[float]:
    """A vector that depends on the text alone; its numbers are exact in 32 bits, so both encodings agree."""
    seed = hashlib.sha256(text.encode()).digest()
    return [(seed[i % 32] - 128) / 128 for i in range(dimensions)]


def embeddings(behaviour: Behaviour, request: Json) -> Json:
    """The answer of /v1/embeddings, floats or base64 (little-endian float32) exactly as asked."""
    asked = request.get("input")
    tokens = isinstance(asked, list) and bool(asked) and isinstance(asked[0], int)
    inputs = [asked] if isinstance(asked, str) or tokens else asked or []
    dimensions = request.get("dimensions") or 8
    data = []
    for index, item in enumerate(inputs):
        numbers = vector(str(item), dimensions)
        coded: Any = numbers
        if request.get("encoding_format") == "base64":
            coded = base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": coded})
    answer: Json = {"object": "list", "data": data, "model": behaviour.served_model or request.get("model")}
    usage = _usage("embeddings", behaviour, request, 0)
    return answer | ({} if usage is None else {"usage": usage})


def response(behaviour: Behaviour, request: Json, number: int, status: str | None = None) -> Json:
    """The response object of /v1/responses; `status` 'in_progress' is the one that opens a stream."""
    words, _ = _words_of(behaviour, request)
    status = status or behaviour.ending
    text = {"type": "output_text", "text": "".join(content(words)), "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_stub0001", "status": "completed", "role": "assistant", "content": [text]}
    answer: Json = {
        "id": f"resp_stub{number:06d}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": {"code": "server_error", "message": "The stub failed as asked."} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "model": behaviour.served_model or request.get("model"),
        "output": [] if status in ("in_progress", "failed") else [item],
        "parallel_tool_calls": True,
        "service_tier": behaviour.service_tier,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": request.get("metadata") or {},
    }
    usage = None if status == "in_progress" else _usage("responses", behaviour, request, words)
    return answer | {"usage": usage}


def response_events(behaviour: Behaviour, request: Json, number: int) -> list[bytes]:
    """The event stream of /v1/responses. It has no [DONE]: its last event carries the usage."""
    words, _ = _words_of(behaviour, request)
    opened = response(behaviour, request, number, "in_progress")
    where = {"item_id": "msg_stub0001", "output_index": 0, "content_index": 0}
    blank = {"type": "output_text", "text": "", "annotations": []}
    item = {"type": "message", "id": "msg_stub0001", "status": "in_progress", "role": "assistant", "content": []}
    said = content(words)
    whole = "".join(said)
    plan: list[tuple[str, Json]] = [
        ("response.created", {"response": opened}),
        ("response.in_progress", {"response": opened}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", where | {"part": blank}),
        *(("response.output_text.delta", where | {"delta": word, "logprobs": []}) for word in said),
    ]
    if behaviour.error is not None:
        plan.append(("error", {"code": "server_error", "message": behaviour.error, "param": None}))
    elif behaviour.ending != "failed":
        done = item | {"status": "completed", "content": [blank | {"text": whole}]}
        plan += [
            ("response.output_text.done", where | {"text": whole, "logprobs": []}),
            ("response.content_part.done", where | {"part": blank | {"text": whole}}),
            ("response.output_item.done", {"output_index": 0, "item": done}),
        ]
    if behaviour.done and behaviour.error is None:
        plan.append((f"response.{behaviour.ending}", {"response": response(behaviour, request, number)}))
    return [
        _event({"type": name, "sequence_number": sequence} | data, name) for sequence, (name, data) in enumerate(plan)
    ]


def usage_in(events: list[bytes]) -> Json | None:
    """The usage that a stream reports last, None where it reports none."""
    for event in reversed(events):
        if b'"usage":{' in event:
            data = orjson.loads(event.partition(b"data: ")[2])
            usage: Json = data["response"]["usage"] if "response" in data else data["usage"]
            return usage
    return None


def model_list() -> Json:
    """The answer of /v1/models."""
    return {"object": "list", "data": [model_object(name) for name in MODELS]}


def model_object(name: str) -> Json:
    """One model, as /v1/models/{id} answers."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "stub"}
