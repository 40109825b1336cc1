"""A client with own prices pays these, whatever the provider takes; its limits count what it pays."""

from tests.callers import Account
from tests.e2e.conftest import RATES, House
from tests.installation import until

OWN = {"input": 1_000_000, "output": 5_000_000}  # picodollars per token: 1 and 5 USD per million


def own_price(caller: Account, model: str, rates: dict[str, int] | None) -> None:
    """Give the client an own price of a model, or another, or (None) none any more."""
    caller.installation.python(
        f"""
from clients.models import OwnPrice
from pricing.models import Model
model = Model.objects.get(name={model!r})
OwnPrice.objects.filter(client_id={caller.id}, model=model).delete()
if {rates is not None}:
    OwnPrice.objects.create(client_id={caller.id}, model=model, **{rates!r})
"""
    )


def newest(caller: Account, count: int) -> dict[str, int]:
    """The last of `count` records."""
    return dict(caller.records(count)[-1])


def paid(record: dict[str, int], rates: dict[str, int]) -> int:
    cached = min(record["cached_tokens"], record["input_tokens"])
    plain = record["input_tokens"] - cached
    return (
        plain * rates["input"]
        + cached * rates.get("cached_input", rates["input"])
        + (record["output_tokens"] * rates["output"])
    )


def test_calls_are_charged_the_own_price_as_soon_as_it_is_there_and_the_markup_once_it_is_gone(house: House) -> None:
    caller = house.account(markup_bp=10_000)
    model = "gpt-4o-mini"
    assert caller.call(model, max_tokens=10).status == 200
    before = newest(caller, 1)
    assert before["cost"] == paid(before, RATES)
    assert before["charge"] == 2 * before["cost"]
    own_price(caller, model, OWN)
    calls = 1

    def charged_now() -> dict[str, int]:
        nonlocal calls
        calls += 1
        assert caller.call(model, max_tokens=10).status == 200
        return newest(caller, calls)

    until(lambda: (row := charged_now())["charge"] == paid(row, OWN) and row["cost"] == paid(row, RATES), 10, "own")
    own_price(caller, model, None)
    until(lambda: (row := charged_now())["charge"] == 2 * row["cost"], 10, "the markup again")


def test_a_limit_in_credits_holds_back_the_most_that_the_own_price_may_come_to(house: House) -> None:
    caller = house.account("credits=0.001/total")
    model = house.model("own-priced", RATES, upstream="gpt-4o-mini")
    assert caller.call(model, max_tokens=150).status == 200  # at most some 0.0001 USD by the list
    own_price(caller, model, {"input": 1_000_000, "output": 10_000_000})
    refused = until(lambda: (reply := caller.call(model, max_tokens=150)).status == 429 and reply, 10, "a refusal")
    assert refused.code == "insufficient_quota"


def test_a_model_that_costs_nothing_can_be_charged(house: House) -> None:
    caller = house.account()
    model = house.model("own-hardware", None, upstream="gpt-4o-mini")
    assert caller.call(model, max_tokens=10).status == 200
    own_price(caller, model, OWN)
    calls = 1

    def charged() -> bool:
        nonlocal calls
        calls += 1
        assert caller.call(model, max_tokens=10).status == 200
        row = newest(caller, calls)
        return (row["cost"], row["charge"]) == (0, paid(row, OWN))

    until(charged, 10, "a charge")
