"""Which price holds for a call, and what a model without one, an alias and a disabled model are answered."""

import threading

from tests.callers import Reply
from tests.e2e.conftest import House
from tests.installation import until
from tests.stub.behaviour import Behaviour

NEW_PRICE = """
from django.utils import timezone
from pricing.models import Model, Price
Price.objects.create(model=Model.objects.get(name={name!r}), effective_from=timezone.now(), input=7_000, output=9_000)
"""


def test_the_price_at_admission_holds_though_it_changes_before_the_end(house: House) -> None:
    model = house.model("changing", {"input": 1_000, "output": 2_000})
    caller = house.account()
    replies: list[Reply] = []
    house.stub.script(Behaviour(hold=0, input_tokens=10, output_tokens=10))
    in_flight = threading.Thread(target=lambda: replies.append(caller.call(model)))
    in_flight.start()
    house.stub.wait_calls(1)
    house.installation.python(NEW_PRICE.format(name=model))

    def new_price_holds() -> bool:
        house.stub.script(Behaviour(input_tokens=1, output_tokens=0))
        return caller.records_of({caller.call(model).id}) and caller.recorded()[-1]["cost"] == 7_000

    until(new_price_holds, 5, "the new price")
    house.stub.release()
    in_flight.join(10)
    record = caller.records_of({replies[0].id})[replies[0].id]
    assert record["cost"] == 10 * 1_000 + 10 * 2_000
    (price,) = house.installation.sql("SELECT * FROM pricing_price WHERE id = ?", record["price_id"])
    assert (price["input"], price["output"]) == (1_000, 2_000)


def test_a_price_from_a_later_moment_on_holds_from_that_moment(house: House) -> None:
    model = house.model("announced", {"input": 1_000, "output": 1_000})
    source = NEW_PRICE.replace("timezone.now()", "timezone.now() + timedelta(seconds=2)")
    house.installation.python("from datetime import timedelta" + source.format(name=model))
    caller = house.account()

    def cost() -> int:
        house.stub.script(Behaviour(input_tokens=1, output_tokens=0))
        return int(caller.records_of({caller.call(model).id}) and caller.recorded()[-1]["cost"])

    assert cost() == 1_000
    until(lambda: cost() == 7_000, 6, "the announced price")


def test_a_model_without_a_price_is_refused_and_the_operator_told(house: House) -> None:
    model = house.model("unpriced", {})
    caller = house.account("requests=5/day")
    until(lambda: caller.call(model).status == 503 and "x-ratelimit-limit-requests" in caller.models().headers, 5)
    refused = caller.call(model)
    assert (refused.status, refused.code) == (503, "model_not_priced")
    assert refused.left == 5
    assert not house.stub.calls
    assert model not in caller.models().body.decode()
    assert "unpriced is asked for but has no price" in house.installation.log()


def test_a_free_model_costs_nothing_and_is_counted(house: House) -> None:
    model = house.model("gratis", None)
    caller = house.account("requests=5/day", "tokens=1000/day", "credits=0/month")
    reply = caller.call(model, max_tokens=20)
    assert reply.status == 200
    (record,) = caller.records(1)
    assert (record["cost"], record["charge"], record["price_id"]) == (0, 0, None)
    assert record["input_tokens"] + record["output_tokens"] > 0
    tokens_left = int(caller.models().headers["x-ratelimit-remaining-tokens"])
    assert tokens_left == 1000 - record["input_tokens"] - record["output_tokens"]


def test_a_budget_of_zero_lets_no_priced_call_through(house: House) -> None:
    caller = house.account("credits=0/month")
    assert caller.call("gpt-4o-mini").code == "insufficient_quota"
    assert caller.call("gpt-4o-mini", max_tokens=1).code == "insufficient_quota"
    assert not house.stub.calls


def test_clients_use_the_alias_and_the_provider_hears_its_own_name(house: House) -> None:
    model = house.model("agency/fast", {"input": 1, "output": 1}, upstream="gpt-5-mini-2026")
    caller = house.account()
    assert caller.call(model).status == 200
    (call,) = house.stub.calls
    assert call.json()["model"] == "gpt-5-mini-2026"
    (record,) = caller.records(1)
    assert (record["model_asked"], record["model_served"]) == ("agency/fast", "gpt-5-mini-2026")
    assert model in {entry["id"] for entry in caller.models().json()["data"]}


def test_unknown_and_disabled_models_are_the_same_404(house: House) -> None:
    model = house.model("retired", {"input": 1, "output": 1})
    caller = house.account("requests=5/day")
    unknown = caller.call("never was")
    house.installation.python(
        f"from pricing.models import Model; Model.objects.filter(name={model!r}).update(enabled=False)"
    )
    until(lambda: caller.call(model).status == 404, 1, "the model disabled")
    disabled = caller.call(model)
    assert (unknown.status, unknown.code) == (disabled.status, disabled.code) == (404, "model_not_found")
    assert unknown.error["message"].replace("never was", model) == disabled.error["message"]
    assert unknown.error["param"] == "model"
