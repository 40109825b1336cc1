"""Whose account a call goes to: the client's own, one of its operator's, or the one that all share."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.callers import Account, Reply
from tests.e2e.conftest import House
from tests.installation import until
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider

RATES = {"input": 1_000_000, "output": 1_000_000}

OPERATOR = """
from django.contrib.auth import get_user_model
from pricing.models import Provider
user, _ = get_user_model().objects.get_or_create(username={name!r})
result = user.pk
"""
GIVE = "from pricing.models import Provider; Provider.objects.filter(pk={provider}).update({change})"
HAND = "from clients.models import Client; Client.objects.filter(pk={client}).update({change})"
SWITCH = "from pricing.models import {what}; {what}.objects.filter({which}).update(enabled={on})"


@dataclass
class Own:
    """A provider of its own stub, with models of names that the shared provider has too, and one that it has not."""

    house: House
    stub: StubProvider
    provider_id: int
    operator_id: int

    def python(self, source: str, **values: Any) -> Any:
        return self.house.installation.python(source.format(**values))

    def give(self, **change: Any) -> None:
        self.python(GIVE, provider=self.provider_id, change=", ".join(f"{k}={v!r}" for k, v in change.items()))

    def hand(self, account: Account, **change: Any) -> None:
        self.python(HAND, client=account.id, change=", ".join(f"{k}={v!r}" for k, v in change.items()))

    def switch(self, what: str, which: str, on: bool) -> None:
        self.python(SWITCH, what=what, which=which, on=on)

    def sees(self, account: Account) -> set[str]:
        """The models of the list that an account gets."""
        return {model["id"] for model in account.models().json()["data"]}

    def goes_to(self, account: Account, model: str) -> str:
        """Make a call; say where it went, or which status it got."""
        self.house.stub.clear()
        self.stub.clear()
        reply = account.call(model)
        if reply.status != 200:
            assert not self.house.stub.calls
            assert not self.stub.calls
            return str(reply.status)
        assert len(self.house.stub.calls) + len(self.stub.calls) == 1
        return "own" if self.stub.calls else "shared"


@pytest.fixture
def own(house: House, request: pytest.FixtureRequest) -> Iterator[Own]:
    name = request.node.name
    with StubProvider() as stub:
        operator_id = house.installation.python(OPERATOR.format(name=name))
        models = {"gpt-4o-mini": RATES, "of-own": RATES}
        # made as somebody's from the start: for a moment in between it would be everybody's, and the names are taken
        provider_id = house.installation.python(
            f"""
from datetime import UTC, datetime
from pricing.models import Model, Price, Provider
provider = Provider(name={name!r}, base_url={stub.url!r}, owner_id={operator_id})
provider.set_credential("sk-own-canary-0123456789")
provider.full_clean()
provider.save()
for model_name, rates in {models!r}.items():
    model = Model.objects.create(name=model_name, provider=provider)
    Price.objects.create(model=model, effective_from=datetime(2026, 1, 1, tzinfo=UTC), **rates)
result = provider.id
"""
        )
        yield Own(house, stub, provider_id, operator_id)
        house.installation.python(
            f"from pricing.models import Provider; Provider.objects.filter(pk={provider_id}).update(enabled=False)"
        )


def test_an_operators_provider_serves_that_operators_clients_alone(own: Own) -> None:
    mine, other = own.house.account(owner_id=own.operator_id), own.house.account()
    until(lambda: "of-own" in own.sees(mine), 2, "the operator's model listed")
    assert own.goes_to(mine, "of-own") == "own"
    assert own.goes_to(mine, "gpt-4o-mini") == "own", "of two of a name, the nearer one"
    assert ("authorization", "Bearer sk-own-canary-0123456789") in own.stub.calls[0].headers
    assert own.goes_to(mine, "stub-chunks-40") == "shared"
    assert own.goes_to(other, "of-own") == "404"
    assert own.goes_to(other, "gpt-4o-mini") == "shared"
    assert "of-own" not in own.sees(other)
    assert own.sees(mine) == own.sees(other) | {"of-own"}


def test_a_record_tells_the_provider_and_its_price(own: Own) -> None:
    mine, other = own.house.account(owner_id=own.operator_id), own.house.account()
    until(lambda: "of-own" in own.sees(mine), 2)
    for account in (mine, other):
        account.call("gpt-4o-mini", max_tokens=10)
    (at_mine,), (at_other,) = mine.records(1), other.records(1)
    assert at_mine["provider_id"] == own.provider_id != at_other["provider_id"]
    assert at_mine["cost"] == 1_000_000 * (at_mine["input_tokens"] + at_mine["output_tokens"])
    assert at_other["cost"] == 150_000 * at_other["input_tokens"] + 600_000 * at_other["output_tokens"]


def test_switched_off_an_operators_provider_leaves_its_clients_the_shared_ones(own: Own) -> None:
    mine = own.house.account(owner_id=own.operator_id)
    until(lambda: own.goes_to(mine, "gpt-4o-mini") == "own", 2)
    own.switch("Model", f"provider={own.provider_id}, name='gpt-4o-mini'", on=False)
    until(lambda: own.goes_to(mine, "gpt-4o-mini") == "shared", 1, "the model switched off")
    assert own.goes_to(mine, "of-own") == "own"
    own.switch("Provider", f"pk={own.provider_id}", on=False)
    until(lambda: own.goes_to(mine, "of-own") == "404", 1, "the provider switched off")


def test_a_client_in_other_hands_uses_what_is_theirs(own: Own) -> None:
    moved = own.house.account()
    assert own.goes_to(moved, "of-own") == "404"
    own.hand(moved, owner_id=own.operator_id)
    until(lambda: own.goes_to(moved, "of-own") == "own", 1, "the client handed over")
    own.hand(moved, owner_id=None)
    until(lambda: own.goes_to(moved, "of-own") == "404", 1, "the client taken back")


def test_an_account_of_one_client_serves_no_other(own: Own) -> None:
    mine = own.house.account(owner_id=own.operator_id)
    until(lambda: own.goes_to(mine, "of-own") == "own", 2)
    own.give(billed_to_client=True)
    until(lambda: own.goes_to(mine, "of-own") == "404", 1, "the account closed to others")
    assert own.goes_to(mine, "gpt-4o-mini") == "shared"


def test_a_client_with_an_account_of_its_own_uses_that_first(own: Own) -> None:
    own.give(billed_to_client=True, owner_id=None)
    holder, other = own.house.account(), own.house.account()
    own.hand(holder, provider_id=own.provider_id)
    until(lambda: own.goes_to(holder, "of-own") == "own", 1, "the account given")
    assert own.goes_to(holder, "gpt-4o-mini") == "own"
    assert own.goes_to(holder, "stub-chunks-40") == "shared"
    assert own.goes_to(other, "of-own") == "404"
    assert own.goes_to(other, "gpt-4o-mini") == "shared"


def test_what_is_off_on_a_clients_own_account_is_not_paid_by_another(own: Own) -> None:
    own.give(billed_to_client=True)
    holder = own.house.account()
    own.hand(holder, provider_id=own.provider_id)
    until(lambda: own.goes_to(holder, "gpt-4o-mini") == "own", 1)
    own.switch("Provider", f"pk={own.provider_id}", on=False)
    until(lambda: own.goes_to(holder, "gpt-4o-mini") == "404", 1, "the account switched off")
    assert "gpt-4o-mini" not in own.sees(holder)
    assert own.goes_to(holder, "stub-chunks-40") == "shared"


def test_an_edit_of_a_provider_does_not_disturb_calls_in_flight(own: Own) -> None:
    mine = own.house.account(owner_id=own.operator_id)
    until(lambda: own.goes_to(mine, "of-own") == "own", 2)
    replies: list[Reply] = []
    own.stub.clear()
    own.stub.script(Behaviour(hold=0, input_tokens=3, output_tokens=4))
    in_flight = threading.Thread(target=lambda: replies.append(mine.call("of-own")))
    in_flight.start()
    own.stub.wait_calls(1)
    with StubProvider() as moved_to:
        own.python(
            "from pricing.models import Provider; provider = Provider.objects.get(pk={pk}); "
            "provider.base_url = {url!r}; provider.idle_timeout = 7; provider.set_credential('sk-another'); "
            "provider.full_clean(); provider.save()",
            pk=own.provider_id,
            url=moved_to.url,
        )
        until(lambda: mine.call("of-own").status == 200 and moved_to.calls, 2, "the new address")
        assert ("authorization", "Bearer sk-another") in moved_to.calls[0].headers
        own.stub.release()
        in_flight.join(10)
    assert replies[0].status == 200
    assert replies[0].json()["usage"]["completion_tokens"] == 4
