"""What a record says of a call: times, tags, tiers, ids; and that refused calls are there too, as such."""

import time
from datetime import UTC, datetime

import pytest

from tests.e2e.conftest import House
from tests.stub.behaviour import Behaviour


@pytest.mark.parametrize("stream", [False, True])
def test_latency_and_time_to_first_byte(house: House, *, stream: bool) -> None:
    caller = house.account()
    house.stub.script(Behaviour(delay=0.3, chunks=5, gap=0.1 if stream else 0))
    before = datetime.now(UTC)
    began = time.monotonic()
    reply = caller.call("gpt-4o-mini", stream=stream)
    took = (time.monotonic() - began) * 1_000_000
    record = caller.records_of({reply.id})[reply.id]
    assert 300_000 <= record["first_byte_us"] <= record["latency_us"] <= took
    if stream:
        assert record["latency_us"] - record["first_byte_us"] >= 400_000
    admitted = datetime.fromisoformat(record["admitted_at"]).replace(tzinfo=UTC)
    settled = datetime.fromisoformat(record["settled_at"]).replace(tzinfo=UTC)
    assert before <= admitted < settled <= datetime.now(UTC)
    assert record["stream"] == stream


def test_tokens_of_every_kind_and_the_providers_request_id(house: House) -> None:
    caller = house.account()
    house.stub.script(
        Behaviour(input_tokens=100, cached_tokens=40, output_tokens=30, reasoning_tokens=20, service_tier="flex")
    )
    reply = caller.call("gpt-4o-mini")
    record = caller.records_of({reply.id})[reply.id]
    counts = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    assert [record[name] for name in counts] == [100, 40, 30, 20]
    assert (record["service_tier"], record["provider_request_id"]) == ("flex", "req_stub")
    # 60 fresh at 0.15, 40 cached at 0.075, 30 of output (reasoning among them) at 0.60 USD a million.
    assert record["cost"] == 60 * 150_000 + 40 * 75_000 + 30 * 600_000


@pytest.mark.parametrize("usage", ["none", "negative", "absurd", "string"])
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_cannot_be_believed_is_replaced_by_our_own_count(house: House, usage: str, *, stream: bool) -> None:
    caller = house.account("tokens=100000/day")
    house.stub.script(Behaviour(usage=usage, chunks=6))
    reply = caller.call("gpt-4o-mini", stream=stream)
    assert reply.status == 200
    record = caller.records_of({reply.id})[reply.id]
    assert (record["outcome"], record["estimated"]) == ("ok", 1)
    assert 0 < record["input_tokens"] < 50
    assert 0 < record["output_tokens"] < 50
    assert record["charge"] > 0


def test_tags_of_the_header_go_before_those_of_the_body_and_are_cleaned_and_bounded(house: House) -> None:
    caller = house.account()
    long = "w" * 500
    header = {"x-gateway-tags": f"workflow= {long} ,execution=a=b,unknown=x,env=,=,workflow=second"}
    reply = caller.call(headers=header, metadata={"workflow": "by body", "env": "prod\r\nx:\x7f y", "execution": 7})
    body = caller.call(metadata={"workflow": "by body", "execution": 7, "env": ["no"], "session": {"no": 1}})
    records = caller.records_of({reply.id, body.id})
    record = records[reply.id]
    assert record["workflow"] == "w" * 128
    assert record["execution"] == "a=b"
    assert record["env"] == "prodx: y"
    record = records[body.id]
    assert (record["workflow"], record["execution"], record["env"], record["session"]) == ("by body", "7", "", "")


def test_refused_calls_are_on_record_as_far_as_they_were_read(house: House) -> None:
    caller = house.account()
    tags = {"x-gateway-tags": "workflow=w1"}
    replies = [
        caller.call(model="gpt-99", headers=tags),
        caller.call(max_tokens=-1, headers=tags),
        caller.call(stream="yes", path="responses"),
    ]
    records = caller.records_of({reply.id for reply in replies})
    unknown, negative, wrong = (records[reply.id] for reply in replies)
    assert (unknown["outcome"], unknown["status"], unknown["error_code"]) == ("refused", 404, "model_not_found")
    assert (unknown["model_asked"], unknown["workflow"]) == ("gpt-99", "w1")
    assert (negative["outcome"], negative["status"]) == ("refused", 400)
    assert (wrong["endpoint"], wrong["status"]) == ("responses", 400)
    for record in records.values():
        assert record["cost"] == record["charge"] == record["input_tokens"] == 0


def test_every_call_has_one_line_in_the_operators_log(house: House) -> None:
    caller = house.account()
    replies = [caller.call(), caller.call(stream=True), caller.call(model="gpt-99"), caller.call("stub-500")]
    deadline = time.monotonic() + 5
    while not all(house.installation.log().count(f'"request_id":"{reply.id}"') == 1 for reply in replies):
        assert time.monotonic() < deadline
