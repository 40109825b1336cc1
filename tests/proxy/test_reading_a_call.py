"""Reading a body: as a strict reader would, or refused; and what goes to the provider is the client's own bytes."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.body_edit import set_member
from proxy.errors import InvalidRequest
from proxy.forward import asks_for_usage, upstream_body
from proxy.request import CallRequest, Endpoint, read_call

READ = (
    "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "user", "metadata",
    "service_tier", "safety_identifier", "prompt", "input", "messages", "background",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(READ) | st.text(max_size=3), inner),
    max_leaves=6,
)
TYPICAL = {
    "model": st.sampled_from(["a", "gpt", "ü", 'quo"te', ""]),
    "stream": st.booleans() | st.none(),
    "stream_options": st.dictionaries(st.sampled_from(["include_usage", "x"]), st.booleans()) | st.none(),
    "max_tokens": st.integers(1, 9) | st.none(),
    "messages": VALUES,
}


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """JSON text of a value, with the spaces and the escapes that a reader must see through."""
    space = st.sampled_from(["", "", " ", "\n\t"])
    if isinstance(value, str):
        letters = []
        for letter in value:
            plain = json.dumps(letter)[1:-1] if letter in '"\\' or letter < " " or letter >= "\ud800" else letter
            escaped = "".join(f"\\u{ord(unit):04x}" for unit in letter) if ord(letter) < 0xD800 else plain
            letters.append(escaped if draw(st.integers(0, 9)) == 0 else plain)
        return '"' + "".join(letters) + '"'
    if isinstance(value, dict):
        members = [
            f"{draw(space)}{draw(spelled(name))}{draw(space)}:{draw(space)}{draw(spelled(member))}{draw(space)}"
            for name, member in value.items()
        ]
        return "{" + (",".join(members) or draw(space)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(draw(spelled(item)) for item in value) + "]"
    return json.dumps(value)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects much like a call, some with names twice."""
    members: list[tuple[str, Any]] = []
    for name, value in TYPICAL.items():
        if name == "model" or draw(st.booleans()):
            members.append((name, draw(value)))
    members += draw(st.lists(st.tuples(st.sampled_from(READ) | st.text(max_size=4), VALUES), max_size=3))
    members = draw(st.permutations(members))
    text = ",".join(f"{draw(spelled(name))}:{draw(spelled(value))}" for name, value in members)
    return f"{{{text}}}".encode("utf-8", "surrogatepass")


def read(endpoint: Endpoint, body: bytes, header: bytes | None = None) -> CallRequest | None:
    try:
        return read_call(endpoint, body, header)
    except InvalidRequest as error:
        assert error.status == 400
        assert error.body()
        return None


def names_twice(body: bytes) -> set[str]:
    """Names of the top object that occur more than once."""
    top: list[list[tuple[str, Any]]] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        top.append(pairs)
        return dict(pairs)

    json.loads(body.decode(), object_pairs_hook=note)
    names = [name for name, _ in top[-1]]
    return {name for name in names if names.count(name) > 1}


@given(st.sampled_from(Endpoint), st.binary(max_size=200))
@example(Endpoint.CHAT, b"\xff")
@example(Endpoint.CHAT, b'{"model":"\\ud800"}')
def test_no_bytes_raise_anything_else(endpoint: Endpoint, body: bytes) -> None:
    read(endpoint, body)


@given(bodies(), st.binary(max_size=30), st.integers(0, 300))
def test_no_broken_call_raises_anything_else(body: bytes, noise: bytes, where: int) -> None:
    where %= len(body) + 1
    for endpoint in Endpoint:
        read(endpoint, body[:where] + noise + body[where:])
        read(endpoint, body[:where])


@given(st.sampled_from(Endpoint), bodies())
def test_what_is_read_is_what_a_strict_reader_reads(endpoint: Endpoint, body: bytes) -> None:
    call = read(endpoint, body)
    if call is None:
        return
    strict = json.loads(body.decode())
    assert not names_twice(body) & set(READ)
    assert call.model == strict["model"]
    assert call.stream == (strict.get("stream") is True and endpoint is not Endpoint.EMBEDDINGS)
    assert call.wants_usage == ((strict.get("stream_options") or {}).get("include_usage") is True)
    assert call.service_tier == strict.get("service_tier")


@given(st.sampled_from(Endpoint), bodies(), st.sampled_from(["", "own", 'o"\\ü\n']))
def test_the_provider_gets_the_clients_bytes_but_for_alias_and_usage(
    endpoint: Endpoint, body: bytes, own_name: str
) -> None:
    call = read(endpoint, body)
    if call is None:
        return
    sent = upstream_body(call, own_name or call.model)
    changed = bool(own_name and own_name != call.model) or asks_for_usage(call)
    if not changed:
        assert sent == body
        return
    before, after = json.loads(body.decode()), json.loads(sent.decode())
    assert not names_twice(sent) & set(READ)
    assert after.pop("model") == (own_name or call.model)
    options = after.pop("stream_options", None)
    asked = before.pop("stream_options", None)
    assert options == ((asked or {}) | {"include_usage": True} if asks_for_usage(call) else asked)
    del before["model"]
    assert json.dumps(after) == json.dumps(before), "order and spelling of the rest"


@given(st.dictionaries(st.sampled_from(["a", "b", 'c"', "model"]), VALUES, max_size=4), st.data())
def test_one_member_changes_and_the_rest_keeps_its_bytes(document: dict[str, Any], data: st.DataObject) -> None:
    body = data.draw(spelled(document)).encode("utf-8", "surrogatepass")
    changed = set_member(body, "model", "new")
    assert json.loads(changed.decode("utf-8", "surrogatepass")) == document | {"model": "new"}
    assert len(changed) <= len(body) + len('"model":"new",')


def test_a_large_body_is_edited_in_no_time() -> None:
    body = b'{"messages":[{"content":"' + b'A\\"' * 5_000_000 + b'","model":1}],"model":"a"}'
    assert set_member(body, "model", "b").endswith(b'"model":"b"}')
    numbers = b'{"input":[' + b"1," * 5_000_000 + b'1],"model":"a"}'
    began = time.process_time()
    assert set_member(numbers, "model", "b").endswith(b'1],"model":"b"}')
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "member",
    [
        '"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]',
        '"messages":[{"content":[{"type":"image\\u005furl","image_url":{"url":"https://x/y.png"}}]}]',
        '"messages":[{"content":[{"type" : "input_audio"}]}]',
        '"messages":[],"web_search_options":{}',
    ],
)
def test_a_prompt_that_may_grow_beyond_its_bytes_has_no_bound(member: str) -> None:
    call = read_call(Endpoint.CHAT, f'{{"model":"a",{member}}}'.encode(), None)
    assert not call.bounded_input


@pytest.mark.parametrize(
    "member",
    [
        '"previous_response_id":"r"',
        '"prompt":{"id":"p"}',
        '"conversation":"c"',
        '"tools":[{"type":"web_search_preview"}]',
        '"tools":[{"type":"file_search"}]',
        '"input":[{"type":"item_reference","id":"x"}]',
    ],
)
def test_a_response_that_builds_on_what_the_provider_holds_has_no_bound(member: str) -> None:
    call = read_call(Endpoint.RESPONSES, f'{{"model":"a",{member}}}'.encode(), None)
    assert not call.bounded_input


def test_text_and_functions_are_bounded_by_their_bytes() -> None:
    messages = b'[{"content":[{"type":"text","text":"\\u003chi\\u003e"}]}]'
    body = b'{"model":"a","messages":%b,"tools":[{"type":"function"}]}' % messages
    assert read_call(Endpoint.CHAT, body, None).bounded_input


@given(st.binary(max_size=300))
def test_no_tags_header_raises(header: bytes) -> None:
    tags = read_call(Endpoint.CHAT, b'{"model":"a"}', header).tags
    for tag in tags:
        assert tag is None or 0 < len(tag.encode()) <= 4 * 128
