"""Disk full: 503 before a call is forwarded, nothing of what was open is lost, and all is well once there is space.

The disk is made full for the gateway alone, and without special rights, by a limit on the size of the files it writes:
making a segment fails then as it does on a full disk, and with a limit of nothing every write does.
"""

import resource
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.callers import Account, Reply, account, at_once
from tests.e2e.conftest import RATES
from tests.installation import Installation, until
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider
from usage.journal import SEGMENT_BYTES


def _allow(installation: Installation, size: int) -> None:
    assert installation.gateway is not None
    _, hard = resource.prlimit(installation.gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(installation.gateway.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def served(install: Callable[..., Installation]) -> Iterator[tuple[Account, StubProvider]]:
    with StubProvider() as stub:
        installation = install()
        installation.provider(stub.url, {"gpt-4o-mini": RATES})
        installation.start()
        caller = account(installation, "requests=1000000/day")
        assert caller.call("gpt-4o-mini").status == 200
        stub.clear()
        yield caller, stub


def test_no_byte_can_be_written(served: tuple[Account, StubProvider]) -> None:
    caller, stub = served
    replies: list[Reply] = []
    stub.script(Behaviour(hold=0), Behaviour(hold=3, chunks=6))
    threads = []
    for stream in (False, True):
        threads.append(
            threading.Thread(target=lambda s=stream: replies.append(caller.call("gpt-4o-mini", stream=s)))  # type: ignore[misc]
        )
        threads[-1].start()
        stub.wait_calls(len(threads))

    _allow(caller.installation, 0)
    for _ in range(5):
        refused = caller.call("gpt-4o-mini")
        assert (refused.status, refused.code) == (503, "usage_unavailable")
        assert "retry-after" in refused.headers
    assert len(stub.calls) == 2, "nothing was forwarded"
    report = httpx.get(f"{caller.installation.url}/readyz")
    assert (report.status_code, report.json()["journal"]) == (503, "cannot be written")
    assert caller.installation.metric("gateway_journal_unwritten") == 0, "no end has been lost by then"
    assert caller.models().left == 1_000_000 - 1 - 2, "the refused ones hold nothing"
    stub.release(2)
    for thread in threads:
        thread.join(10)
    assert [reply.status for reply in replies] == [200, 200], "what was open goes on to its end"
    assert httpx.get(f"{caller.installation.url}/readyz").status_code == 503
    assert caller.installation.metric("gateway_journal_unwritten") == 2

    _allow(caller.installation, resource.RLIM_INFINITY)
    until(lambda: caller.call("gpt-4o-mini").status == 200, 5, "calls are served again")
    until(caller.installation.is_ready, 5, "ready again")
    records = caller.records_of({reply.id for reply in replies})
    assert [records[reply.id]["outcome"] for reply in replies] == ["ok", "ok"]
    assert caller.installation.metric("gateway_journal_unwritten") == 0


def test_no_new_segment_can_be_made(served: tuple[Account, StubProvider]) -> None:
    """As on a disk without space: what is allocated already can be filled, and the ends of open calls have a place."""
    caller, stub = served
    installation = caller.installation
    _allow(installation, SEGMENT_BYTES - 1)
    stub.script(Behaviour(hold=0))
    replies: list[Reply] = []
    held = threading.Thread(target=lambda: replies.append(caller.call("gpt-4o-mini")))
    held.start()
    stub.wait_calls(1)
    # Longer lines fill it sooner: the longest names that are kept.
    long = {"x-gateway-tags": f"workflow={'w' * 128},execution={'x' * 128},env={'e' * 128},session=s"}
    request = caller.request("sandbox", headers=long)
    served_ids: set[str] = set()
    codes: set[str] = set()
    for _ in range(200):
        batch = at_once(installation.port, [request] * 100)
        served_ids |= {reply.id for reply in batch if reply.status == 200}
        codes |= {reply.code for reply in batch}
        if "usage_unavailable" in codes:
            break
    assert codes == {"", "usage_unavailable"}
    left = caller.models().left
    assert left == 1_000_000 - 2 - len(served_ids)
    seen = len(stub.calls)
    assert caller.call("gpt-4o-mini").status == 503
    assert len(stub.calls) == seen
    assert httpx.get(f"{installation.url}/readyz").json()["journal"] == "cannot be written"
    stub.release()
    held.join(10)
    assert replies[0].status == 200

    _allow(installation, resource.RLIM_INFINITY)
    until(lambda: caller.call("gpt-4o-mini").status == 200, 5, "calls are served again")
    until(installation.is_ready, 5, "ready again")
    records = caller.records_of(served_ids | {replies[0].id}, 60)
    assert records[replies[0].id]["outcome"] == "ok"
