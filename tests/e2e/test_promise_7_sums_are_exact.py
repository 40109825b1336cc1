"""Promise 7: records' cost and charge equal, to the picodollar, an independent sum by Decimal."""

import random
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import orjson

from tests.callers import Account, Reply
from tests.e2e.conftest import House
from tests.installation import until
from tests.stub.behaviour import Behaviour

# USD per million tokens, as a price list shows them.
LIST = {
    "default": {"input": "2.50", "cached_input": "1.25", "output": "10.00"},
    "flex": {"input": "1.25", "cached_input": "0.625", "output": "5.00"},
    "priority": {"input": "4.25", "cached_input": "2.125", "output": "17.00"},
}
LONG = {"input": "5.00", "cached_input": "2.50", "output": "15.075"}  # the whole call, above 2,000 input tokens
STEP = 2_000
AUDIO = {"audio_input": "40.00", "audio_output": "80.00"}
MARKUPS = {0: Decimal(1), 1_999: Decimal("1.1999"), -333: Decimal("0.9667"), 10_000: Decimal(2)}


def _usage(random_: random.Random, path: str) -> dict[str, Any]:
    """A provider's report: random, and now and then at an edge."""
    given = random_.choice([1, 2, STEP - 1, STEP, STEP + 1, random_.randint(1, 100_000)])
    written = random_.choice([0, 1, random_.randint(0, 20_000)])
    cached = random_.choice([0, given, random_.randint(0, given)])
    heard = random_.choice([0, random_.randint(0, given - cached)])
    spoken = random_.choice([0, random_.randint(0, written)])
    thought = random_.choice([0, random_.randint(0, written - spoken)])
    entered, left = ("input", "output") if path == "responses" else ("prompt", "completion")
    return {
        f"{entered}_tokens": given,
        f"{left}_tokens": written,
        f"{entered}_tokens_details": {"cached_tokens": cached, "audio_tokens": heard},
        f"{left}_tokens_details": {"reasoning_tokens": thought, "audio_tokens": spoken},
    }


def _expected(usage: dict[str, Any], tier: str) -> Decimal:
    """The provider's price of a call in USD."""

    def of(name: str) -> Any:
        return next(value for key, value in usage.items() if key in name.split("|"))

    given, written = of("prompt_tokens|input_tokens"), of("completion_tokens|output_tokens")
    parts_in = of("prompt_tokens_details|input_tokens_details")
    parts_out = of("completion_tokens_details|output_tokens_details")
    rates = {name: Decimal(value) for name, value in LIST[tier].items()}
    audio = {name: Decimal(value) for name, value in AUDIO.items()}
    if tier == "default" and given > STEP:
        rates = {name: Decimal(value) for name, value in LONG.items()}
    elif tier != "default":
        audio = {"audio_input": rates["input"], "audio_output": rates["output"]}
    cached, heard, spoken = parts_in["cached_tokens"], parts_in["audio_tokens"], parts_out["audio_tokens"]
    million = (
        (given - cached - heard) * rates["input"]
        + cached * rates["cached_input"]
        + heard * audio["audio_input"]
        + (written - spoken) * rates["output"]
        + spoken * audio["audio_output"]
    )
    return million / 1_000_000


def _picodollars(dollars: Decimal) -> int:
    return int((dollars * 10**12).quantize(Decimal(1), ROUND_HALF_EVEN))


def _answer(path: str, usage: dict[str, Any], tier: str, *, stream: bool) -> bytes:
    body: dict[str, Any] = {"id": "x", "model": "oracle", "service_tier": tier, "usage": usage}
    if path == "responses":
        body |= {"object": "response", "status": "completed", "output": []}
        event = {"type": "response.completed", "response": body}
        return b"event: response.completed\ndata: %b\n\n" % orjson.dumps(event) if stream else orjson.dumps(body)
    if stream:
        first = {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
        return b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (orjson.dumps(first), orjson.dumps(body | {"choices": []}))
    return orjson.dumps(body | {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]})


def _prices(house: House) -> str:
    house.installation.python(
        f"""
from datetime import UTC, datetime
from decimal import Decimal
from pricing.models import Model, Price, Provider
from pricing.money import rate_from_million
model = Model.objects.create(name="oracle", provider=Provider.objects.get(name="stub"))
def price(tier, above, rates):
    Price.objects.create(
        model=model, effective_from=datetime(2026, 1, 1, tzinfo=UTC), service_tier=tier, above_tokens=above,
        **{{name: rate_from_million(Decimal(value)) for name, value in rates.items()}},
    )
for tier, rates in {LIST!r}.items():
    price(tier, 0, rates | ({AUDIO!r} if tier == "default" else {{}}))
price("default", {STEP}, {LONG!r} | {AUDIO!r})
"""
    )
    return "oracle"


def test_records_equal_the_oracle_over_random_usage_and_markups(house: House) -> None:
    model = _prices(house)
    until(lambda: model in house.watcher.models().body.decode(), 10, "the model")
    random_ = random.Random(7)
    clients = {markup: house.account("credits=1000/month", markup_bp=markup) for markup in MARKUPS}
    expected: dict[int, list[tuple[Reply, int, int]]] = {markup: [] for markup in MARKUPS}
    for _ in range(200):
        markup = random_.choice([*MARKUPS])
        path = random_.choice(["chat/completions", "completions", "responses"])
        tier, stream = random_.choice([*LIST]), random_.random() < 0.5
        usage = _usage(random_, path)
        kind = "text/event-stream" if stream else None
        house.stub.script(Behaviour(body=_answer(path, usage, tier, stream=stream), content_type=kind))
        asked = {} if tier == "default" else {"service_tier": tier}
        reply = clients[markup].call(model, path=path, stream=stream, **asked)
        assert reply.status == 200
        cost = _expected(usage, tier)
        expected[markup].append((reply, _picodollars(cost), _picodollars(cost * MARKUPS[markup])))
    for markup, calls in expected.items():
        records = clients[markup].records_of({reply.id for reply, _, _ in calls})
        for reply, cost, charge in calls:
            record = records[reply.id]
            assert (record["cost"], record["charge"], record["estimated"]) == (cost, charge, 0), record
        _check_sums(clients[markup], sum(charge for _, _, charge in calls))


def _check_sums(caller: Account, charge: int) -> None:
    (row,) = caller.installation.sql(
        "SELECT SUM(charge) AS charge FROM usage_usagerecord WHERE client_id = ?", caller.id
    )
    assert row["charge"] == charge
    (use,) = caller.installation.sql(
        "SELECT SUM(charge) AS charge FROM keys_keyuse u JOIN keys_apikey k ON k.id = u.key_id WHERE k.client_id = ?",
        caller.id,
    )
    assert use["charge"] == charge


def test_a_budget_of_exactly_what_five_calls_cost_lets_through_five(house: House) -> None:
    model = house.model("counted", {"input": 333_333, "output": 777_777})
    caller = house.account(markup_bp=3_333)
    size = len(caller.request(model, max_tokens=10).partition(b"\r\n\r\n")[2])
    # A call's bound: all bytes of its body as tokens, and its max_tokens; the stub reports just that.
    bound = Decimal(size * 333_333 + 10 * 777_777) * Decimal("1.3333")
    charge = int(bound.quantize(Decimal(1), ROUND_HALF_EVEN))
    house.installation.python(
        f"""
from clients.models import Limit
Limit.objects.create(client_id={caller.id}, metric="credits", cycle="total", amount={5 * charge})
Limit.objects.create(client_id={caller.id}, metric="requests", cycle="total", amount=100)
"""
    )
    until(lambda: "x-ratelimit-limit-requests" in caller.models().headers, 5, "the limits")
    house.stub.script(*[Behaviour(input_tokens=size, output_tokens=10)] * 6)
    assert [caller.call(model, max_tokens=10).status for _ in range(6)] == [200] * 5 + [429]
    house.stub.clear()
    assert sum(record["charge"] for record in caller.records(6)) == 5 * charge
    assert "0 USD left" in caller.call(model, max_tokens=10).error["message"]
