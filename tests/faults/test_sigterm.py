"""SIGTERM: streams finish, everything is settled and on record, the exit status is 0, and no new call gets in."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.callers import Reply, account
from tests.e2e.conftest import RATES
from tests.installation import Installation
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider

Install = Callable[..., Installation]


def _in_background(call: Callable[[], Reply]) -> tuple[threading.Thread, list[Reply]]:
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(call()))
    thread.start()
    return thread, replies


def test_calls_in_flight_finish_and_nothing_new_gets_in(install: Install) -> None:
    with StubProvider() as stub:
        installation = install(DRAIN_SECONDS="20")
        installation.provider(stub.url, {"gpt-4o-mini": RATES})
        installation.start()
        caller = account(installation, "requests=100/day")
        stub.script(Behaviour(chunks=20, gap=0.1), Behaviour(delay=1.5))
        calls = [_in_background(lambda: caller.call("gpt-4o-mini", stream=True))]
        stub.wait_calls(1)
        calls.append(_in_background(lambda: caller.call("gpt-4o-mini")))
        stub.wait_calls(2)
        assert installation.gateway is not None
        installation.gateway.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionError):
            caller.call()
        # More signals, until and beyond the end, do no harm.
        while installation.gateway.poll() is None:
            installation.gateway.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        assert installation.gateway.returncode == 0, installation.log()
        for thread, _ in calls:
            thread.join(10)
        stream, whole = (replies[0] for _, replies in calls)
        assert stream.status == whole.status == 200
        assert stream.body.endswith(b"data: [DONE]\n\n")
        records = caller.records_of({stream.id, whole.id})
        assert {record["outcome"] for record in records.values()} == {"ok"}
        assert records[stream.id]["output_tokens"] == 20


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_a_stream_longer_than_the_drain_is_told_and_pays_what_was_relayed(install: Install, path: str) -> None:
    with StubProvider() as stub:
        installation = install(DRAIN_SECONDS="1")
        installation.provider(stub.url, {"gpt-4o-mini": RATES})
        installation.start()
        caller = account(installation)
        stub.script(Behaviour(chunks=1000, gap=0.05), Behaviour(cut="stall"))
        calls = [_in_background(lambda: caller.call("gpt-4o-mini", path=path, stream=True))]
        stub.wait_calls(1)
        calls.append(_in_background(lambda: caller.call("gpt-4o-mini", path=path)))
        stub.wait_calls(2)
        time.sleep(0.5)
        began = time.monotonic()
        assert installation.stop_gateway() == 0
        assert 1 <= time.monotonic() - began < 4
        for thread, _ in calls:
            thread.join(10)
        stream, whole = (replies[0] for _, replies in calls)
        assert stream.status == 200
        assert b"server_shutting_down" in stream.body.rstrip().rpartition(b"\n\n")[2]
        assert b"[DONE]" not in stream.body
        assert b"response.completed" not in stream.body
        assert (whole.status, whole.code) == (503, "server_shutting_down")
        assert int(whole.headers["retry-after"]) >= 1
        records = caller.records_of({stream.id, whole.id})
        relayed, silent = records[stream.id], records[whole.id]
        assert (relayed["outcome"], relayed["error_code"], relayed["status"], relayed["estimated"]) == (
            "interrupted", "server_shutting_down", 200, 1,
        )  # fmt: skip
        assert 10 <= relayed["output_tokens"] <= 120
        assert (silent["outcome"], silent["status"], silent["output_tokens"]) == ("interrupted", 503, 0)
        for call in stub.calls:
            assert stub.wait_closed(call, 5)


def test_idle_connections_do_not_hold_it_up(install: Install) -> None:
    installation = install(DRAIN_SECONDS="20").start(ingest=False)
    caller = account(installation)

    async def idle() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", installation.port)
        writer.write(caller.request())
        await reader.readuntil(b"}")
        began = time.monotonic()
        assert await asyncio.to_thread(installation.stop_gateway) == 0
        await reader.read()
        return time.monotonic() - began

    assert asyncio.run(idle()) < 4


def test_everything_is_on_record_after_an_orderly_end_without_ingest(install: Install) -> None:
    installation = install().start(ingest=False)
    caller = account(installation)
    replies = [caller.call(stream=number % 2 == 0) for number in range(20)]
    assert installation.stop_gateway() == 0
    installation.manage("ingest", "--once")
    assert set(caller.records_of({reply.id for reply in replies})) == {reply.id for reply in replies}
    assert not list((installation.data_dir / "journal").glob("*.journal"))
