"""Promise 3: a revoked, expired or suspended key is refused by the gateway within 1 s, whoever ended it and however."""

import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.callers import Account
from tests.e2e.conftest import House
from tests.installation import until

FIND = "from keys.models import APIKey; from keys import lifecycle, tokens; key = lifecycle.find({key!r})\n"

WAYS = {
    "the function behind admin and command": "lifecycle.revoke(key, 'leaked')",
    "queryset.update": (
        "from django.utils import timezone; APIKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())"
    ),
    "raw SQL": (
        "from django.db import connection\n"
        "with connection.cursor() as c: c.execute("
        "'UPDATE keys_apikey SET revoked_at = created_at WHERE id = %s', [key.pk])"
    ),
    "regenerating at once": "lifecycle.regenerate(key)",
}


def _seconds_until(caller: Account, code: str) -> float:
    """How long the key goes on working; a call every few milliseconds, each answered as before or with `code`."""
    began = time.monotonic()
    while (reply := caller.call()).status == 200:
        assert time.monotonic() - began < 5
    assert reply.code == code
    return time.monotonic() - began


@pytest.mark.parametrize("way", WAYS)
def test_a_revoked_key(house: House, way: str) -> None:
    caller = house.account()
    assert caller.call().status == 200
    house.installation.python(FIND.format(key=caller.key) + WAYS[way])
    assert _seconds_until(caller, "key_revoked") < 1
    refused = caller.call()
    assert refused.status == 401
    assert {caller.call().code for _ in range(5)} == {"key_revoked"}


def test_a_key_revoked_while_its_body_arrives(house: House) -> None:
    """A body may take minutes; the key is judged again when it is whole."""
    caller = house.account()
    request = caller.request()
    with socket.create_connection(("127.0.0.1", house.installation.port)) as connection:
        connection.sendall(request[:-5])
        time.sleep(0.3)  # not judged again before that
        house.installation.python(FIND.format(key=caller.key) + WAYS["queryset.update"])
        assert _seconds_until(caller, "key_revoked") < 1
        connection.sendall(request[-5:])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"key_revoked" in answer


def test_a_key_revoked_by_command(house: House) -> None:
    caller = house.account()
    assert caller.call().status == 200
    house.installation.manage("revokekey", caller.key, "--reason", "leaked")
    # The command's own end takes longer than that.
    assert _seconds_until(caller, "key_revoked") < 1


def test_a_key_revoked_while_ingest_writes_without_pause(house: House) -> None:
    """Reading the configuration must not wait for its turn among writers."""
    caller = house.account()
    assert caller.call().status == 200
    busy = house.installation.python(
        """
import subprocess, sys
result = subprocess.Popen([sys.executable, "-c", '''
import os, sqlite3, time
db = sqlite3.connect(os.environ["DATA_DIR"] + "/gateway.sqlite3", timeout=30, isolation_level=None)
end = time.monotonic() + 4
while time.monotonic() < end:
    db.execute("BEGIN IMMEDIATE")
    time.sleep(0.3)
    db.execute("COMMIT")
''']).pid
"""
    )
    assert busy
    house.installation.python(FIND.format(key=caller.key) + WAYS["queryset.update"])
    assert _seconds_until(caller, "key_revoked") < 1


def test_an_expired_key_is_refused_at_the_second(house: House) -> None:
    caller = house.account()
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    house.installation.python(
        FIND.format(key=caller.key) + f"APIKey.objects.filter(pk=key.pk).update(expires_at={ends.isoformat()!r})"
    )
    while datetime.now(UTC) < ends - timedelta(seconds=0.05):
        assert caller.call().status == 200
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds() + 0.005))
    refused = caller.call()
    assert (refused.status, refused.code) == (403, "key_expired")


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [("suspend('unpaid')", 403, "client_suspended"), ("archive()", 403, "client_inactive")],
)
def test_a_suspended_or_archived_client(house: House, method: str, status: int, code: str) -> None:
    caller = house.account("requests=100000/day")
    assert caller.call().status == 200
    find = f"from clients.models import Client; client = Client.objects.get(pk={caller.id})\n"
    house.installation.python(find + f"client.{method}")
    assert _seconds_until(caller, code) < 1
    assert caller.call().status == status
    assert caller.models().status == status
    house.installation.python(find + "client.activate()")
    until(lambda: caller.call().status == 200, 1, "an active client's key works again")


def test_refused_calls_of_a_dead_key_are_on_record(house: House) -> None:
    caller = house.account()
    house.installation.python(FIND.format(key=caller.key) + WAYS["queryset.update"])
    until(lambda: caller.call().status == 401, 2)
    record = caller.records(1)[-1]
    assert (record["outcome"], record["status"], record["error_code"]) == ("refused", 401, "key_revoked")
