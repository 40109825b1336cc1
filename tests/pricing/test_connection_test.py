"""What a test of a provider's connection says, against real servers that fail in every way known."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pytest_django import Settings

from pricing.addresses import resolve
from pricing.connection_test import Outcome, check
from pricing.models import Provider
from tests.pricing.servers import Authority, Server, Talk, answer, drip, flood, raw, silence
from tests.stub.provider import closed_port

KEY = "sk-canary-0123456789abcdefWXYZ"
LIST = json.dumps({"object": "list", "data": [{"id": "b"}, {"id": "a"}, {"id": "a"}]}).encode()
Test = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def local(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority, trusted as an operator of a private one would have it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


def provider(base_url: str, key: str = KEY, **fields: int) -> Provider:
    made = Provider(name="p", base_url=base_url, **fields)
    made.set_credential(key)
    return made


def check_in(seconds: float, made: Provider, resolver: Callable[[str], list[str]] = resolve) -> Outcome:
    """Test it, and insist on the bound."""
    start = time.monotonic()
    outcome = check(made, seconds=seconds, resolver=resolver)
    assert time.monotonic() - start < seconds + 0.5
    return outcome


def against(talk: Talk, key: str = KEY, path: str = "/v1") -> Outcome:
    with Server(talk) as server:
        return check_in(5, provider(server.url(path=path), key))


def test_a_provider_that_works_says_how_many_models_and_how_fast() -> None:
    with Server(answer(200, LIST)) as server:
        outcome = check(provider(server.url()))
    assert (outcome.ok, outcome.code, outcome.models, outcome.advice) == (True, "ok", 2, "")
    assert outcome.message.startswith("Works: 2 models listed, in ")
    (head,) = server.heads
    assert head.startswith("GET /v1/models HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in head.lower()
    assert f"Bearer {KEY}" in head


def test_without_a_key_none_is_sent() -> None:
    with Server(answer(200, b'[{"id": "llama"}]')) as server:
        outcome = check(provider(server.url(path="/v1/"), key=""))
    assert (outcome.ok, outcome.models) == (True, 1)
    assert "authorization" not in server.heads[0].lower()
    assert server.heads[0].startswith("GET /v1/models ")


def test_an_account_without_models_is_reached_all_the_same() -> None:
    outcome = against(answer(200, b'{"data": []}'))
    assert outcome.ok
    assert "no models" in outcome.message


def test_the_sandbox_has_nothing_to_connect_to() -> None:
    assert check(Provider(name="sandbox", kind="sandbox")).ok


# --- the way there ---


def test_a_name_that_does_not_resolve() -> None:
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    outcome = check_in(5, provider("https://api.opneai.example/v1"), unknown)
    assert outcome.code == "name"
    assert outcome.message == "The name api.opneai.example does not resolve."
    assert "typing error" in outcome.advice


def test_a_name_server_that_hangs_is_not_waited_for() -> None:
    release = threading.Event()

    def hanging(host: str) -> list[str]:
        release.wait(20)
        return []

    try:
        outcome = check_in(0.3, provider("https://api.example.com/v1"), hanging)
    finally:
        release.set()
    assert outcome.code == "slow_name"


@pytest.mark.parametrize("leads_to", [["10.0.0.7"], ["93.184.216.34", "169.254.169.254"], ["::1"]])
def test_a_private_address_is_not_dialled(settings: Settings, leads_to: list[str]) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    outcome = check_in(5, provider("https://intranet.example/v1"), lambda host: leads_to)
    assert outcome.code == "address"
    assert leads_to[-1] in outcome.message
    assert "ALLOW_PRIVATE_PROVIDERS" in outcome.message


def test_the_address_that_was_judged_is_dialled(settings: Settings, trusted: Authority) -> None:
    """The name is asked for once: a second answer of the name server's could be another."""
    answers = iter([["127.0.0.1"], ["10.0.0.7"]])
    with Server(answer(200, LIST), trusted.context("provider.example")) as server:
        outcome = check_in(5, provider(server.url("provider.example")), lambda host: next(answers))
    assert outcome.ok, outcome
    assert f"host: provider.example:{server.port}\r\n" in server.heads[0].lower()
    assert next(answers) == ["10.0.0.7"]


def test_of_several_addresses_one_that_answers_is_enough(trusted: Authority) -> None:
    with Server(answer(200, LIST), trusted.context("provider.example")) as server:
        outcome = check_in(5, provider(server.url("provider.example")), lambda host: ["127.0.0.2", "127.0.0.1"])
    assert outcome.ok, outcome


def test_a_port_where_nobody_listens() -> None:
    outcome = check_in(5, provider(f"http://127.0.0.1:{closed_port()}/v1"))
    assert outcome.code == "refused"
    assert "refuses the connection" in outcome.message


def test_a_connection_that_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):  # fill the queue of connections that nobody accepts
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        outcome = check_in(1.0, provider(f"http://127.0.0.1:{port}/v1"))
        for one in waiting:
            one.close()
    assert outcome.code == "slow_connection"


# --- TLS ---


@pytest.mark.parametrize(
    ("certificate_for", "starts", "code"),
    [
        ("127.0.0.1", -timedelta(days=60), "certificate_expired"),
        ("127.0.0.1", timedelta(days=2), "certificate_not_yet_valid"),
        ("other.example", -timedelta(days=1), "certificate_of_another"),
        ("127.0.0.2", -timedelta(days=1), "certificate_of_another"),
    ],
)
def test_a_certificate_that_does_not_hold(
    trusted: Authority, certificate_for: str, starts: timedelta, code: str
) -> None:
    with Server(answer(200, LIST), trusted.context(certificate_for, starts)) as server:
        outcome = check_in(5, provider(server.url()))
    assert outcome.code == code
    assert "certificate" in outcome.message
    assert not server.heads, "the key is not sent"


def test_a_certificate_for_another_name_than_the_one_asked_for(trusted: Authority) -> None:
    with Server(answer(200, LIST), trusted.context("127.0.0.1")) as server:
        outcome = check_in(5, provider(server.url("provider.example")), lambda host: ["127.0.0.1"])
    assert outcome.code == "certificate_of_another"
    assert "provider.example" in outcome.message


def test_an_issuer_that_nobody_knows(authority: Authority) -> None:
    with Server(answer(200, LIST), authority.context("127.0.0.1")) as server:
        outcome = check_in(5, provider(server.url()))
    assert outcome.code == "certificate_issuer"
    assert "SSL_CERT_FILE" in outcome.advice
    assert not server.heads


def test_https_where_http_is_awaited() -> None:
    with Server(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        outcome = check_in(2, provider(server.url().replace("http://", "https://")))
    assert outcome.code == "slow_connection", "each waits for the other to speak"


def test_https_where_something_else_is_spoken_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"220 mail.example ESMTP\r\n" * 20)
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        outcome = check_in(3, provider(f"https://127.0.0.1:{listener.getsockname()[1]}/v1"))
        thread.join(5)
    assert outcome.code == "no_tls"
    assert "http://" in outcome.advice


# --- the answer ---


@pytest.mark.parametrize("talk", [silence, drip], ids=["nothing comes", "the head never ends"])
def test_a_provider_that_hangs_is_given_up_within_the_bound(talk: Talk) -> None:
    with Server(talk) as server:
        outcome = check_in(0.5, provider(server.url()))
    assert outcome.code == "slow_answer"
    assert "within 0.5 seconds" in outcome.message


def test_an_answer_without_an_end_is_cut() -> None:
    outcome = against(flood)
    assert outcome.code == "too_long"


def test_headers_without_an_end_are_cut() -> None:
    outcome = against(raw(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 40_000 + b"\r\n"))
    assert outcome.code == "broken_off"


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"])
def test_what_is_no_whole_http(data: bytes) -> None:
    assert against(raw(data)).code == "broken_off"


def test_a_redirect_is_told_and_not_followed() -> None:
    with Server(answer(200, LIST)) as elsewhere:
        outcome = against(answer(308, b"", f"location: {elsewhere.url()}/models?token=x"))
        assert outcome.code == "redirect"
        assert outcome.message.endswith(f" sends us elsewhere, to {elsewhere.url()}.")
        assert "token" not in outcome.message
        assert elsewhere.connections == 0


@pytest.mark.parametrize("location", ["javascript:alert(1)", "", "https://[", "//evil", "/v2/models", "https://x/\x07"])
def test_a_redirect_that_leads_nowhere_is_not_shown(location: str) -> None:
    outcome = against(answer(302, b"", f"location: {location}"))
    assert outcome.code in {"redirect", "broken_off"}
    assert not location or location not in outcome.message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "key_refused", "refuses the key"),
        (403, "forbidden", "does not allow"),
        (404, "not_found", "no list of models"),
        (405, "not_found", "no list of models"),
        (429, "limited", "limiting this account"),
        (500, "provider_fault", "status 500"),
        (503, "provider_fault", "status 503"),
        (418, "status", "status 418"),
    ],
)
def test_each_status_has_its_words(status: int, code: str, words: str) -> None:
    outcome = against(answer(status, b'{"error": {"message": "text of the provider", "code": "some_code"}}'))
    assert (outcome.ok, outcome.code) == (False, code)
    assert words in outcome.message
    assert outcome.advice
    assert "text of the provider" not in str(outcome)


def test_the_code_of_an_error_is_shown_where_it_is_one() -> None:
    quota = b'{"error": {"message": "m", "code": "insufficient_quota"}}'
    assert "(insufficient_quota)" in against(answer(429, quota)).message
    for code in ('"<script>"', '"two words"', f'"{KEY.lower()}"', "7", '"' + "a" * 50 + '"', "null"):
        shown = against(answer(401, f'{{"error": {{"code": {code}}}}}'.encode()))
        assert shown.message == "The provider refuses the key."


def test_a_provider_that_asks_for_a_key_where_none_is_stored() -> None:
    for status in (401, 403):
        outcome = against(answer(status), key="")
        assert (outcome.code, outcome.advice) == ("no_key", "Enter the provider's key.")


def test_a_path_without_a_version_is_suspected() -> None:
    assert "try http://127.0.0.1" in against(answer(404), path="").advice
    assert "/v1" in against(answer(404), path="/api").advice
    assert "/v1" not in against(answer(404), path="/openai/v1").advice
    assert "/v1" not in against(answer(404), path="/v1beta").advice


@pytest.mark.parametrize(
    "page", [answer(200, b"<!DOCTYPE html><h1>Hi", content_type="text/html; charset=utf-8"), answer(200, b"\n<html>")]
)
def test_a_web_page_is_no_list(page: Talk) -> None:
    outcome = against(page, path="")
    assert outcome.code == "web_page"
    assert "/v1" in outcome.advice


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"OK", "not_json"),
        (b"", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"models": [{"name": "m"}]}', "no_list"),
        (b'{"data": {"id": "m"}}', "no_list"),
        (b'{"data": [{"name": "m"}, 7, null]}', "no_list"),
        (b'"text"', "no_list"),
        (b'{"data": [' + b",".join([b'{"id": "m"}'] * 5_001) + b"]}", "too_long"),
    ],
)
def test_what_is_no_list_of_models(body: bytes, code: str) -> None:
    assert against(answer(200, body)).code == code


def test_tests_that_hang_leave_the_pages_their_threads() -> None:
    with Server(silence) as server:
        outcomes: list[Outcome] = []
        made = provider(server.url())
        tests = [threading.Thread(target=lambda: outcomes.append(check(made, seconds=2))) for _ in range(5)]
        for test in tests:
            test.start()
        for test in tests:
            test.join(5)
    assert sorted(outcome.code for outcome in outcomes) == ["busy"] * 2 + ["slow_answer"] * 3
    assert check(made, seconds=1).code == "refused", "turns are given back"


# --- secrets ---


def test_the_key_is_neither_shown_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}).encode()
    outcomes = [
        against(answer(401, echo)),
        against(answer(200, echo)),
        against(answer(302, b"", f"location: https://x.example/{KEY}/models")),
        against(raw(echo)),
    ]
    for outcome in outcomes:
        assert KEY not in str(outcome)
    assert KEY not in caplog.text


def test_a_key_that_cannot_be_decrypted(settings: Settings) -> None:
    made = provider("http://127.0.0.1:9/v1")
    settings.ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    outcome = check(made)
    assert outcome.code == "credential"
    assert "ENCRYPTION_KEYS" in outcome.message
