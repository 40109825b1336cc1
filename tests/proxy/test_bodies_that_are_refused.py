"""Whatever a client sends as a body: 400 with `param`, or 413, in OpenAI's shape; never 500, and nothing goes on."""

import gzip
import json
import socket
import time
from typing import Any

import pytest

from tests.proxy.conftest import House, read_answer

GOOD = b'{"model":"plain","messages":[{"role":"user","content":"hi"}]'
LIMIT = 32 * 1024 * 1024


def refused(house: House, body: bytes, path: str = "/v1/chat/completions") -> dict[str, Any]:
    answer = house.post(body, path)
    assert answer.status_code == 400, answer.text
    document = answer.json()
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"]
    assert house.stub.calls == []
    return dict(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"[1,2]",
        b'"text"',
        b"null",
        b"17",
        b"{",
        GOOD,
        GOOD + b"}}",
        GOOD + b',"temperature":NaN}',
        GOOD + b',"temperature":-Infinity}',
        GOOD + b",}",
        GOOD + b',"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        GOOD + b',"a":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        b"[" * 10_000,
        GOOD + b',"a":"\xff\xfe"}',
        GOOD + b',"a":"\xed\xa0\x80"}',
        GOOD + b',"a":"\\ud800"}',
        GOOD + b',"a":"\\udc00\\ud800"}',
        GOOD + b',"a":"line\nbreak"}',
        b"\xef\xbb\xbf" + GOOD + b"}",
        (GOOD + b"}").decode().encode("utf-16"),
        GOOD + b"}\0",
        GOOD + b',"a":01}',
        GOOD + b" // comment\n}",
    ],
)
def test_no_json_object(house: House, body: bytes) -> None:
    assert refused(house, body)["code"] == "invalid_json"


@pytest.mark.parametrize("depth", [900, 1000, 1020, 1024, 1100])
def test_nesting_near_the_parsers_limit_is_answered_one_way_or_the_other(house: House, depth: int) -> None:
    nested = b'"a":' + b"[" * depth + b"]" * depth
    # A name that occurs twice takes the slow way, which has a limit of its own.
    for body in (GOOD + b"," + nested + b"}", GOOD + b',"x":{"user":1},"y":{"user":1},' + nested + b"}"):
        assert house.post(body).status_code in (200, 400)


def test_huge_numbers_in_fields_that_are_not_read_pass(house: House) -> None:
    body = GOOD + b',"seed":' + b"9" * 30 + b',"x":{"user":1},"y":{"user":' + b"9" * 300 + b"}}"
    assert house.post(body).status_code == 200
    assert house.stub.calls[-1].body == body


def test_a_number_beyond_all_readers(house: House) -> None:
    assert refused(house, GOOD + b',"seed":' + b"9" * 100_000 + b"}")["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("twice", "param"),
    [
        (b'"model":"plain"', "model"),
        (b'"model" :\t"other"', "model"),
        (b'"mod\\u0065l":"other"', "model"),
        (b'"\\u006d\\u006F\\u0064el":"other"', "model"),
        (b'"max_tokens":1,"max\\u005ftokens":9', "max_tokens"),
        (b'"max_tokens":1,"max\\u005Ftokens":9', "max_tokens"),
        (b'"stream":false,"stream":true', "stream"),
        (b'"stream_options":{"include_usage":true},"stream_options":{}', "stream_options"),
        (b'"stream_options":{"include_usage":true,"include_usage":false}', "include_usage"),
        (b'"stream_options":{"include_usage":true,"include_us\\u0061ge":false}', "include_usage"),
        (b'"metadata":{"session":"a","session":"b"}', "session"),
        (b'"metadata":{"session":"a","\\u0073ession":"b"}', "session"),
        (b'"metadata":{"a":"b"},"metadata":{"session":"b"}', "metadata"),
        (b'"n":1,"n":100', "n"),
        (b'"user":"a","user":"b"', "user"),
        (b'"messages":[]', "messages"),
        (b'"tools":[],"tools":[]', "tools"),
        (b'"service_tier":"flex","service_tier":"priority"', "service_tier"),
    ],
)
def test_a_name_that_is_read_occurs_twice(house: House, twice: bytes, param: str) -> None:
    error = refused(house, GOOD + b"," + twice + b"}")
    assert (error["code"], error["param"]) == ("invalid_json", param)


@pytest.mark.parametrize("name", ["Model", "MODEL", "mOdel", "Max_Tokens", "ſtream", "Prompt"])
def test_a_name_that_some_readers_would_take_for_one_that_is_read(house: House, name: str) -> None:
    error = refused(house, GOOD + f',"{name}":"other"}}'.encode())
    assert (error["code"], error["param"]) == ("invalid_json", name)


@pytest.mark.parametrize(
    "more",
    [
        b',"foo":1,"foo":2',
        b',"foo":1,"foo":2,"\\u0066oo":3',
        b',"a":{"model":"x","model":"y"}',
        b',"metadata":{"color":"a","color":"b"}',
        b',"x":[{"user":"a"},{"user":"b"}],"seed":1,"seed":2',
        b',"functionCall":"auto","Foo":1',
    ],
)
def test_names_that_are_not_read_may_occur_twice(house: House, more: bytes) -> None:
    body = GOOD + more + b"}"
    assert house.post(body).status_code == 200
    assert house.stub.calls[-1].body == body


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("model", None),
        ("model", ""),
        ("model", 4),
        ("model", ["plain"]),
        ("model", "x" * 201),
        ("stream", "yes"),
        ("stream", 1),
        ("stream_options", []),
        ("stream_options", "include_usage"),
        ("stream_options", {"a": {"b": 1}}),
        *(
            (name, value)
            for name in ("max_tokens", "max_completion_tokens")
            for value in ("many", -1, 0, 10**18, 10**30, 1.5, True, [], {})
        ),
        ("n", 0),
        ("n", "2"),
        ("n", 10**6),
        ("n", 2.0),
        ("metadata", []),
        ("metadata", "session=a"),
        ("user", 7),
        ("user", {}),
        ("safety_identifier", 1),
        ("service_tier", 1),
        ("service_tier", ["flex"]),
    ],
)
def test_wrong_type_names_the_field(house: House, member: str, value: Any) -> None:
    document = {"model": "plain", "messages": [], member: value}
    assert refused(house, json.dumps(document).encode())["param"] == member


def test_include_usage_must_be_true_or_false(house: House) -> None:
    document = {"model": "plain", "messages": [], "stream": True, "stream_options": {"include_usage": "yes"}}
    assert refused(house, json.dumps(document).encode())["param"] == "include_usage"


@pytest.mark.parametrize(
    ("path", "member", "value"),
    [
        ("/v1/completions", "best_of", -1),
        ("/v1/completions", "max_tokens", "many"),
        ("/v1/responses", "max_output_tokens", 10**18),
        ("/v1/responses", "stream", "yes"),
        ("/v1/embeddings", "user", 5),
        ("/v1/embeddings", "model", 5),
        # It would be worked on after the answer, where nobody here sees what it used.
        ("/v1/responses", "background", True),
        ("/v1/responses", "background", "yes"),
    ],
)
def test_wrong_type_on_the_other_endpoints(house: House, path: str, member: str, value: Any) -> None:
    document = {"model": "plain", "input": "a", member: value}
    assert refused(house, json.dumps(document).encode(), path)["param"] == member


def test_null_is_the_same_as_absent(house: House) -> None:
    names = ("stream", "stream_options", "max_tokens", "n", "user", "metadata", "service_tier", "safety_identifier")
    body = GOOD + b"".join(b',"%b":null' % name.encode() for name in names) + b"}"
    assert house.post(body).status_code == 200
    assert house.stub.calls[-1].body == body


def test_unknown_model(house: House) -> None:
    answer = house.chat("no such model")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    "packed", [gzip.compress(GOOD + b"}"), gzip.compress(b" " * 50_000_000)], ids=["plain", "bomb"]
)
def test_compressed_bodies_are_refused(house: House, packed: bytes) -> None:
    answer = house.post(packed, content_encoding="gzip")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "content-encoding"
    assert house.stub.calls == []


# --- size ---


def test_a_length_over_the_limit_is_refused_before_the_body(house: House) -> None:
    answer = house.raw(house.head(f"content-length: {LIMIT + 1}"))
    assert answer.status == 413
    assert answer.error()["code"] == "request_too_large"
    assert answer.headers["connection"] == "close"


def test_a_length_over_the_limit_is_refused_instead_of_continue(house: House) -> None:
    assert house.raw(house.head(f"content-length: {LIMIT + 1}", "expect: 100-continue")).status == 413


def test_a_body_that_grows_over_the_limit_is_refused_while_it_arrives(house: House) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with house.connect() as sock:
        sock.sendall(house.head("transfer-encoding: chunked"))
        sent = 0
        sock.settimeout(5)
        while sent <= LIMIT:
            sock.sendall(piece)
            sent += 0x10000
        answer = read_answer(sock)  # the end of the body was never sent
    assert answer.status == 413
    assert answer.error()["code"] == "request_too_large"


def test_a_client_that_sends_on_after_a_refusal_still_reads_it(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(house.head(f"content-length: {LIMIT + 1}") + b" " * 1_000_000)
        assert read_answer(sock).status == 413
        assert sock.recv(10) == b""


def test_a_body_of_exactly_the_limit_passes(house: House) -> None:
    body = GOOD + b"}"
    body += b" " * (LIMIT - len(body))
    answer = house.raw(house.head(f"content-length: {len(body)}") + body)
    assert answer.status == 200
    assert len(house.stub.calls[-1].body) == LIMIT


# --- framing ---


def framed(house: House, *lines: str, body: bytes = b"") -> int:
    answer = house.raw(house.head(*lines) + body)
    assert answer.error()["code"]
    assert answer.headers["connection"] == "close"
    assert house.stub.calls == []
    return answer.status


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 5"),
        ("content-length: 5", "content-length: 5"),
        ("content-length: 5", "content-length: 6"),
        ("content-length: 5, 5",),
        ("content-length: +5",),
        ("content-length: -5",),
        ("content-length: 0x5",),
        ("content-length: 5_0",),
        ("content-length: 99999999999999999999999",),
        ("content-length:",),
        ("transfer-encoding: gzip",),
        ("transfer-encoding: gzip, chunked",),
        ("transfer-encoding: identity", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding : chunked",),
        ("x-folded: a\r\n b",),
        ("x-control: a\x00b",),
        ("x-control: a\x0bb",),
        ("x-control: a\rb",),
        ("x-bare: a\nb: c",),
        ("no colon",),
        (" leading: space",),
    ],
)
def test_requests_that_two_readers_would_frame_differently_are_refused(house: House, lines: tuple[str, ...]) -> None:
    assert framed(house, *lines, body=b"0\r\n\r\n") == 400


@pytest.mark.parametrize("body", [b"-1\r\n", b"zz\r\n", b"ffffffffffffffffff\r\n", b"5\nhello\n0\n\n", b"5\r\nhelloXX"])
def test_broken_chunks_are_refused(house: House, body: bytes) -> None:
    assert framed(house, "transfer-encoding: chunked", body=body) == 400


def test_lines_that_end_with_a_bare_line_feed_are_refused(house: House) -> None:
    answer = house.raw(b"POST /v1/chat/completions HTTP/1.1\nhost: x\n\n")
    assert answer.status == 400
    answer.error()


def test_a_length_that_is_too_short_leaves_json_that_is_cut(house: House) -> None:
    body = GOOD + b"}"
    with house.connect() as sock:
        sock.sendall(house.head(f"content-length: {len(body) - 1}") + body)
        assert read_answer(sock).error()["code"] == "invalid_json"
        assert sock.recv(10) == b""  # what is left over is no request, and ends the connection


def test_a_length_that_is_too_long_waits_for_the_rest(house: House) -> None:
    body = GOOD + b"}"
    with house.connect() as sock:
        sock.sendall(house.head(f"content-length: {len(body) + 5}") + body)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert house.stub.calls == []
        sock.settimeout(20)
        sock.sendall(b"     ")
        assert read_answer(sock).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_trace(house: House) -> None:
    before = house.installation.metric("gateway_connections")
    with house.connect() as sock:
        sock.sendall(house.head("content-length: 100") + b"{")
    deadline = time.monotonic() + 5
    while house.installation.metric("gateway_connections") > before:
        assert time.monotonic() < deadline
    assert house.stub.calls == []


def test_trailers_are_no_headers(house: House) -> None:
    body = GOOD + b',"user":"%b"}' % (b"u" * 40_000)
    chunked = b"%x\r\n%b\r\n0\r\nauthorization: Bearer x\r\nidempotency-key: trailer\r\n\r\n" % (len(body), body)
    answer = house.raw(house.head("transfer-encoding: chunked") + chunked)
    assert answer.status == 200
    assert house.stub.calls[-1].header("idempotency-key") is None


def test_a_refusal_is_read_even_when_the_client_shuts_its_side(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(b"NONSENSE\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_answer(sock).status == 400
