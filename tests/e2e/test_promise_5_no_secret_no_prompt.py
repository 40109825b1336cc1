"""Promise 5: no prompt, completion or secret is ever logged or stored: canaries of each appear nowhere in DATA_DIR."""

import asyncio
import base64
import json
import signal
from pathlib import Path

import pytest

from tests.callers import Account, account, exchange, request_bytes
from tests.e2e.conftest import RATES
from tests.installation import Installation
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider

PROMPT = "canary-prompt-7f3a"
COMPLETION = "canary-completion-91c2"
USER = "canary-user-55d0"
PROVIDER_KEY = "sk-canary-provider-e6b8"
TOOL = "canary_tool_42ab"

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": COMPLETION}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 5},
}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % COMPLETION.encode()
ERROR = {
    "error": {"message": f"You said {PROMPT} and I {COMPLETION}", "type": "x", "code": COMPLETION, "param": PROMPT}
}


def _answers() -> list[Behaviour]:
    stream = "text/event-stream"
    return [
        Behaviour(body=json.dumps(ANSWER).encode()),
        Behaviour(body=EVENT * 3 + b"data: [DONE]\n\n", content_type=stream),
        Behaviour(body=EVENT * 3, content_type=stream),  # ends without [DONE]
        Behaviour(body=EVENT * 3 + b"data: " + json.dumps(ERROR).encode() + b"\n\n", content_type=stream),
        Behaviour(body=EVENT * 3, content_type=stream, cut="reset", cut_half=True, framing="chunked"),
        *(Behaviour(status=status, body=json.dumps(ERROR).encode()) for status in (400, 401, 403, 404, 429, 500, 503)),
        Behaviour(body=COMPLETION.encode()),  # not JSON
        Behaviour(body=f"<html>{COMPLETION}".encode(), content_type="text/html"),
        Behaviour(raw=f"HTTP/9 {COMPLETION}\r\n{PROMPT}\r\n\r\n".encode()),
        Behaviour(status=302, headers=(("location", f"http://{COMPLETION}/"),), body=b""),
    ]


def _talk(caller: Account, stub: StubProvider) -> None:
    said = {"user": USER, "metadata": {"session": USER, "other": PROMPT}, "tools": [{"name": TOOL, "type": "function"}]}
    for path in ("chat/completions", "completions", "responses", "embeddings"):
        for model in ("sandbox", "gpt-4o-mini", "sandbox-embedding"):
            for stream in (False, True):
                caller.call(model, PROMPT, path=path, stream=stream, **said)
    assert any(PROVIDER_KEY in (call.header("authorization") or "") for call in stub.calls)
    for stream in (False, True):
        for behaviour in _answers():
            stub.script(behaviour, behaviour)  # the second, should the gateway try again
            caller.call("gpt-4o-mini", PROMPT, stream=stream, **said)
            stub.clear()
    tags = {"x-gateway-tags": f"session={USER},workflow=w"}
    broken = [
        json.dumps({"model": "gpt-4o-mini", "messages": PROMPT, "max_tokens": PROMPT}),
        json.dumps({"model": "gpt-99", "messages": PROMPT}),
        f'{{"model": "gpt-4o-mini", "messages": "{PROMPT}", "stream": "{PROMPT}"}}',
        f'{{"model": "gpt-4o-mini", "{PROMPT}',
        f"{PROMPT}",
        f'{{"model": "gpt-4o-mini", "user": "{USER}", "user": "{USER}"}}',
        "[" * 10_000 + PROMPT,
    ]
    for body in broken:
        for key in (caller.key, caller.key[:-1] + "!", "sk-" + PROMPT):
            request = request_bytes("POST", "/v1/chat/completions", key, body.encode(), tags)
            assert asyncio.run(exchange(caller.installation.port, request)).status >= 400
    for path in (f"/v1/chat/{PROMPT}", f"/v1/models/{PROMPT}", f"/v1/models?{PROMPT}"):
        asyncio.run(exchange(caller.installation.port, request_bytes("GET", path, caller.key)))


async def _hang_up_in_the_middle(caller: Account) -> None:
    for stream in (False, True):
        _, writer = await asyncio.open_connection("127.0.0.1", caller.installation.port)
        writer.write(caller.request("gpt-4o-mini", PROMPT, stream=stream, user=USER))
        await asyncio.sleep(0.1)
        writer.transport.abort()


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Account:
    """An installation in which canaries went every way there is, over a kill and an orderly end."""
    with (
        StubProvider() as stub,
        Installation(tmp_path_factory.mktemp("canary") / "data", LOG_LEVEL="DEBUG") as installation,
    ):
        installation.provider(stub.url, {"gpt-4o-mini": RATES}, credential=PROVIDER_KEY)
        caller = account(installation, "requests=100000/day", "sessions=10/day")
        installation.start()
        _talk(caller, stub)
        stub.script(*[Behaviour(cut="stall")] * 2)
        asyncio.run(_hang_up_in_the_middle(caller))
        _talk(caller, stub)
        installation.stop_gateway(signal.SIGKILL)
        installation.start_gateway()
        _talk(caller, stub)
        count = len(installation.records())
        assert installation.stop_gateway() == 0
        installation.manage("ingest", "--once")
        assert len(installation.records()) >= count > 50
        return caller


def _files(caller: Account) -> list[Path]:
    return [path for path in caller.installation.data_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize("canary", [PROMPT, COMPLETION, USER, PROVIDER_KEY, TOOL, "the gateway's key"])
def test_appears_nowhere_in_files_logs_and_database(lived_in: Account, canary: str) -> None:
    secret = lived_in.key if canary == "the gateway's key" else canary
    forms = {secret.encode(), base64.b64encode(secret.encode())[:-4], secret.encode().hex().encode()}
    if canary == "the gateway's key":
        forms.add(lived_in.key[len("llm_gw_") + 4 : -4].encode())  # what its hint leaves out
    files = _files(lived_in)
    assert any(path.name == "gateway.log" for path in files)
    for path in files:
        data = path.read_bytes()
        assert not [form for form in forms if form in data], path


def test_every_file_is_the_owners_alone(lived_in: Account) -> None:
    for path in _files(lived_in):
        if path.suffix == ".journal" or path.name == "secrets.env":
            assert path.stat().st_mode & 0o077 == 0, path
    assert (lived_in.installation.data_dir / "journal").stat().st_mode & 0o077 == 0
