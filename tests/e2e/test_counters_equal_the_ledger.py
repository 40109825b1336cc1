"""Counters equal the ledger: in a live gateway after any traffic, and in one that was started again."""

import asyncio
import random

from tests.callers import Account, read_reply
from tests.e2e.conftest import House
from tests.installation import until

LIMITS = [
    f"{metric}={amount}/{cycle}"
    for metric, amount in (("requests", 100_000), ("tokens", 100_000_000), ("credits", 1000), ("sessions", 10_000))
    for cycle in ("minute", "hour", "day", "week", "month", "total")
]

# In the gateway's own process, in place of five minutes of waiting: LedgerKeeper.check compares every counter.
CHECK = """
import asyncio, random, httpx
from gateway_project.gateway import Process

async def traffic(port, keys):
    rng = random.Random(3)
    models = ["sandbox", "gpt-4o-mini", "stub-500", "stub-400", "gpt-99", "stub-chunks-40", "stub-reset"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{{port}}/v1", timeout=20) as http:
        async def one(number):
            said = [{{"role": "user", "content": "x" * rng.randint(1, 300)}}]
            body = {{"model": rng.choice(models), "messages": said,
                    "stream": rng.random() < 0.4, "user": f"u{{rng.randint(1, 30)}}"}}
            headers = {{"authorization": f"Bearer {{rng.choice(keys)}}"}}
            try:
                await asyncio.wait_for(http.post("/chat/completions", json=body, headers=headers),
                                       0.02 if rng.random() < 0.1 else 20)
            except (TimeoutError, httpx.HTTPError):
                pass
        for _ in range(8):
            await asyncio.gather(*(one(number) for number in range(40)))

async def main():
    nowhere = open("/dev/null", "w")
    process = Process(1, nowhere.fileno())
    port = await process.start("127.0.0.1", 0)
    await process.keeper.until_loaded()
    checks = [await process.keeper.check()]
    await traffic(port, {keys!r})
    while process.pipeline.in_flight:
        await asyncio.sleep(0.02)
    checks.append(await process.keeper.check())
    busy = asyncio.create_task(traffic(port, {keys!r}))
    while not busy.done():
        checks.append(await process.keeper.check())
        await asyncio.sleep(0.05)
    await busy
    settled = process.limits.dump(process.clock())
    await process.stop()
    return {{"checks": checks, "counters": len(settled.counters), "checked": process.keeper.checked}}

result = asyncio.run(main())
"""


def test_check_finds_no_difference_at_any_moment(house: House) -> None:
    """Also while calls are in flight and `ingest` moves lines to the database."""
    callers = [house.account(*LIMITS, markup_bp=777, time_zone=zone) for zone in ("Asia/Kathmandu", "America/New_York")]
    # A second gateway on the same ledger, for the one thing that no caller can see.
    keys = [caller.key for caller in callers]
    of_keys = [limit for limit in LIMITS if not limit.startswith("sessions")]
    keys.append(house.installation.key(callers[0].name, limits=of_keys))
    found = house.installation.python(CHECK.format(keys=keys))
    assert len(found["checks"]) > 4
    assert set(found["checks"]) == {0}
    assert found["counters"] >= 2 * 4 * 5 + 3 * 5


async def _slow_body(caller: Account) -> None:
    """A call whose headers came seconds before its body, and others in between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", caller.installation.port)
    head, separator, body = caller.request().partition(b"\r\n\r\n")
    writer.write(head + separator)
    await asyncio.sleep(2.2)
    await asyncio.to_thread(caller.call)
    writer.write(body)
    assert (await read_reply(reader)).status == 200
    writer.close()


def test_a_call_belongs_to_the_moment_it_was_admitted_not_to_that_of_its_headers(house: House) -> None:
    caller = house.account("requests=100/minute")
    asyncio.run(_slow_body(caller))
    first, second = caller.records(2)
    assert first["admitted_at"] < first["settled_at"] <= second["admitted_at"], "by admission they follow each other"


def test_headers_show_what_the_records_sum_up_to(house: House) -> None:
    caller = house.account("requests=1000/day", "tokens=1000000/month")
    rng = random.Random(5)
    for _ in range(60):
        caller.call(rng.choice(["sandbox", "gpt-4o-mini", "stub-500", "stub-400", "gpt-99"]), stream=rng.random() < 0.5)
    records = caller.records(60)
    counted = [record for record in records if record["outcome"] not in ("refused", "upstream_error")]
    headers = caller.models().headers
    assert int(headers["x-ratelimit-remaining-requests"]) == 1000 - len(counted)
    tokens = sum(record["input_tokens"] + record["output_tokens"] for record in counted)
    assert int(headers["x-ratelimit-remaining-tokens"]) == 1_000_000 - tokens


def test_the_metric_is_zero_and_readyz_says_so(house: House) -> None:
    until(house.installation.is_ready, 5)
    assert house.installation.metric("gateway_counters_differing") == 0
