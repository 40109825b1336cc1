"""GET /v1/gateway/usage: what the holder of a key is told of its own usage and limits, and of nobody else's."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.callers import Account, Reply, account, at_once, exchange, request_bytes
from tests.e2e.conftest import House
from tests.e2e.test_limits_of_a_key import second_key, served
from tests.faults.test_promise_4_database_away import locked
from tests.installation import Installation, until

PATH = "/v1/gateway/usage"
# All that is told: nothing of cost, margin, providers or other clients has a name here.
NAMES = {
    *("object", "at", "time_zone", "client", "key", "limits", "usage", "notes", "as_of", "today", "month"),
    *("of", "metric", "cycle", "limit", "used", "reserved", "left", "resets_at", "used_up", "used_at_reset"),
    *("from", "until", "requests", "refused", "input_tokens", "output_tokens", "sessions", "charge_usd"),
}


def ask(caller: Account, method: str = "GET", path: str = PATH) -> Reply:
    return asyncio.run(exchange(caller.installation.port, request_bytes(method, path, caller.key)))


def told(caller: Account) -> dict[str, Any]:
    reply = ask(caller)
    assert reply.status == 200
    return dict(reply.json())


def names(value: Any) -> Iterator[str]:
    """Every name in a document."""
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from names(part)


def requests_today(caller: Account) -> int | None:
    """Asked no oftener than a key may."""
    time.sleep(0.9)
    usage = told(caller)["usage"]
    return None if usage is None else int(usage["today"]["client"]["requests"])


def test_a_client_is_told_what_it_used_and_how_its_limits_stand(house: House) -> None:
    caller = house.account("requests=100/day", "credits=2.50/month", time_zone="Asia/Kolkata", cycle_start_day=5)
    assert caller.call("gpt-4o-mini", max_tokens=10).status == 200
    assert served(caller, 2) == 2
    records = caller.records(3)
    usage = told(caller)
    charge = Decimal(sum(record["charge"] for record in records)) / 10**12
    assert charge > 0
    by_metric = {limit.pop("metric"): limit for limit in usage["limits"]}
    assert by_metric["requests"]["limit"] == 100
    assert (by_metric["requests"]["used"], by_metric["requests"]["reserved"], by_metric["requests"]["left"]) == (
        3,
        0,
        97,
    )
    assert by_metric["credits"]["limit"] == "2.50"
    assert Decimal(by_metric["credits"]["used"]) == charge
    assert Decimal(by_metric["credits"]["left"]) == Decimal("2.5") - charge
    assert {limit["of"] for limit in by_metric.values()} == {"client"}
    assert by_metric["requests"]["used_up"] is None  # it has not called for a day: nothing foretells it

    zone = ZoneInfo("Asia/Kolkata")
    today = {name: datetime.fromisoformat(usage["usage"]["today"][name]).astimezone(zone) for name in ("from", "until")}
    assert today["from"] <= datetime.now(zone) < today["until"]
    assert (today["from"].hour, today["from"].minute, today["until"] - today["from"]) == (0, 0, timedelta(days=1))
    assert today["until"] == datetime.fromisoformat(by_metric["requests"]["resets_at"])
    month = usage["usage"]["month"]
    assert datetime.fromisoformat(month["from"]).astimezone(zone).day == 5
    assert month["until"] == by_metric["credits"]["resets_at"]
    for span in (usage["usage"]["today"], month):
        for whose in ("key", "client"):
            assert span[whose]["requests"] == 3
            assert Decimal(span[whose]["charge_usd"]) == charge
            assert span[whose]["input_tokens"] == sum(record["input_tokens"] for record in records)
            assert span[whose]["output_tokens"] == sum(record["output_tokens"] for record in records)
    assert (usage["time_zone"], usage["client"], usage["notes"]) == ("Asia/Kolkata", caller.name, [])


def test_limits_are_live_and_sums_are_read_again_after_a_while(house: House) -> None:
    caller = house.account("requests=10/day")
    assert served(caller, 1) == 1
    caller.records(1)
    assert told(caller)["usage"]["today"]["client"]["requests"] == 1
    assert served(caller, 2) == 2
    assert told(caller)["limits"][0]["used"] == 3
    until(lambda: requests_today(caller) == 3, 25, "fresh sums")


def test_a_key_is_told_apart_from_its_client_and_of_other_clients_there_is_nothing(house: House) -> None:
    stranger = house.account("requests=77/day")
    assert served(stranger, 4) == 4
    production = house.account("requests=100/day")
    staging = second_key(production, "requests=7/day")
    assert served(production, 3) == 3
    assert served(staging, 2) == 2
    assert served(house.account(), 1) == 1
    production.records(5)
    usage = told(staging)
    assert [(one["of"], one["limit"], one["used"]) for one in usage["limits"]] == [("client", 100, 5), ("key", 7, 2)]
    assert (usage["usage"]["today"]["key"]["requests"], usage["usage"]["today"]["client"]["requests"]) == (2, 5)
    assert [(one["of"], one["limit"]) for one in told(production)["limits"]] == [("client", 100)]
    assert told(production)["usage"]["month"]["key"]["requests"] == 3
    for caller in (staging, production):
        answer = told(caller)
        assert (answer["client"], [one["limit"] for one in answer["limits"][:1]]) == (caller.name, [100])
        assert set(names(answer)) == NAMES
        assert caller.key not in json.dumps(answer)


def test_refused_calls_are_counted_apart_and_asking_counts_as_nothing(house: House) -> None:
    caller = house.account("requests=2/day")
    assert served(caller, 4) == 2
    assert caller.call().status == 429
    records = caller.records(5)
    usage = told(caller)
    assert (usage["usage"]["today"]["client"]["requests"], usage["usage"]["today"]["client"]["refused"]) == (2, 3)
    assert (usage["limits"][0]["used"], usage["limits"][0]["left"]) == (2, 0)
    assert ask(caller).headers["x-ratelimit-remaining-requests"] == "0"
    time.sleep(1)  # ingest looks four times a second
    assert len(caller.recorded()) == len(records)


def test_it_is_asked_as_all_of_v1_is(house: House) -> None:
    caller = house.account()
    port = house.installation.port
    reply = ask(caller)
    assert (reply.headers["cache-control"], reply.headers["content-type"]) == ("no-store", "application/json")
    assert reply.headers["x-request-id"]
    wrong = asyncio.run(exchange(port, request_bytes("GET", PATH, caller.key[:-1] + "!")))
    assert (wrong.status, wrong.code) == (401, "invalid_api_key")
    refused = ask(caller, "POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET")
    assert ask(caller, path=PATH + "?client=1").json()["client"] == caller.name
    assert ask(caller, path=PATH + "/1").status == 404
    house.installation.python(
        f"from clients.models import Client; Client.objects.get(pk={caller.id}).suspend('unpaid')"
    )
    until(lambda: ask(caller).code == "client_suspended", 2, "the suspension")
    house.installation.python(f"from clients.models import Client; Client.objects.get(pk={caller.id}).activate()")
    until(lambda: ask(caller).status == 200, 2, "the activation")
    house.installation.python(f"from keys.lifecycle import find, revoke; revoke(find({caller.key!r}))")
    until(lambda: (ask(caller).status, ask(caller).code) == (401, "key_revoked"), 2, "the revocation")
    assert caller.recorded() == []


def test_who_polls_without_end_is_told_to_wait_and_others_are_not(house: House) -> None:
    caller = house.account("requests=5/day")
    other = house.account()
    replies = at_once(house.installation.port, [request_bytes("GET", PATH, caller.key)] * 70)
    assert sorted(reply.status for reply in replies) == [200] * 60 + [429] * 10
    (refused, *_) = [reply for reply in replies if reply.status == 429]
    assert refused.code == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert ask(other).status == 200
    assert caller.call().status == 200


@pytest.mark.timeout(90)
def test_while_the_database_is_away_limits_are_told_and_sums_are_not(install: Callable[..., Installation]) -> None:
    installation = install().start()
    caller = account(installation, "requests=10/day")
    assert served(caller, 2) == 2
    caller.records(2)
    with locked(installation):
        assert served(caller, 1) == 1
        for most in (2.0, 0.5, 0.5):  # the first waits for a while, and the others know
            began = time.monotonic()
            usage = told(caller)
            assert time.monotonic() - began < most
            assert usage["usage"] is None
            assert "cannot be read right now" in usage["notes"][0]
            assert (usage["limits"][0]["used"], usage["limits"][0]["left"]) == (3, 7)
    until(lambda: requests_today(caller) == 3, 40, "the sums")
