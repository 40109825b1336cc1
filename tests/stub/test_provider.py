"""The stub provider does what its behaviours say: other tests take its word."""

import asyncio
import base64
import contextlib
import gzip
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import orjson
import pytest

from tests.installation import until
from tests.stub.answers import content, vector
from tests.stub.provider import Behaviour, StubProvider, closed_port

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
def stub() -> Iterator[StubProvider]:
    with StubProvider() as running:
        yield running


@pytest.fixture
def client(stub: StubProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stub.url, api_key="sk-stub", max_retries=0) as made:
        yield made


def post(stub: StubProvider, body: dict | bytes, path: str = "/chat/completions", **options) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return httpx.post(stub.url + path, content=content, timeout=5, trust_env=False, **options)


def raw(stub: StubProvider, body: dict) -> bytes | str:
    """Everything that comes back until the connection ends, or 'reset'."""
    data = orjson.dumps(body)
    with socket.create_connection(("127.0.0.1", stub.port), 5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        sock.sendall(b"content-length: %d\r\n\r\n" % len(data) + data)
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            return "reset" + got.decode()
        return got


def test_official_client_reads_every_endpoint(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small"]
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == "".join(content(8))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 8)
    assert client.completions.create(model="m", prompt="a b", max_tokens=2).choices[0].finish_reason == "length"
    assert client.responses.create(model="m", input="a b c d").usage.input_tokens == 7
    assert client.responses.create(model="stub-failed", input="a").status == "failed"


def test_official_client_reads_streams(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "".join(content(8))
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [8]
    assert not any(c.usage for c in client.chat.completions.create(**CHAT, stream=True))
    for ending in ("completed", "incomplete", "failed"):
        events = list(client.responses.create(model=f"stub-{ending}", input="a", stream=True))
        assert events[0].type == "response.created"
        assert events[-1].type == f"response.{ending}"
        assert events[-1].response.usage.total_tokens == 12


def test_tool_calls(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    call = client.chat.completions.create(**CHAT, tools=[tool]).choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("look_up", '{"city":"Zürich"}')
    arguments = ""
    for chunk in client.chat.completions.create(**CHAT, tools=[tool], stream=True):
        for part in chunk.choices[0].delta.tool_calls or []:
            arguments += part.function.arguments
    assert arguments == '{"city":"Zürich"}'
    answered = [*CHAT["messages"], {"role": "tool", "tool_call_id": "call_stub0001", "content": "sunny"}]
    assert client.chat.completions.create(model="m", messages=answered, tools=[tool]).choices[0].message.content


def test_embeddings_in_the_asked_encoding(stub: StubProvider) -> None:
    ask = {"model": "e", "input": ["a", "b"], "dimensions": 4}
    floats = post(stub, ask, "/embeddings").json()["data"]
    coded = post(stub, ask | {"encoding_format": "base64"}, "/embeddings").json()["data"]
    assert floats[1]["embedding"] == vector("b", 4)
    assert list(struct.unpack("<4f", base64.b64decode(coded[1]["embedding"]))) == vector("b", 4)


def test_a_call_is_logged_whole(stub: StubProvider) -> None:
    with httpx.Client(trust_env=False) as http:
        http.post(stub.url + "/chat/completions?a=b", json=CHAT, headers={"Authorization": "Bearer sk-1"})
        (call,) = stub.wait_for(lambda calls: bool(calls) and calls[0].whole)
        assert (call.method, call.path, call.json()) == ("POST", "/v1/chat/completions?a=b", CHAT)
        assert call.header("Authorization") == "Bearer sk-1"
        assert (call.status, call.usage["total_tokens"], call.closed_at) == (200, 14, None)
    assert stub.wait_closed(call) >= call.finished_at >= call.came_at
    assert not call.peer_closed


def test_scripts_come_before_models_and_in_order(stub: StubProvider) -> None:
    stub.script(Behaviour(status=500), Behaviour(body=b"[1]"), Behaviour(raw=b"nonsense\r\n"))
    assert post(stub, CHAT).status_code == 500
    assert post(stub, CHAT).content == b"[1]"
    assert raw(stub, CHAT) == b"nonsense\r\n"
    assert post(stub, CHAT).status_code == 200


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_error_statuses(stub: StubProvider, status: int) -> None:
    answer = post(stub, CHAT | {"model": f"stub-{status}"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


def test_headers_a_gateway_must_know(stub: StubProvider) -> None:
    assert post(stub, CHAT | {"model": "stub-429-date"}).headers["retry-after"].endswith("2099 07:28:00 GMT")
    assert post(stub, CHAT | {"model": "stub-redirect"}).headers["location"].startswith("http://")
    for extra in ({}, {"stream": True}, {"model": "stub-429-date"}):
        headers = post(stub, CHAT | extra).headers
        assert {"openai-organization", "set-cookie", "x-ratelimit-remaining-requests"} <= set(headers)


@pytest.mark.parametrize(
    ("word", "reported"),
    [("none", None), ("negative", -6), ("absurd", 10**18), ("string", "6"), ("in-1000-cached-200", 1000)],
)
def test_usage_as_scripted(stub: StubProvider, word: str, reported: object) -> None:
    usage = post(stub, CHAT | {"model": f"stub-{word}"}).json().get("usage")
    assert (usage and usage["prompt_tokens"]) == reported


def test_two_usage_chunks(stub: StubProvider) -> None:
    body = CHAT | {"model": "stub-two", "stream": True, "stream_options": {"include_usage": True}}
    assert post(stub, body).text.count('"usage":{') == 2


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_framings(stub: StubProvider, framing: str) -> None:
    answer = post(stub, CHAT | {"model": f"stub-{framing}"})
    assert answer.json()["usage"]["total_tokens"] == 14
    assert ("content-length" in answer.headers, "transfer-encoding" in answer.headers) == (
        framing == "length",
        framing == "chunked",
    )


def test_gzip(stub: StubProvider) -> None:
    assert post(stub, CHAT | {"model": "stub-gzip"}).json()["object"] == "chat.completion"
    assert "data: [DONE]" in post(stub, CHAT | {"model": "stub-gzip", "stream": True}).text
    with pytest.raises(EOFError):
        gzip.decompress(raw(stub, CHAT | {"model": "stub-truncated"}).partition(b"\r\n\r\n")[2])
    bomb = raw(stub, CHAT | {"model": "stub-bomb"}).partition(b"\r\n\r\n")[2]
    assert len(bomb) < 300_000
    assert len(zlib.decompress(bomb, wbits=31)) > 128 * 1024 * 1024


def test_html_with_200(stub: StubProvider) -> None:
    answer = post(stub, CHAT | {"model": "stub-html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cut", ["reset", "eof"])
def test_cut_at_every_byte(stub: StubProvider, cut: str, stream: bool) -> None:
    body = CHAT | {"stream": stream, "model": "stub-chunks-1"}
    whole = post(stub, body).content
    for at in range(0, len(whole), 7 if stream else 29):
        stub.script(Behaviour(chunks=1, cut=cut, cut_at=at, framing="close"))
        got = raw(stub, body)
        if cut == "reset":
            assert isinstance(got, str), "an end of file instead of a reset"
        else:
            assert len(got.partition(b"\r\n\r\n")[2]) == at
    assert not any(call.whole for call in stub.calls[1:])


def test_cut_inside_a_chunk_announces_the_whole_chunk(stub: StubProvider) -> None:
    got = raw(stub, CHAT | {"model": "stub-eof-10", "stream": True})
    size, _, payload = got.partition(b"\r\n\r\n")[2].partition(b"\r\n")
    assert len(payload) == 10 < int(size, 16)


def test_reset_before_a_byte(stub: StubProvider) -> None:
    assert raw(stub, CHAT | {"model": "stub-refused"}) == "reset"


def test_a_stream_without_done_ends_cleanly(stub: StubProvider) -> None:
    text = post(stub, CHAT | {"model": "stub-nodone", "stream": True}).text
    assert '"finish_reason":"stop"' in text
    assert "[DONE]" not in text


def test_an_error_event_in_the_middle(stub: StubProvider) -> None:
    assert '"type":"server_error"' in post(stub, CHAT | {"model": "stub-midway", "stream": True}).text


def test_hang_and_stall_last_until_the_peer_leaves(stub: StubProvider) -> None:
    for model, sent in (("stub-hang", False), ("stub-stall", True)):
        stub.clear()
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.post(
                stub.url + "/chat/completions",
                json=CHAT | {"model": model, "stream": True},
                timeout=0.1,
                trust_env=False,
            )
        (call,) = stub.wait_calls(1)
        stub.wait_closed(call)
        assert call.peer_closed
        assert not call.whole
        assert bool(call.sent) is sent


def test_holds_wait_for_release(stub: StubProvider) -> None:
    stub.script(Behaviour(hold=2))
    with httpx.stream("POST", stub.url + "/chat/completions", json=CHAT | {"stream": True}, trust_env=False) as answer:
        pieces = answer.iter_raw()
        got = next(pieces)
        (call,) = stub.wait_for(lambda calls: calls[0].pieces_sent == 2)
        assert not call.whole
        stub.release()
        got += b"".join(pieces)
    assert got.endswith(b"data: [DONE]\n\n")


def test_gaps_and_delays_take_their_time(stub: StubProvider) -> None:
    began = time.monotonic()
    post(stub, CHAT | {"model": "stub-chunks-3-gap-20-delay-50", "stream": True})
    assert time.monotonic() - began >= 0.05 + 5 * 0.02  # role, 3 words, finish, [DONE]: five gaps


def test_a_slow_reader_stops_the_stub(stub: StubProvider) -> None:
    with StubProvider(send_buffer=4096) as small:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", small.port))
            data = orjson.dumps(CHAT | {"model": "stub-chunks-20000", "stream": True})
            sock.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data
            )
            small.wait_for(lambda calls: bool(calls) and calls[0].pieces_sent > 10)
            previous = -1
            while previous != (previous := small.calls[0].sent):
                time.sleep(0.1)
            assert small.calls[0].sent < 300_000  # of about 4 MB
        assert small.wait_closed(small.calls[0])
        assert small.calls[0].peer_closed


def test_refused_connections_and_back_again(stub: StubProvider) -> None:
    stub.refuse()
    with pytest.raises(httpx.ConnectError):
        post(stub, CHAT)
    stub.accept()
    assert post(stub, CHAT).status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", closed_port()), 5)


def test_hang_up_after_a_whole_answer(stub: StubProvider) -> None:
    stub.script(Behaviour(hang_up=True))
    with httpx.Client(trust_env=False) as http:
        answer = http.post(stub.url + "/chat/completions", json=CHAT)
        assert "connection" not in answer.headers
        assert stub.wait_closed(stub.calls[0])
        assert not stub.calls[0].peer_closed


def test_unknown_paths_and_bad_json(stub: StubProvider) -> None:
    assert post(stub, CHAT, "/images/generations").status_code == 404
    assert post(stub, b"{").status_code == 400
    assert post(stub, b"[]").status_code == 400


async def test_many_at_once(stub: StubProvider) -> None:
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=50)) as http:
        body = CHAT | {"stream": True}
        answers = await asyncio.gather(*(http.post(stub.url + "/chat/completions", json=body) for _ in range(100)))
    assert all(answer.content.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert len({call.number for call in stub.calls}) == 100


def test_as_a_process_it_prints_its_port_and_logs_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    command = [sys.executable, "-m", "tests.stub.provider", "--port", "0", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1/chat/completions"
            answer = httpx.post(url, json=CHAT, headers={"x-request-id": "abc"}, trust_env=False)
            assert answer.status_code == 200
            until(lambda: log.exists() and log.read_bytes().endswith(b"\n"), 10, "the line of the call")
            line = orjson.loads(log.read_bytes().splitlines()[0])
        finally:
            process.kill()
    assert (line["request_id"], line["whole"], line["usage"]["total_tokens"]) == ("abc", True, 14)
