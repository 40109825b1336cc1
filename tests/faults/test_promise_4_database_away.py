"""Promise 4, embedded: the database locked or away. Known keys keep working, an unknown one gets 503, never 401.

SQLite's own locks are taken by another process, as a backup or a stuck neighbour would: reading fails, writing fails.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from keys import tokens
from tests.callers import account, at_once, request_bytes
from tests.e2e.conftest import RATES
from tests.installation import Installation, until
from tests.stub.provider import StubProvider

OUTAGE = int(os.environ.get("OUTAGE_SECONDS", "5"))  # by hand: 60

# Bytes 120 to 127 of the shared memory file are the locks of the write-ahead log: writer, checkpointer, recovery and
# five readers (sqlite.org/walformat.html#locks). Who holds them all lets nobody in.
_LOCK = """
import fcntl, os, sys
fd = os.open(sys.argv[1] + "-shm", os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 8, 120)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """The database, away."""
    path = str(installation.data_dir / "gateway.sqlite3")
    holder = subprocess.Popen(
        [sys.executable, "-c", _LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        holder.communicate()


@pytest.mark.timeout(OUTAGE + 120)
def test_calls_go_on_and_nothing_is_lost(install: Callable[..., Installation]) -> None:
    with StubProvider() as stub:
        installation = install()
        installation.provider(stub.url, {"gpt-4o-mini": RATES})
        installation.start()
        caller = account(installation, "requests=1000000/day")
        assert caller.call().status == 200
        caller.records(1)
        ids: set[str] = set()
        slowest = 0.0
        with locked(installation):
            began = time.monotonic()
            until(lambda: httpx.get(f"{installation.url}/readyz").json()["configuration"] == "stale", 5)
            report = httpx.get(f"{installation.url}/readyz")
            assert report.status_code == 200, "it serves, so it stays in the pool"
            assert report.json()["status"] == "degraded"
            assert installation.metric("gateway_configuration_stale") == 1
            while time.monotonic() - began < OUTAGE:
                for model, stream in (("sandbox", True), ("gpt-4o-mini", False)):
                    before = time.monotonic()
                    reply = caller.call(model, stream=stream)
                    slowest = max(slowest, time.monotonic() - before)
                    assert reply.status == 200
                    ids.add(reply.id)
                if len(ids) % 100 == 0 and len(ids) <= 500:  # more wrong keys would be too many wrong keys
                    before = time.monotonic()
                    unknown, junk = at_once(
                        installation.port,
                        [request_bytes("GET", "/v1/models", key) for key in (tokens.generate(), "sk-junk")],
                    )
                    assert (unknown.status, unknown.code) == (503, "auth_unavailable")
                    assert int(unknown.headers["retry-after"]) >= 1
                    assert junk.status == 401
                    assert time.monotonic() - before < 4, "nothing hangs"
                time.sleep(0.01)
        assert slowest < 1.5, "known keys wait for nothing"
        assert len(ids) > 100
        until(lambda: httpx.get(f"{installation.url}/readyz").json()["status"] == "ready", 15, "ready again")
        assert ids <= set(caller.records_of(ids, 60))
        # What could not be told apart is told apart again.
        (unknown,) = at_once(installation.port, [request_bytes("GET", "/v1/models", tokens.generate())])
        assert unknown.status == 401


def test_a_change_made_before_is_in_force_soon_after(install: Callable[..., Installation]) -> None:
    installation = install().start()
    caller = account(installation)
    assert caller.call().status == 200
    with locked(installation):
        time.sleep(2)
        assert caller.call().status == 200
    installation.python(
        "from django.utils import timezone; from keys.models import APIKey\n"
        "APIKey.objects.update(revoked_at=timezone.now())"
    )
    until(lambda: caller.call().code == "key_revoked", 2, "the revocation")


def test_it_stops_in_order_while_the_database_is_away(install: Callable[..., Installation]) -> None:
    installation = install().start()
    caller = account(installation)
    assert caller.call().status == 200
    with locked(installation):
        ids = {caller.call().id for _ in range(10)}
        time.sleep(1)
        began = time.monotonic()
        assert installation.stop_gateway() == 0
        assert time.monotonic() - began < 15
    assert ids <= set(caller.records_of(ids, 60))


def test_it_starts_while_the_database_is_away_and_serves_once_it_is_back(install: Callable[..., Installation]) -> None:
    installation = install().start()
    caller = account(installation, "requests=10/day")
    assert caller.call().status == 200
    caller.records(1)
    with locked(installation):
        installation.stop_gateway(9)
        installation.start_gateway(wait=False)
        until(lambda: _answers(installation), 30, "the port")
        assert not installation.is_ready()
        refused = caller.call()
        assert (refused.status, refused.code) == (503, "auth_unavailable"), "it cannot know the key yet"
    until(installation.is_ready, 30, "ready")
    assert caller.call().left == 8


def _answers(installation: Installation) -> bool:
    try:
        return httpx.get(f"{installation.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False
