"""What a request's head may hold, and what of either side's headers reaches the other."""

import httpx
import pytest

from tests.proxy.conftest import CREDENTIAL, MESSAGES, House, read_answer
from tests.stub.provider import Behaviour

BODY = b'{"model":"plain","messages":[]}'
LENGTH = f"content-length: {len(BODY)}"


# --- authorization ---


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("authorization:",),
        ("authorization: {key}",),
        ("authorization: Bearer",),
        ("authorization: Bearer  ",),
        ("authorization: Bearer {key} {key}",),
        ("authorization: Bearer {key}x",),
        ("authorization: Bearer,{key}",),
        ("authorization: Basic {key}",),
        ("authorization: Bearer \xff\xfe",),
        ("authorization: Bearer sk-1234567890",),
        ("authorization: Bearer {key}", "authorization: Bearer {key}"),
        ("authorization: Bearer {key}", "Authorization: Bearer sk-other"),
        ("x-api-key: {key}",),
    ],
)
def test_anything_but_one_bearer_key_is_401(house: House, lines: tuple[str, ...]) -> None:
    filled = "".join(f"{line.format(key=house.key)}\r\n" for line in lines)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{filled}{LENGTH}\r\n\r\n"
    answer = house.raw(head.encode("latin-1") + BODY)
    assert answer.status == 401
    assert answer.error()["code"] == "invalid_api_key"
    assert house.stub.calls == []


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer ", "bEaReR"])
def test_the_scheme_is_read_in_any_case(house: House, scheme: str) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nAUTHORIZATION: {scheme} {house.key}\r\n{LENGTH}\r\n\r\n"
    assert house.raw(head.encode() + BODY).status == 200


# --- host ---


@pytest.mark.parametrize("host", ["gateway", "other"])
def test_two_host_headers_are_refused(house: House, host: str) -> None:
    answer = house.raw(house.head(f"Host: {host}", LENGTH) + BODY)
    assert answer.status == 400
    assert "Host" in answer.error()["message"]
    assert house.stub.calls == []
    assert house.raw(house.head(f"Host: {host}", path="/admin/", method="GET")).status == 400


# --- size ---


def test_100_kib_of_headers_in_many(house: House) -> None:
    answer = house.raw(house.head(*(f"x-{number}: {'v' * 1000}" for number in range(100))))
    assert answer.status == 431
    assert answer.error()["code"] == "headers_too_large"


def test_100_kib_in_one_header(house: House) -> None:
    assert house.raw(house.head("x-long: " + "v" * 100 * 1024)).status == 431


def test_a_target_of_100_kib(house: House) -> None:
    assert house.raw(house.head(path="/v1/models/" + "m" * 100 * 1024, method="GET")).status == 431


@pytest.mark.parametrize("start", [b"x-endless: ", b"x-endless"])
def test_a_header_without_an_end_is_refused_while_it_arrives(house: House, start: bytes) -> None:
    with house.connect() as sock:
        sock.sendall(house.head()[:-2] + start)
        for _ in range(64):
            sock.sendall(b"v" * 16384)
        answer = read_answer(sock)
    assert answer.status == 431
    answer.error()


def test_an_endless_trailer_is_refused_while_it_arrives(house: House) -> None:
    with house.connect() as sock:
        sock.sendall(house.head("transfer-encoding: chunked") + b"1\r\n{\r\n0\r\nx-endless: ")
        for _ in range(64):
            sock.sendall(b"v" * 16384)
        assert read_answer(sock).status == 431


# --- tags ---


@pytest.mark.parametrize("code", ["\r", "\n", "\x00", "\x01", "\x0b", "\x1b", "\x7f"])
def test_control_characters_in_tags_are_no_http(house: House, code: str) -> None:
    answer = house.raw(house.head(f"x-gateway-tags: workflow=a{code}b", LENGTH) + BODY)
    assert answer.status == 400
    assert house.stub.calls == []


@pytest.mark.parametrize(
    ("value", "workflow", "env"),
    [
        (b"workflow=w1,env=prod", "w1", "prod"),
        (b" workflow = w1 , env=a=b ", "w1", "a=b"),
        (b"workflow=first,workflow=second", "first", ""),
        (b"unknown=x,,=,env,workflow=w", "w", ""),
        ("workflow=Zürich ☂,env=\u2028x\x85y".encode(), "Zürich ☂", "xy"),
        (b"workflow=\xff\xfe\xfd", "\ufffd\ufffd\ufffd", ""),
        (b"workflow=" + b"w" * 1000, "w" * 128, ""),
        (b"workflow=a\tb", "ab", ""),
        (b"", "", ""),
    ],
)
def test_tags_are_cleaned_and_bounded(house: House, value: bytes, workflow: str, env: str) -> None:
    head = house.head(LENGTH)[:-2] + b"x-gateway-tags: " + value + b"\r\n\r\n"
    answer = house.raw(head + BODY)
    assert answer.status == 200
    record = house.record(answer)
    assert (record["workflow"] or "", record["env"] or "") == (workflow, env)


def test_tags_of_the_body_with_control_characters_are_cleaned(house: House) -> None:
    answer = house.chat(metadata={"workflow": "a\r\nInjected: b\x00", "execution": 7, "env": True}, user="u\n1")
    record = house.record(answer)
    assert (record["workflow"], record["execution"], record["env"] or "") == ("aInjected: b", "7", "")
    assert "u1" not in str(record)
    assert len(record["session"]) == 32


# --- towards the provider ---


def test_the_provider_gets_exactly_these_headers(house: House) -> None:
    sent = {
        "accept": "application/json",
        "accept-encoding": "gzip, br",
        "openai-beta": "assistants=v2",
        "idempotency-key": "once",
        "openai-organization": "org-client",
        "openai-project": "proj-client",
        "openai-platform": "platform-client",
        "cookie": "sid=client",
        "x-forwarded-for": "10.1.2.3",
        "x-forwarded-host": "client.example",
        "x-real-ip": "10.1.2.3",
        "forwarded": "for=10.1.2.3",
        "te": "trailers",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "keep-alive": "timeout=5",
        "proxy-authorization": "Basic x",
        "x-gateway-tags": "workflow=w",
        "user-agent": "n8n",
        "referer": "http://inside.example/",
        "x-stainless-lang": "js",
        "content-type": "application/json; charset=utf-8",
    }
    head = house.head(*(f"{name}: {value}" for name, value in sent.items()), LENGTH, path="/v1/chat/completions?x=1")
    assert house.raw(head + BODY).status == 200
    call = house.stub.calls[-1]
    assert (call.method, call.path, call.body) == ("POST", "/v1/chat/completions", BODY)
    assert sorted(call.headers) == [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", f"Bearer {CREDENTIAL}"),
        ("content-length", str(len(BODY))),
        ("content-type", "application/json"),
        ("host", f"127.0.0.1:{house.stub.port}"),
        ("openai-beta", "assistants=v2"),
        ("user-agent", "llm-gateway"),
    ]


def test_the_body_reaches_the_provider_byte_for_byte(house: House) -> None:
    body = '{ "messages" : [ ],\n\t"model":"plain" , "x":1.0e2,"y":"\\u00e9é\\/", "z":null}'.encode()
    assert house.post(body).status_code == 200
    assert house.stub.calls[-1].body == body


def test_an_alias_becomes_the_providers_own_name_and_nothing_else_changes(house: House) -> None:
    body = b'{"x": {"model":"alias"}, "model" : "alias" , "y":"\\"model\\":\\"alias\\""}'
    assert house.post(body).status_code == 200
    own = '"the-provider\'s \\"own\\" näme"'.encode()
    assert house.stub.calls[-1].body == body.replace(b'"model" : "alias"', b'"model" : ' + own)


def test_an_alias_whose_name_is_spelled_with_escapes_is_not_sent_twice(house: House) -> None:
    assert house.post(b'{"\\u006dodel":"alias","messages":[]}').status_code == 200
    assert house.stub.calls[-1].body == '{"\\u006dodel":"the-provider\'s \\"own\\" näme","messages":[]}'.encode()


# --- towards the client ---


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_gets_exactly_these_headers(house: House, *, stream: bool) -> None:
    answer = house.chat(stream=stream)
    ours = {"date", "x-request-id", "transfer-encoding" if stream else "content-length"}
    passed = {"content-type", "openai-processing-ms", "openai-version"}
    assert set(answer.headers) == ours | passed
    assert "canary-cookie" not in str(answer.headers)
    assert answer.headers["x-request-id"] != "req_stub"


def test_the_providers_refusal_comes_with_the_same_few_headers(house: House) -> None:
    house.stub.script(Behaviour(status=400))
    answer = house.chat()
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The stub answers 400."
    assert not {"set-cookie", "openai-organization", "openai-project", "server"} & set(answer.headers)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert house.record(answer)["outcome"] == "rejected"


# --- paths ---


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/../admin/",
        "/v1/%2e%2e/admin/",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions;x=1",
        "/v1/chat%2fcompletions",
        "/v1/chat/../chat/completions",
        "/v1\\chat\\completions",
        "/v1/chat\\completions",
        "/v1/CHAT/completions",
        "/v1/audio/transcriptions",
        "/v1/models/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_under_v1_are_404_and_go_nowhere(house: House, path: str, method: str) -> None:
    answer = house.raw(house.head("content-length: 2", path=path, method=method) + b"{}")
    if path == "/v1\\chat\\completions":
        assert answer.status in (404, 503)  # not under /v1: the back office's, which is not running here
    else:
        assert answer.status == 404
        error = answer.error()
        assert error["code"] == "not_found"
        assert "/v1/chat/completions" in error["message"]
    assert house.stub.calls == []


@pytest.mark.parametrize("path", ["//v1/chat/completions", "/%761/chat/completions", "/./v1/models", "/V1/models"])
def test_other_spellings_of_v1_are_not_v1(house: House, path: str) -> None:
    answer = house.raw(house.head("content-length: 2", path=path) + b"{}")
    assert answer.status == 503  # the back office's, which is not running here
    assert house.stub.calls == []


@pytest.mark.parametrize("path", ["/v1/\x00", "/v1/chat\x00/completions", "/v1/\xe9", "v1/models", "/v1/ models"])
def test_a_target_that_is_none(house: House, path: str) -> None:
    answer = house.raw(house.head(path=path, method="GET"))
    assert answer.status == 400
    answer.error()


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/responses", "/models"])
def test_a_call_without_v1_says_what_the_base_url_ends_in(house: House, path: str) -> None:
    answer = house.raw(house.head("content-length: 2", path=path) + b"{}")
    assert answer.status == 404
    assert "/v1" in answer.error()["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/models/plain", "GET"),
        ("OPTIONS", "/v1/responses", "POST"),
        ("POST", "/v1/models", "GET"),
    ],
)
def test_wrong_method(house: House, method: str, path: str, allow: str) -> None:
    answer = house.raw(house.head("content-length: 0", path=path, method=method))
    assert answer.status == 405
    assert answer.error()["code"] == "method_not_allowed"
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("name", ["alias", "%61lias"])
def test_a_model_is_found_by_its_name_however_it_is_quoted(house: House, name: str) -> None:
    answer = house.http.get(f"/v1/models/{name}", headers={"authorization": f"Bearer {house.key}"})
    assert answer.json()["id"] == "alias"
    assert "näme" not in answer.text


@pytest.mark.parametrize("name", ["nope", "%ff%fe", "a%2fb", "../alias", "%00"])
def test_a_model_that_is_not_there(house: House, name: str) -> None:
    answer = house.raw(house.head(path=f"/v1/models/{name}", method="GET"))
    assert answer.status == 404
    assert answer.error()["code"] == "model_not_found"


def test_ids_are_unique(house: House) -> None:
    answers = [house.http.get("/v1/nothing") for _ in range(50)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 50


def test_responses_with_metadata_still_pass(house: House) -> None:
    answer: httpx.Response = house.post({"model": "plain", "input": MESSAGES, "metadata": {"a": "b"}}, "/v1/responses")
    assert answer.status_code == 200
