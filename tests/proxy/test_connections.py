"""HTTP/1.1 as clients speak it: kept connections, pipelines, 1.0, HEAD, Expect, upgrades that nobody here speaks."""

import json
import socket
import time
from typing import Any

import pytest

from tests.proxy.conftest import MESSAGES, House, read_answer
from tests.stub.provider import Behaviour


def call(house: House, *lines: str, version: str = "1.1", **members: Any) -> bytes:
    body = json.dumps({"model": "plain", "messages": MESSAGES, **members}).encode()
    head = house.head(f"content-length: {len(body)}", *lines)
    return head.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1) + body


def test_many_calls_on_one_connection(house: House) -> None:
    with house.connect() as sock:
        held = bytearray()
        for number in range(20):
            sock.sendall(call(house, stream=number % 2 == 1))
            answer = read_answer(sock, held)
            assert (answer.status, bytes(held)) == (200, b"")
            assert "connection" not in answer.headers


def test_pipelined_calls_are_answered_in_their_order(house: House) -> None:
    house.stub.script(Behaviour(delay=0.2))
    kinds = [False, True, False, True, False]
    with house.connect() as sock:
        sock.sendall(b"".join(call(house, stream=stream) for stream in kinds))
        held = bytearray()
        answers = [read_answer(sock, held) for _ in kinds]
    assert [answer.headers["content-type"].startswith("text/event-stream") for answer in answers] == kinds
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(kinds)
    assert len(house.stub.calls) == len(kinds)


def test_continue_is_not_written_into_the_answer_before_it(house: House) -> None:
    house.stub.script(Behaviour(hold=1))
    body = json.dumps({"model": "plain", "messages": MESSAGES}).encode()
    with house.connect() as sock:
        sock.sendall(call(house, stream=True))
        sock.sendall(house.head(f"content-length: {len(body)}", "expect: 100-continue"))
        house.stub.wait_for(lambda calls: bool(calls) and calls[0].pieces_sent == 1)
        time.sleep(0.1)
        house.stub.release()
        held = bytearray()
        first = read_answer(sock, held)
        assert first.body.endswith(b"[DONE]\n\n")
        assert b"Continue" not in first.body
        sock.sendall(body)
        second = read_answer(sock, held)
        assert (second if second.status != 100 else read_answer(sock, held)).status == 200


def test_a_split_request_is_put_together(house: House) -> None:
    data = call(house)
    with house.connect() as sock:
        for byte in data:
            sock.sendall(bytes((byte,)))
        assert read_answer(sock).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0(house: House, *, stream: bool) -> None:
    with house.connect() as sock:
        sock.sendall(call(house, version="1.0", stream=stream))
        answer = read_answer(sock)
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body.endswith(b"[DONE]\n\n") if stream else json.loads(answer.body)["choices"]
        assert sock.recv(1) == b""


def test_http_1_0_that_keeps_the_connection(house: House) -> None:
    with house.connect() as sock:
        for _ in range(2):
            sock.sendall(call(house, "connection: keep-alive", version="1.0"))
            answer = read_answer(sock)
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


def test_connection_close(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(call(house, "connection: close"))
        answer = read_answer(sock)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert sock.recv(1) == b""


def test_head(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(house.head(path="/v1/models", method="HEAD"))
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += sock.recv(65536)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: " in got
        sock.sendall(house.head(path="/v1/models", method="GET"))  # no byte of a body came in between
        assert json.loads(read_answer(sock).body)["object"] == "list"


def test_expect_continue(house: House) -> None:
    body = b'{"model":"plain","messages":[]}'
    with house.connect() as sock:
        sock.sendall(house.head(f"content-length: {len(body)}", "Expect: 100-Continue"))
        assert read_answer(sock).status == 100
        sock.sendall(body)
        assert read_answer(sock).status == 200


def test_expect_continue_of_a_wrong_key_is_refused_at_once(house: House) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n"
    with house.connect() as sock:
        sock.sendall(head)
        assert read_answer(sock).status == 401
        assert sock.recv(1) == b""


def test_a_small_refused_body_is_read_and_the_connection_kept(house: House) -> None:
    body = b"x" * 60_000
    with house.connect() as sock:
        for _ in range(3):
            sock.sendall(house.head(f"content-length: {len(body)}", path="/v1/nothing") + body)
            answer = read_answer(sock)
            assert answer.status == 404
            assert "connection" not in answer.headers


def test_a_large_refused_body_is_not_waited_for(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(house.head("content-length: 1000000", path="/v1/nothing"))
        assert read_answer(sock).status == 404


def test_an_offer_to_upgrade_is_answered_as_if_it_were_none(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(call(house, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"))
        assert read_answer(sock).status == 200
    with house.connect() as sock:
        sock.sendall(house.head("connection: upgrade", "upgrade: websocket", path="/v1/models", method="GET"))
        assert read_answer(sock).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"GET http/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_1_is_400(house: House, data: bytes) -> None:
    with house.connect() as sock:
        sock.sendall(data)
        answer = read_answer(sock)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        answer.error()
        assert sock.recv(1) == b""


def test_an_empty_line_before_a_request_is_forgiven(house: House) -> None:
    assert house.raw(b"\r\n\r\n" + call(house)).status == 200


def test_who_asks_and_never_reads_is_not_served_without_end(house: House) -> None:
    """Answers that nobody takes must not pile up: after some, no further call is made."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", house.installation.port))
        sock.settimeout(1)
        requests = house.head(path="/v1/models", method="GET") * 1000
        with pytest.raises(TimeoutError):
            for _ in range(500):
                sock.sendall(requests)
        assert house.http.get("/healthz").status_code == 200


def test_health_needs_no_key(house: House) -> None:
    assert house.http.get("/healthz").text == "ok\n"
    assert house.http.get("/readyz").json()["status"] == "ready"
    assert "gateway_calls_in_flight" in house.http.get("/metrics").text
