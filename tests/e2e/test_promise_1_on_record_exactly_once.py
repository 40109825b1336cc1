"""Promise 1: a call whose last byte reached the client is on record exactly once. (Under kills: tests/faults.)"""

import asyncio
import random
import re
from collections import Counter

from tests.callers import Account, NotWhole, Reply, read_reply
from tests.e2e.conftest import House

OUTCOMES = {
    "sandbox": "ok",
    "gpt-4o-mini": "ok",
    "stub-chunks-40": "ok",
    "stub-400": "rejected",
    "stub-429": "upstream_error",
    "stub-500": "upstream_error",
    "stub-401": "upstream_error",
    "gpt-99": "refused",
    "stub-reset": None,  # as a stream it breaks half way, as JSON it never came
}


async def _mixed(caller: Account, random_: random.Random) -> tuple[dict[str, Reply], int]:
    """300 calls of all sorts, 20 at a time, some of which hang up; returns what arrived whole, and how many hung up."""
    whole: dict[str, Reply] = {}
    hung_up = 0
    turn = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        nonlocal hung_up
        model = random_.choice([*OUTCOMES])
        path = random_.choice(["chat/completions", "completions", "responses"])
        stream, leaves = random_.random() < 0.5, random_.random() < 0.15
        tags = {"x-gateway-tags": f"execution={number},workflow={model}"}
        request = caller.request(model, f"Question {number}", path=path, stream=stream, headers=tags)
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", caller.installation.port)
            writer.write(request)
            if leaves:
                hung_up += 1
                await asyncio.sleep(random_.random() * 0.01)
                writer.transport.abort()
                return
            reply = await read_reply(reader)
            whole[reply.id] = reply
            writer.close()

    await asyncio.gather(*(one(number) for number in range(300)))
    return whole, hung_up


def test_every_answer_has_one_record_and_every_record_one_call(house: House) -> None:
    caller = house.account()
    whole, hung_up = asyncio.run(_mixed(caller, random.Random(1)))
    by_id = caller.records_of(set(whole))
    assert len(whole) <= len(by_id) <= len(whole) + hung_up
    assert max(Counter(record["execution"] for record in by_id.values()).values()) == 1
    asked = {re.search(rb"Question (\d+)", call.body)[1].decode() for call in house.stub.calls}  # type: ignore[index]
    assert asked <= {record["execution"] for record in by_id.values()}, "what reached the provider is on record"
    for request_id, reply in whole.items():
        record = by_id[request_id]
        assert record["status"] == reply.status
        expected = OUTCOMES[record["workflow"]]
        if expected is None:
            expected = "broken" if reply.status == 200 else "upstream_error"
        assert record["outcome"] == expected, record
    gone = [record for request_id, record in by_id.items() if request_id not in whole]
    assert {record["outcome"] for record in gone} <= {"client_gone", "broken", *OUTCOMES.values()}


def test_a_client_that_hangs_up_pays_what_was_relayed_and_the_provider_is_stopped(house: House) -> None:
    caller = house.account("requests=10/day")
    model = house.model("slow words", {"input": 1, "output": 1}, upstream="stub-chunks-1000-gap-20")

    async def hang_up() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.installation.port)
        writer.write(caller.request(model, stream=True))
        for _ in range(30):
            await reader.readline()
        writer.transport.abort()

    asyncio.run(hang_up())
    (call,) = house.stub.wait_calls(1)
    house.stub.wait_closed(call, 1.5)
    assert call.peer_closed
    (record,) = caller.records(1)
    assert (record["outcome"], record["estimated"]) == ("client_gone", 1)
    assert record["input_tokens"] > 0
    assert 0 < record["output_tokens"] <= 2 * call.pieces_sent
    assert record["charge"] == record["input_tokens"] + record["output_tokens"]
    assert caller.models().left == 9


def test_an_answer_that_never_ends_is_not_taken_for_whole(house: House) -> None:
    caller = house.account()
    try:
        reply = caller.call("stub-reset", stream=True)
    except NotWhole:
        return
    assert b"[DONE]" not in reply.body
    assert b'"error"' in reply.body
