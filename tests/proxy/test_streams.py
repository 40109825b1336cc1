"""Streams: what is in goes out at once and unchanged, usage is asked for and hidden, and a slow reader holds little."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installation import until
from tests.proxy.conftest import MESSAGES, House, events
from tests.stub.provider import Behaviour


def ask(house: House, model: str = "plain", endpoint: str = "chat/completions", **members: Any) -> bytes:
    """A whole raw request for a stream."""
    asked = {"model": model, "stream": True, "messages": MESSAGES, "input": "one two three", **members}
    body = json.dumps(asked).encode()
    return house.head(f"content-length: {len(body)}", path=f"/v1/{endpoint}") + body


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        piece = sock.recv(65536)
        assert piece, got
        got += piece
    return got


def open_calls(house: House) -> float:
    return house.installation.metric("gateway_calls_in_flight")


def record_of_head(house: House, head: bytes) -> dict[str, Any]:
    lines = head.decode("latin-1").lower().split("\r\n")
    request_id = next(line.split(": ")[1] for line in lines if line.startswith("x-request-id"))
    found = until(lambda: house._find(request_id), 10, "record")
    return dict(found)


def newest_record(house: House, model: str, outcome: str, after: float) -> dict[str, Any]:
    """The record of a call whose id the client never saw."""

    def find() -> list[dict[str, Any]]:
        return house.installation.sql(
            "SELECT * FROM usage_usagerecord WHERE model_asked = ? AND outcome = ? AND "
            "unixepoch(admitted_at) >= ? ORDER BY admitted_at DESC LIMIT 1",
            model,
            outcome,
            int(after),
        )

    return dict(until(find, 10, f"a record of {outcome}")[0])


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "responses"])
def test_an_event_goes_out_while_the_provider_is_silent_after_it(house: House, endpoint: str) -> None:
    house.stub.script(Behaviour(hold=1))
    with house.connect() as sock:
        sock.sendall(ask(house, endpoint=endpoint))
        got = read_until(sock, b"data: ")
        assert got.endswith(b"\n\n\r\n")
        assert house.stub.calls[0].pieces_sent == 1
        house.stub.release()
        read_until(sock, b"0\r\n\r\n")


def test_usage_is_asked_for_and_hidden(house: House) -> None:
    answer = house.chat(stream=True)
    sent = house.stub.calls[0].json()
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == {"model": "plain", "messages": MESSAGES, "stream": True}
    assert b"usage" not in answer.content
    assert events(answer.content)[-1] == "[DONE]"
    assert all(event["choices"] for event in events(answer.content)[:-1])
    assert house.record(answer)["estimated"] == 0


def test_what_the_client_said_of_stream_options_is_kept(house: House) -> None:
    options = {"include_obfuscation": False, "include_usage": False, "other": "x"}
    assert b"usage" not in house.chat(stream=True, stream_options=options).content
    assert house.stub.calls[0].json()["stream_options"] == {**options, "include_usage": True}


def test_usage_is_shown_to_a_client_that_asked(house: House) -> None:
    asked = {"model": "plain", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    answer = house.post(body)
    direct = httpx.post(f"{house.stub.url}/chat/completions", content=body, trust_env=False)
    assert house.stub.calls[0].body == body
    assert answer.content.replace(b"stub000001", b"") == direct.content.replace(b"stub000001", b"") or (
        [e if e == "[DONE]" else e | {"id": ""} for e in events(answer.content)]
        == [e if e == "[DONE]" else e | {"id": ""} for e in events(direct.content)]
    )
    assert answer.content.count(b'"usage":null') == len(events(answer.content)) - 2


@pytest.mark.parametrize("spelling", [b',"usage":null', b', "usage": null'])
def test_the_nulls_that_our_question_brings_are_taken_out(house: House, spelling: bytes) -> None:
    event = b'data: {"choices":[{"delta":{"content":"the \\"usage\\":null of it"}}]%b}\n\n'
    body = event % spelling + b"data: [DONE]\n\n"
    house.stub.script(Behaviour(body=body, content_type="text/event-stream"))
    assert house.chat(stream=True).content == event % b"" + b"data: [DONE]\n\n"


def test_an_answer_in_json_to_a_call_for_a_stream_passes_as_it_is(house: House) -> None:
    body = b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}'
    house.stub.script(Behaviour(body=body))
    answer = house.chat(stream=True)
    assert (answer.status_code, answer.content) == (200, body)


def test_events_of_any_size_and_framing_arrive_whole(house: House) -> None:
    big = b'data: {"choices":[{"delta":{"content":"%b"}}]}\r\n\r\n' % (b"x" * 3_000_000)
    body = b": ping\r\n\r\n" + big + b"id: 1\r\n\r\n" + big + b"data: [DONE]\r\n\r\n"
    for framing in ("chunked", "length", "close"):
        house.stub.script(Behaviour(body=body, content_type="text/event-stream", framing=framing))
        assert house.chat(stream=True).content == body


def test_connections_to_the_provider_are_kept_after_streams(house: House) -> None:
    house.chat(stream=True)
    before = house.stub.accepted
    for _ in range(20):
        assert house.chat(stream=True).content.endswith(b"data: [DONE]\n\n")
        call = house.stub.calls[-1]
        house.stub.wait_for(lambda calls, call=call: call.whole)  # its framing may end after its last word
        house.http.get("/healthz")
    assert house.stub.accepted == before


def test_a_stream_that_goes_on_after_its_last_word_is_cut_soon(house: House) -> None:
    body = b"data: [DONE]\n\n"
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    raw += b"%x\r\n%b\r\n" % (len(body), body)
    house.stub.script(Behaviour(raw=raw, cut="stall", cut_at=len(raw) - 1), Behaviour(raw=raw * 2000))
    assert house.chat(stream=True).content == body
    assert house.stub.wait_closed(house.stub.calls[0], 3)
    assert house.chat(stream=True).content == body
    assert house.stub.wait_closed(house.stub.calls[1], 1)
    assert house.chat().status_code == 200


# --- a client that hangs up ---


def test_a_client_that_leaves_in_the_middle(house: House) -> None:
    house.stub.script(Behaviour(chunks=30, hold=20))
    with house.connect() as sock:
        sock.sendall(ask(house))
        house.stub.wait_for(lambda calls: bool(calls) and calls[0].pieces_sent == 20)
        got = b""
        while got.count(b"data: ") < 20:
            got += sock.recv(65536)
        left = time.monotonic()
    assert house.stub.wait_closed(house.stub.calls[0]) - left < 1
    assert house.stub.calls[0].peer_closed
    record = record_of_head(house, got)
    assert (record["outcome"], record["status"], record["estimated"]) == ("client_gone", 200, 1)
    assert record["input_tokens"] > 0
    assert 10 <= record["output_tokens"] <= 40  # 19 words were relayed
    assert open_calls(house) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_first_byte(house: House, *, stream: bool) -> None:
    began = time.time()
    house.stub.script(Behaviour(hold=0))
    with house.connect() as sock:
        sock.sendall(ask(house, "embedder", stream=stream))
        house.stub.wait_calls(1)
        left = time.monotonic()
    assert house.stub.wait_closed(house.stub.calls[0]) - left < 1
    record = newest_record(house, "embedder", "client_gone", began)
    assert (record["status"], record["estimated"], record["output_tokens"]) == (0, 1, 0)
    assert record["input_tokens"] > 0
    assert record["cost"] > 0
    assert open_calls(house) == 0


def test_a_client_that_resets_the_connection(house: House) -> None:
    house.stub.script(Behaviour(hold=1))
    with house.connect() as sock:
        sock.sendall(ask(house))
        read_until(sock, b"data: ")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        left = time.monotonic()
    assert house.stub.wait_closed(house.stub.calls[0]) - left < 1


def test_many_clients_that_leave_at_once_leave_nothing_behind(house: House) -> None:
    began = time.time()
    house.stub.script(*[Behaviour(hold=2) for _ in range(60)])
    socks = [house.connect() for _ in range(60)]
    for sock in socks:
        sock.sendall(ask(house, "alias"))
    calls = house.stub.wait_calls(60)
    for sock in socks:
        sock.close()
    for call in calls:
        house.stub.wait_closed(call)
    until(lambda: open_calls(house) == 0, 5)
    until(
        lambda: (
            house.installation.sql(
                "SELECT count(*) AS n FROM usage_usagerecord WHERE model_asked = 'alias' AND outcome = 'client_gone' "
                "AND unixepoch(admitted_at) >= ?",
                int(began),
            )[0]["n"]
            == 60
        )
    )


# --- a slow reader ---


def resident(house: House) -> int:
    """Resident memory of the gateway process, bytes."""
    assert house.installation.gateway is not None
    status = Path(f"/proc/{house.installation.gateway.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def test_a_slow_reader_holds_little_and_stops_the_provider(house: House) -> None:
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"word " * 200)
    body = event * (50_000_000 // len(event)) + b"data: [DONE]\n\n"
    readers = 8
    before = resident(house)
    house.stub.script(*[Behaviour(body=body, content_type="text/event-stream") for _ in range(readers)])
    socks = []
    for _ in range(readers):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.connect(("127.0.0.1", house.installation.port))
        sock.sendall(ask(house))
        socks.append(sock)
    house.stub.wait_calls(readers)
    for sock in socks:
        assert sock.recv(100)
    seen: list[int] = []
    for _ in range(20):
        seen.append(resident(house))
        time.sleep(0.05)
    grown = (max(seen) - before) / readers
    assert grown < 64 * 1024 + 128 * 1024, f"{grown} bytes a reader"  # 64 KiB held, and what a call itself takes
    for sock in socks:
        sock.close()
    until(lambda: open_calls(house) == 0, 5)


def test_a_reader_that_comes_back_gets_all_of_it(house: House) -> None:
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"word " * 200)
    body = event * 5000 + b"data: [DONE]\n\n"
    house.stub.script(Behaviour(body=body, content_type="text/event-stream"))
    with house.connect() as sock, sock.makefile("rb") as reader:
        sock.sendall(ask(house))
        sock.recv(1)
        time.sleep(0.3)
        while reader.readline() != b"\r\n":
            pass
        got = b""
        while size := int(reader.readline(), 16):
            got += reader.read(size)
            reader.readline()
    assert got == body
