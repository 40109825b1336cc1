"""What a provider does wrong: what the client is told, what is put on record, and that it costs the client nothing."""

import email.utils
import json
import time

import httpx
import openai
import pytest

from tests.proxy.conftest import CREDENTIAL, MESSAGES, RATES, House, events
from tests.stub.provider import Behaviour

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
JSON_BODY = json.dumps({"id": "x", "choices": [{"message": {"content": "hi"}}], "usage": USAGE}).encode()


def faulty(house: House, answer: httpx.Response, status: int, code: str) -> None:
    """The call failed with that error, is on record as the provider's fault, and was not counted."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    record = house.record(answer)
    assert (record["outcome"], record["status"], record["error_code"]) == ("upstream_error", status, code)
    assert record["input_tokens"] == record["output_tokens"] == record["cost"] == record["charge"] == 0
    assert CREDENTIAL not in answer.text
    assert CREDENTIAL not in house.installation.log()


@pytest.mark.parametrize("stream", [False, True])
def test_refused_connection(house: House, *, stream: bool) -> None:
    faulty(house, house.chat("refused", stream=stream), 502, "upstream_unavailable")


def test_unknown_host(house: House) -> None:
    faulty(house, house.chat("nowhere"), 502, "upstream_unavailable")


@pytest.mark.parametrize("stream", [False, True])
def test_silence_before_the_first_byte(house: House, *, stream: bool) -> None:
    house.stub.script(Behaviour(cut="stall"))
    began = time.monotonic()
    faulty(house, house.chat("hasty", stream=stream), 504, "upstream_timeout")
    assert time.monotonic() - began < 3
    house.stub.wait_closed(house.stub.calls[0], 1)


def test_a_head_that_never_ends(house: House) -> None:
    house.stub.script(Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-", cut="stall", cut_at=20))
    faulty(house, house.chat("hasty"), 504, "upstream_timeout")


def test_silence_in_the_middle_of_a_json_answer(house: House) -> None:
    house.stub.script(Behaviour(cut="stall", cut_half=True))
    faulty(house, house.chat("hasty"), 504, "upstream_idle_timeout")


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "responses"])
def test_silence_in_the_middle_of_a_stream(house: House, endpoint: str) -> None:
    house.stub.script(Behaviour(cut="stall", cut_half=True))
    asked = {"model": "hasty", "stream": True, "messages": MESSAGES, "prompt": "a b", "input": "a b"}
    if endpoint == "responses":
        del asked["prompt"]
    answer = house.post(asked, f"/v1/{endpoint}")
    assert answer.status_code == 200
    last = events(answer.content)[-1]
    assert last["error"]["code"] == "upstream_idle_timeout"
    if endpoint == "responses":
        assert (last["type"], last["code"]) == ("error", "upstream_idle_timeout")
        assert answer.content.rpartition(b"event: ")[2].startswith(b"error\n")
    assert b"[DONE]" not in answer.content
    record = house.record(answer)
    assert (record["outcome"], record["status"], record["estimated"]) == ("broken", 200, 1)
    assert record["error_code"] == "upstream_idle_timeout"
    assert record["input_tokens"] > 0
    assert record["output_tokens"] > 0
    assert record["cost"] == record["input_tokens"] * RATES["input"] + record["output_tokens"] * RATES["output"]


@pytest.mark.parametrize("cut", ["reset", "eof"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_json_answer_cut_at_every_byte(house: House, cut: str, framing: str) -> None:
    body = JSON_BODY
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if framing == "length":
        raw = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    else:
        raw = head + b"transfer-encoding: chunked\r\n\r\n40\r\n%b\r\n" % body[:64]
        raw += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 64, body[64:])
    for length in range(1, len(raw)):
        house.stub.script(Behaviour(raw=raw, cut=cut, cut_at=length))
        answer = house.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected"), raw[:length]
    house.stub.script(Behaviour(raw=raw))
    assert house.chat().content == body


@pytest.mark.parametrize("cut", ["reset", "eof"])
def test_a_json_answer_without_a_length_cut_at_every_byte(house: House, cut: str) -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + JSON_BODY
    for length in range(1, len(raw), 3):
        house.stub.script(Behaviour(raw=raw, cut=cut, cut_at=length))
        answer = house.chat()
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] in ("upstream_disconnected", "upstream_invalid_response")
    house.stub.script(Behaviour(raw=raw))
    assert house.chat().content == JSON_BODY


@pytest.mark.parametrize("cut", ["reset", "eof"])
def test_a_stream_cut_at_every_byte(house: House, cut: str) -> None:
    parts = [b'{"choices":[{"delta":{"content":"%b"}}]}' % word for word in (b"one", " zwölf".encode(), b" three")]
    parts.append(b'{"choices":[],"usage":%b}' % json.dumps(USAGE).encode())
    stream = b"".join(b"data: %b\n\n" % part for part in (*parts, b"[DONE]"))
    shown = stream.replace(b"data: %b\n\n" % parts[-1], b"")
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    raw += b"%x\r\n%b\r\n" % (len(stream), stream)
    for length in range(1, len(raw) - 3):
        house.stub.script(Behaviour(raw=raw, cut=cut, cut_at=length))
        answer = house.chat(stream=True)
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected")
            continue
        assert b"[DONE]" not in answer.content
        relayed, _, error = answer.content.rpartition(b"data: ")
        assert shown.startswith(relayed)
        assert relayed.endswith(b"\n\n")
        assert json.loads(error)["error"]["code"] == "upstream_disconnected"
    record = house.record(answer)
    assert (record["outcome"], record["error_code"]) == ("broken", "upstream_disconnected")
    house.stub.script(Behaviour(raw=raw, cut=cut, cut_at=len(raw) - 2))
    answer = house.chat(stream=True)
    assert answer.content == shown
    assert (house.record(answer)["outcome"], house.record(answer)["output_tokens"]) == ("ok", 2)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(body=b"<html>busy</html>", content_type="text/html"),
        Behaviour(body=b""),
        Behaviour(body=b"[]"),
        Behaviour(body=b"null"),
        Behaviour(body=b'{"id":'),
        Behaviour(body=b'{"id":NaN}'),
        Behaviour(body=b"\xff\xfe"),
        Behaviour(body=b'{"a":' + b"[" * 100_000),
        Behaviour(gzip="truncated"),
        Behaviour(gzip="bomb"),
        Behaviour(body=JSON_BODY, headers=(("content-encoding", "br"),)),
        Behaviour(body=JSON_BODY, headers=(("content-encoding", "gzip"),)),
        Behaviour(status=302, headers=(("location", "/elsewhere"),)),
        Behaviour(status=307, headers=(("location", "/v1/chat/completions"),)),
        Behaviour(status=204, body=b""),
        Behaviour(status=201),
        Behaviour(status=404, body=b"<html>not found</html>", content_type="text/html"),
        Behaviour(raw=b"HTTP/1.1 204 No Content\r\n\r\n"),
        Behaviour(raw=b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        Behaviour(raw=b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nx"),
        Behaviour(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
        Behaviour(raw=b"HTTP/1.1 2000 OK\r\n\r\n{}"),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 2\r\n\r\n{}"),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\ncontent-length: 2\r\n\r\n{}"),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_used(house: House, behaviour: Behaviour) -> None:
    house.stub.script(behaviour)
    faulty(house, house.chat(), 502, "upstream_invalid_response")
    assert len(house.stub.calls) == 1, "a redirect is never followed"


def test_an_endless_head_is_given_up(house: House) -> None:
    house.stub.script(Behaviour(raw=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 50_000_000))
    faulty(house, house.chat(), 502, "upstream_invalid_response")


def test_compressed_json_that_was_not_asked_for_is_unpacked(house: House) -> None:
    house.stub.script(Behaviour(gzip="ok"))
    answer = house.chat()
    assert answer.json()["choices"]
    assert "content-encoding" not in answer.headers


def test_a_compressed_stream_that_was_not_asked_for(house: House) -> None:
    house.stub.script(Behaviour(gzip="ok"))
    faulty(house, house.chat(stream=True), 502, "upstream_invalid_response")


def test_interim_answers_are_skipped(house: House) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-type: a/b\r\n\r\n"
    raw += b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(JSON_BODY)
    house.stub.script(Behaviour(raw=raw + JSON_BODY))
    answer = house.chat()
    assert answer.content == JSON_BODY
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("extra", [b"\r\n", b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"])
def test_what_follows_a_whole_answer_is_no_part_of_it(house: House, extra: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(JSON_BODY)
    house.stub.script(Behaviour(raw=raw + JSON_BODY + extra, hang_up=False))
    assert house.chat().content == JSON_BODY
    assert house.chat().status_code == 200


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_credential_is_the_operators_matter(house: House, status: int, *, stream: bool) -> None:
    alerts = house.installation.log().count("ALERT")
    house.stub.script(Behaviour(status=status))
    faulty(house, house.chat(stream=stream), 502, "provider_auth_error")
    assert house.installation.log().count("ALERT") == alerts + 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_the_providers_own_fault(house: House, status: int) -> None:
    house.stub.script(Behaviour(status=status))
    faulty(house, house.chat(), 502, "upstream_error")


def test_an_error_object_under_200(house: House) -> None:
    house.stub.script(Behaviour(body=b'{"error":{"message":"secret words of the provider"}}'))
    answer = house.chat()
    faulty(house, answer, 502, "upstream_error")
    assert "secret" not in answer.text


def in_seconds(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 1, 1),
        (" 30 ", 30, 30),
        ("999999999999999999999", 3600, 3600),
        (60, 55, 61),
        (-500, 1, 1),
        (10**6, 3600, 3600),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600, 3600),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 1, 1),
    ],
)
def test_retry_after_is_kept_within_reason(house: House, given: str | int, least: int, most: int) -> None:
    value = in_seconds(given) if isinstance(given, int) else given
    house.stub.script(Behaviour(status=429, headers=(("retry-after", value),)))
    answer = house.chat()
    faulty(house, answer, 429, "rate_limit_exceeded")
    assert least <= int(answer.headers["retry-after"]) <= most
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "٣", "Wed, 99 Foo 2099", "Fri, 31 Dec 99999999 23:59:59 GMT"]
)
def test_retry_after_that_cannot_be_read_is_dropped(house: House, value: str) -> None:
    head = f"HTTP/1.1 429 Too Many\r\nretry-after: {value}\r\ncontent-length: 2\r\n\r\n{{}}"
    house.stub.script(Behaviour(raw=head.encode()))
    answer = house.chat()
    faulty(house, answer, 429, "rate_limit_exceeded")
    assert "retry-after" not in answer.headers


# --- usage ---


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings", "responses"])
@pytest.mark.parametrize("usage", ["none", "negative", "absurd", "string"])
def test_usage_that_cannot_be_believed_is_counted_here(house: House, endpoint: str, usage: str) -> None:
    house.stub.script(Behaviour(usage=usage))
    answer = house.post({"model": "plain", "messages": MESSAGES, "input": "one two three"}, f"/v1/{endpoint}")
    assert answer.status_code == 200
    record = house.record(answer)
    assert (record["outcome"], record["estimated"]) == ("ok", 1)
    assert 0 <= record["input_tokens"] < 100
    assert 0 <= record["output_tokens"] < 100
    assert (record["output_tokens"] > 0) == (endpoint != "embeddings")


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "responses"])
@pytest.mark.parametrize("usage", ["none", "negative", "absurd", "string"])
def test_usage_of_a_stream_that_cannot_be_believed_is_counted_here(house: House, endpoint: str, usage: str) -> None:
    house.stub.script(Behaviour(usage=usage))
    asked = {"model": "plain", "stream": True, "messages": MESSAGES, "input": "one two three"}
    answer = house.post(asked, f"/v1/{endpoint}")
    record = house.record(answer)
    assert (record["outcome"], record["estimated"], record["stream"]) == ("ok", 1, 1)
    assert 0 < record["output_tokens"] < 100
    if endpoint != "responses":
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert b'"usage"' not in answer.content


def test_of_two_usage_chunks_the_last_holds_and_both_are_hidden(house: House) -> None:
    house.stub.script(Behaviour(usage="two", input_tokens=11, output_tokens=5))
    answer = house.chat(stream=True)
    assert b'"usage"' not in answer.content
    record = house.record(answer)
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (11, 5, 0)


def test_believable_usage_is_taken(house: House) -> None:
    house.stub.script(Behaviour(input_tokens=1000, cached_tokens=200, output_tokens=50, reasoning_tokens=20))
    record = house.record(house.chat())
    assert (record["input_tokens"], record["cached_tokens"]) == (1000, 200)
    assert (record["output_tokens"], record["reasoning_tokens"], record["estimated"]) == (50, 20, 0)
    assert (record["outcome"], record["provider_request_id"]) == ("ok", "req_stub")


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "responses"])
def test_a_stream_that_ends_quietly_without_its_closing_event(house: House, endpoint: str) -> None:
    house.stub.script(Behaviour(done=False))
    answer = house.post({"model": "plain", "stream": True, "messages": MESSAGES, "input": "a"}, f"/v1/{endpoint}")
    assert b"[DONE]" not in answer.content
    assert events(answer.content)[-1]["error"]["code"] == "upstream_disconnected"
    record = house.record(answer)
    assert (record["outcome"], record["error_code"]) == ("broken", "upstream_disconnected")


@pytest.mark.parametrize("endpoint", ["chat/completions", "responses"])
def test_an_error_event_of_the_provider_passes_and_ends_the_stream(house: House, endpoint: str) -> None:
    house.stub.script(Behaviour(error="The provider is sorry."))
    answer = house.post({"model": "plain", "stream": True, "messages": MESSAGES, "input": "a"}, f"/v1/{endpoint}")
    last = events(answer.content)[-1]
    assert "The provider is sorry." in json.dumps(last)
    assert b"[DONE]" not in answer.content
    record = house.record(answer)
    assert (record["outcome"], record["error_code"], record["estimated"]) == ("broken", "provider_error_event", 1)


@pytest.mark.parametrize("ending", ["incomplete", "failed"])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_that_end_otherwise_still_tell_their_usage(house: House, ending: str, *, stream: bool) -> None:
    house.stub.script(Behaviour(ending=ending, input_tokens=12, output_tokens=3))
    record = house.record(house.post({"model": "plain", "input": "a", "stream": stream}, "/v1/responses"))
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (12, 3, 0)


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(cut="reset", cut_half=True), Behaviour(cut="eof", cut_half=True), Behaviour(done=False)],
    ids=["reset", "eof", "no done"],
)
def test_the_official_client_raises_when_a_stream_breaks(house: House, behaviour: Behaviour) -> None:
    client = openai.OpenAI(api_key=house.key, base_url=f"{house.installation.url}/v1", max_retries=0)
    house.stub.script(behaviour, behaviour)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "a"}], stream=True))
    with pytest.raises(openai.APIError):
        list(client.responses.create(model="plain", input="a", stream=True))


# --- pooled connections ---


def test_a_connection_that_the_provider_closed_meanwhile_is_replaced(house: House) -> None:
    house.stub.script(Behaviour(hang_up=True))
    assert house.chat().status_code == 200
    assert house.chat().status_code == 200
    house.stub.refuse()
    house.stub.accept()
    assert house.chat().status_code == 200


def test_a_call_that_the_provider_had_for_a_while_is_not_sent_twice(house: House) -> None:
    assert house.chat().status_code == 200  # so that a connection waits in the pool
    house.stub.clear()
    house.stub.script(Behaviour(delay=1.5, cut="eof"))
    faulty(house, house.chat(), 502, "upstream_disconnected")
    assert len(house.stub.calls) == 1


# --- texts ---

HALF_AN_EMOJI = b'{"choices":[{"index":0,"message":{"content":"cut \\ud83d"},"delta":{"content":"cut \\ud83d"}}]%b}'


@pytest.mark.parametrize("usage", [b"", b',"usage":{"prompt_tokens":5,"completion_tokens":1}'])
def test_a_text_that_was_cut_inside_an_emoji_passes(house: House, usage: bytes) -> None:
    body = HALF_AN_EMOJI % usage
    house.stub.script(Behaviour(body=body))
    answer = house.chat()
    assert (answer.status_code, answer.content) == (200, body)
    assert house.record(answer)["output_tokens"] > 0


@pytest.mark.parametrize("content", [b'"cut \\ud83d"', b'"\\x"', b'"\xff\xfe"', b"7", b"[1]", b'{"content":"a"}'])
def test_odd_texts_in_a_stream_pass_and_are_counted_somehow(house: House, content: bytes) -> None:
    body = b'data: {"choices":[{"delta":{"content":%b}}]}\n\n' % content * 2000 + b"data: [DONE]\n\n"
    house.stub.script(Behaviour(body=body, content_type="text/event-stream"))
    answer = house.chat(stream=True)
    assert answer.content == body
    record = house.record(answer)
    assert (record["outcome"], record["estimated"]) == ("ok", 1)
