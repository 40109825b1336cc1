"""Events on their way through: however the network cuts them, the same bytes go out and the same is noted."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamIdle
from proxy.request import Endpoint
from proxy.sse import HOLD, EventStream, error_event

NUMBERS = st.integers(-(2**63), 2**63)
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def event(data: Any, *lines: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(line + end for line in (*lines, b"data: " + orjson.dumps(data))) + end


def chat(words: list[str], *, end: bytes = b"\n", null: bool = True) -> tuple[bytes, bytes]:
    """A stream as the provider sends it, and as a client that did not ask for usage gets it."""
    extra = {"usage": None} if null else {}
    sent = [event({"choices": [{"delta": {"content": word}}], **extra}, end=end) for word in words]
    shown = [event({"choices": [{"delta": {"content": word}}]}, end=end) for word in words]
    usage = event({"choices": [], "usage": USAGE}, end=end)
    done = b"data: [DONE]" + end + end
    ping = b": ping" + end + end
    return b"".join([*sent, ping, usage, done]), b"".join([*shown, ping, done])


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def run(stream: EventStream, pieces: list[bytes]) -> bytes:
    out = b""
    for piece in pieces:
        if stream.done:
            break
        out += stream.feed(piece)
    return out


WORDS = st.lists(
    st.text(max_size=20) | st.sampled_from(["error", '"usage":null', "[DONE]", "\n\n", "data: "]), max_size=6
)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_cut_at_every_byte(end: bytes) -> None:
    sent, shown = chat(["one", "zwölf", 'a "usage":null b', "error"], end=end)
    for where in range(len(sent)):
        stream = EventStream(Endpoint.CHAT, hide_usage=True)
        assert run(stream, cut(sent, [where])) == shown
        assert stream.done
        assert stream.usage is not None
        assert stream.usage.input_tokens == 7
    byte_by_byte = EventStream(Endpoint.CHAT, hide_usage=True)
    assert run(byte_by_byte, cut(sent, [1] * len(sent))) == shown


@given(WORDS, st.lists(st.integers(1, 60), max_size=60), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_cut_anywhere(words: list[str], sizes: list[int], end: bytes, null: bool) -> None:
    sent, shown = chat(words, end=end, null=null)
    stream = EventStream(Endpoint.CHAT, hide_usage=True)
    assert run(stream, cut(sent, sizes)) == shown
    assert stream.done
    assert not stream.failed
    open_stream = EventStream(Endpoint.CHAT, hide_usage=False)
    assert run(open_stream, cut(sent, sizes)) == sent


@settings(max_examples=30, deadline=None)
@given(
    st.integers(HOLD - 100, 5 * HOLD), st.lists(st.integers(1, HOLD), max_size=12), st.sampled_from([b"\n", b"\r\n"])
)
def test_events_larger_than_what_is_held(size: int, sizes: list[int], end: bytes) -> None:
    sent, shown = chat(["a", "x" * size, "b", "y" * size], end=end, null=False)
    stream = EventStream(Endpoint.CHAT, hide_usage=True)
    assert run(stream, cut(sent, sizes)) == shown
    assert stream.done
    assert stream.usage is not None


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
@pytest.mark.parametrize("size", [10, 3 * HOLD])
def test_a_response_ends_with_an_event_of_any_size(ending: str, size: int) -> None:
    usage = {"input_tokens": 5, "output_tokens": 6}
    name = b"event: response." + ending.encode()
    last = {"type": f"response.{ending}", "response": {"model": "m", "output": "x" * size, "usage": usage}}
    picture = event({"type": "response.image_generation_call.partial_image", "partial_image_b64": "i" * 5 * HOLD})
    sent = picture + event({"type": "response.output_text.delta", "delta": "hi"}) + event(last, name)
    for step in (997, 16384, len(sent)):
        stream = EventStream(Endpoint.RESPONSES, hide_usage=False)
        assert run(stream, cut(sent, [step] * (len(sent) // step))) == sent
        assert stream.done
        assert stream.usage is not None
        assert (stream.usage.output_tokens, stream.model) == (6, "m")


def test_a_long_event_goes_out_as_it_comes_and_is_not_kept() -> None:
    stream = EventStream(Endpoint.RESPONSES, hide_usage=False)
    start = b'event: response.image_generation_call.partial_image\ndata: {"partial_image_b64":"'
    assert stream.feed(start + b"i" * HOLD) == start + b"i" * HOLD
    for _ in range(2000):
        assert stream.feed(b"i" * 16384) == b"i" * 16384
    assert stream.feed(b'"}\n\n') == b'"}\n\n'


def test_a_long_event_costs_time_by_its_length_only() -> None:
    stream = EventStream(Endpoint.CHAT, hide_usage=True)
    stream.feed(b'data: {"choices":[{"delta":{"content":"')
    for _ in range(2000):
        stream.feed(b"i" * 16000)
    tail = b'"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    assert stream.feed(tail) == tail
    assert stream.usage is not None
    assert stream.done


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"data: {", b'"usage"', b"\n\n", b"error", b"[DONE]"])))
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    for endpoint in Endpoint:
        stream = EventStream(endpoint, hide_usage=True)
        run(stream, [piece for piece in pieces if piece])


@given(
    st.dictionaries(
        st.sampled_from(["usage", "error", "choices", "model", "response", "type", "service_tier"]),
        st.none()
        | NUMBERS
        | st.text(max_size=3)
        | st.lists(NUMBERS, max_size=2)
        | st.just(USAGE)
        | st.dictionaries(st.sampled_from(["prompt_tokens", "input_tokens", "usage"]), NUMBERS | st.text()),
    )
)
def test_no_document_raises(document: dict[str, Any]) -> None:
    for endpoint in Endpoint:
        EventStream(endpoint, hide_usage=True).feed(b"data: " + orjson.dumps(document, default=str) + b"\n\n")


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES])
def test_the_error_event_is_one_event_in_the_endpoints_own_form(endpoint: Endpoint) -> None:
    text = error_event(endpoint, UpstreamIdle("Silent."))
    assert text.count(b"\n\n") == 1
    data = orjson.loads(text.split(b"data: ")[1])
    assert data["error"]["code"] == "upstream_idle_timeout"
    assert (data.get("type") == "error") == (endpoint is Endpoint.RESPONSES)


def test_half_an_emoji_in_the_last_event_does_not_hide_its_end() -> None:
    stream = EventStream(Endpoint.RESPONSES, hide_usage=False)
    sent = b'data: {"type":"response.completed","response":{"output":"cut \\ud83d","usage":{"input_tokens":5}}}\n\n'
    assert stream.feed(sent) == sent
    assert stream.done
    assert stream.usage is not None


def test_an_error_is_shown_even_in_an_event_that_would_be_hidden() -> None:
    """Hidden, it would leave the client without an answer."""
    stream = EventStream(Endpoint.CHAT, hide_usage=True)
    sent = event({"error": {"message": "overloaded"}, "choices": [], "usage": USAGE})
    assert stream.feed(sent) == sent
    assert stream.done
    assert stream.failed
