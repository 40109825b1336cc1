"""Keys: what a wrong one learns, how a new one begins, how an old one is replaced, and what is kept of their use."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from keys import tokens
from tests.callers import account, at_once, request_bytes
from tests.e2e.conftest import House
from tests.installation import Installation, until

FIND = "from keys import lifecycle; from datetime import timedelta; key = lifecycle.find({key!r})\n"


def _with_key(key: str) -> list[bytes]:
    return [request_bytes("GET", "/v1/models", key)]


def test_a_wrong_key_learns_nothing(house: House) -> None:
    unknown = tokens.generate()
    mistyped = unknown[:-1] + ("a" if unknown[-1] != "a" else "b")
    with_address = []
    for key in (unknown, mistyped, "sk-1234", "llm_gw_"):
        (reply,) = at_once(house.installation.port, _with_key(key))
        assert reply.status == 401
        with_address.append(reply.body)
    assert len(set(with_address)) == 1, "a made-up key, a mistyped one and junk look alike"
    assert b"invalid_api_key" in with_address[0]


def test_the_holder_of_a_real_key_is_told_what_is_the_matter(house: House) -> None:
    revoked, expired = house.account(), house.account()
    house.installation.python(FIND.format(key=revoked.key) + "lifecycle.revoke(key)")
    house.installation.python(
        FIND.format(key=expired.key)
        + "from django.utils import timezone; key.expires_at = timezone.now() + timedelta(milliseconds=1); key.save()"
    )
    until(lambda: revoked.models().code == "key_revoked", 2)
    until(lambda: expired.models().code == "key_expired", 2)
    assert (revoked.models().status, expired.models().status) == (401, 403)


MANY_KEYS = """
from clients.models import Client
from keys import tokens
from keys.models import APIKey
client = Client.objects.get(pk={client})
plain = [tokens.generate() for _ in range(8_000)]
APIKey.objects.bulk_create(
    APIKey(client=client, digest=tokens.digest(key), hint=tokens.hint(key)) for key in plain
)
"""


def test_a_key_works_from_the_moment_it_is_made(install: Callable[..., Installation]) -> None:
    """No 401 in between, not even while the gateway is reading a configuration that does not have it yet."""
    installation = install()
    client = account(installation)
    installation.python(MANY_KEYS.format(client=client.id))  # so that reading takes a while
    installation.start(ingest=False)
    for number in range(20):
        change = f"Client.objects.filter(pk={client.id}).update(notes='{number}')"  # makes the gateway read
        installation.python(f"from clients.models import Client\n{change}")
        time.sleep(random.Random(number).random() * 0.4)
        key = installation.key(client.name)
        assert [reply.status for reply in at_once(installation.port, _with_key(key) * 3)] == [200] * 3


def test_a_client_just_made_is_limited_from_its_first_call(house: House) -> None:
    for _ in range(5):
        caller = house.account("requests=2/day")
        codes = [reply.code for reply in caller.calls_at_once(6)]
        assert sum(code == "" for code in codes) == 2


def test_regenerated_with_grace_both_work_then_only_the_new_one(house: House) -> None:
    caller = house.account()
    source = FIND.format(key=caller.key) + "result = lifecycle.regenerate(key, timedelta(seconds=2))[1]"
    began = datetime.now(UTC)
    new = house.installation.python(source)
    while datetime.now(UTC) < began + timedelta(seconds=1.8):
        assert caller.call().status == 200
        assert caller.call(key=new).status == 200
        time.sleep(0.1)
    until(lambda: caller.call().code == "key_expired", 1.5, "the end of the grace")
    assert caller.call(key=new).status == 200


def test_regenerated_at_once_only_the_new_one_works(house: House) -> None:
    caller = house.account()
    new = house.installation.python(FIND.format(key=caller.key) + "result = lifecycle.regenerate(key)[1]")
    assert caller.call(key=new).status == 200
    until(lambda: caller.call().status == 401, 1, "the old key refused")


def test_last_used_and_usage_of_each_key(house: House) -> None:
    caller = house.account(markup_bp=1_000)
    other = house.installation.key(caller.name)
    before = datetime.now(UTC)
    for _ in range(3):
        caller.call("gpt-4o-mini")
    caller.call("gpt-4o-mini", key=other)
    caller.call("gpt-99")
    records = caller.records(5)
    for key_id in {record["key_id"] for record in records}:
        mine = [record for record in records if record["key_id"] == key_id and record["outcome"] == "ok"]
        (use,) = house.installation.sql("SELECT * FROM keys_keyuse WHERE key_id = ?", key_id)
        assert use["calls"] == len(mine)
        assert use["tokens"] == sum(record["input_tokens"] + record["output_tokens"] for record in mine)
        assert use["charge"] == sum(record["charge"] for record in mine) > 0
        last = datetime.fromisoformat(use["last_used_at"]).replace(tzinfo=UTC)
        assert before - timedelta(seconds=1) <= last <= datetime.now(UTC)
