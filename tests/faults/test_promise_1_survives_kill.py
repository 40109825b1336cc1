"""Promise 1 under `kill -9`: 50 times at random moments under load; every whole answer is on record exactly once."""

import asyncio
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import pytest

from tests.callers import Account, NotWhole, Reply, account, exchange
from tests.e2e.conftest import RATES
from tests.installation import Installation, until
from tests.stub.provider import StubProvider

KILLS = 50
CALLERS = 12
LIMIT = 1_000_000
MODELS = ("gpt-4o-mini", "stub-chunks-60-gap-3", "stub-delay-80", "stub-500", "stub-400", "sandbox")


class Load:
    """Callers that go on through every kill, and remember which answers reached them to the last byte."""

    def __init__(self, caller: Account, seed: int) -> None:
        self.caller = caller
        self.random = random.Random(seed)
        self.whole: dict[str, Reply] = {}
        self.numbers: dict[str, str] = {}  # request id -> number
        self.broken = 0
        self.asked = 0
        self.stopping = False

    async def one_caller(self) -> None:
        while not self.stopping:
            self.asked += 1
            number = str(self.asked)
            model, stream = self.random.choice(MODELS), self.random.random() < 0.5
            path = self.random.choice(["chat/completions", "completions", "responses"])
            request = self.caller.request(
                model, f"Question {number}", path=path, stream=stream, user=f"user {self.random.randint(1, 40)}",
                headers={"x-gateway-tags": f"execution={number}"},
            )  # fmt: skip
            try:
                reply = await exchange(self.caller.installation.port, request)
            except NotWhole:
                self.broken += 1
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                assert reply.id not in self.whole
                self.whole[reply.id] = reply
                self.numbers[reply.id] = number


async def _kill_again_and_again(load: Load) -> None:
    installation = load.caller.installation
    callers = [asyncio.create_task(load.one_caller()) for _ in range(CALLERS)]
    for kill in range(KILLS):
        served = len(load.whole)
        while len(load.whole) == served:  # it serves again
            await asyncio.sleep(0.005)
            for caller in callers:
                assert not caller.done(), caller.exception()
        await asyncio.sleep(load.random.random() * 0.4)
        installation.stop_gateway(signal.SIGKILL)
        if kill % 10 == 0:  # and now and then the one that moves lines to records
            assert installation.ingest is not None
            installation.ingest.kill()
            installation.ingest.wait()
            installation.start_ingest()
        installation.start_gateway(wait=False)
    await asyncio.to_thread(until, installation.is_ready, 30, "ready")
    load.stopping = True
    await asyncio.gather(*callers)


@pytest.mark.timeout(900)  # fifty starts take as long as the machine takes
def test_50_kills_under_load(install: Callable[..., Installation]) -> None:
    with StubProvider() as stub:
        installation = install()
        installation.provider(stub.url, dict.fromkeys([model for model in MODELS if model != "sandbox"], RATES))
        installation.start()
        caller = account(installation, f"requests={LIMIT}/total", "tokens=1000000000/month", "sessions=1000/month")
        load = Load(caller, seed=20261123)
        asyncio.run(_kill_again_and_again(load))
        records = caller.records_of(set(load.whole), 60)
        assert len(load.whole) > 10 * KILLS
        assert load.broken > KILLS, "the kills hit calls in flight"

        # Exactly once: by id it cannot be otherwise, so by the number that each call carried.
        by_number = Counter(record["execution"] for record in records.values())
        reached = Counter(
            match[1].decode() for call in stub.calls if (match := re.search(rb"Question (\d+)\b", call.body))
        )
        until(lambda: set(reached) <= {record["execution"] for record in caller.recorded()}, 30, "all on record")
        rows = caller.recorded()
        by_number = Counter(record["execution"] for record in rows)
        assert max(by_number.values()) == 1
        by_id = {UUID(record["request_id"]).hex: record for record in rows}
        for request_id, number in load.numbers.items():
            record = by_id[request_id]
            assert record["execution"] == number
            assert record["status"] == load.whole[request_id].status
            assert record["outcome"] != "interrupted"

        # What never reached its end here is either ended in the journal a moment before the kill, or interrupted.
        received = set(load.numbers.values())
        lost = [record for record in rows if record["execution"] not in received]
        interrupted = [record for record in lost if record["outcome"] == "interrupted"]
        assert len(interrupted) > KILLS
        assert {record["outcome"] for record in lost} <= {
            "interrupted", "ok", "rejected", "upstream_error", "client_gone", "broken",
        }  # fmt: skip
        assert all(record["estimated"] and record["status"] == 0 for record in interrupted)

        _check_counters(caller, rows)
        assert installation.stop_gateway() == 0
        until(lambda: not list((installation.data_dir / "journal").glob("*.journal")), 20, "the journal drained")
        assert len([r for r in caller.recorded() if r["execution"]]) == len(rows)
        assert not (installation.data_dir / "journal" / "quarantine").exists()


def _check_counters(caller: Account, rows: list[dict[str, object]]) -> None:
    """After all that the limits stand where the ledger says, and let through exactly what is left."""
    counted = [row for row in rows if row["outcome"] not in ("refused", "upstream_error")]
    headers = caller.models().headers
    assert int(headers["x-ratelimit-remaining-requests"]) == LIMIT - len(counted)
    tokens = sum(int(str(row["input_tokens"])) + int(str(row["output_tokens"])) for row in counted)
    assert int(headers["x-ratelimit-remaining-tokens"]) == 1_000_000_000 - tokens
    caller.installation.python(
        "from clients.models import Limit\n"
        f"Limit.objects.filter(client_id={caller.id}, metric='requests').update(amount={len(counted) + 3})"
    )
    until(lambda: caller.models().left == 3, 5, "the new limit")
    replies = caller.calls_at_once(10)
    served = sum(reply.status == 200 for reply in replies)
    while any(reply.code == "rate_limit_exceeded" for reply in replies):
        replies = caller.calls_at_once(5)
        served += sum(reply.status == 200 for reply in replies)
    assert served == 3
