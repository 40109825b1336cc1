"""What an operator does in the back office, done by an automation: clients, limits, keys, prices, usage."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.utils import timezone

from clients.access import Role, set_role
from clients.access_tokens import SCOPES, make
from clients.models import Client, Plan
from clients.onboarding import create_client
from keys.models import APIKey
from keys.tokens import digest
from pricing.models import Model, Provider
from tests.clients.test_plans import make_plan
from tests.usage.test_pages import call
from usage import due, standings

pytestmark = pytest.mark.django_db


class Automation:
    """Sends JSON as a person who is an operator."""

    def __init__(self) -> None:
        self.person = User.objects.create_user("ana")
        set_role(self.person, Role.OPERATOR)
        self.headers = {"authorization": f"Bearer {make(self.person, 'n8n', SCOPES)[1]}"}

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        sent = {} if body is None else {"data": body, "content_type": "application/json"}
        answer = getattr(Browser(), method)(f"/api/{path}", headers=self.headers, **sent)
        assert answer.status_code == status, answer.content
        return answer.json()


@pytest.fixture
def api() -> Automation:
    return Automation()


@pytest.fixture
def acme(api: Automation) -> Client:
    return create_client("Acme", ["requests=100/day"], owner=api.person)


def test_a_client_is_found_changed_suspended_and_archived(api: Automation, acme: Client) -> None:
    create_client("Beta", owner=api.person)
    found = api("get", "clients/?q=acm&status=active")["results"]
    assert [row["name"] for row in found] == ["Acme"]
    path = f"clients/{acme.pk}/"
    changed = api("patch", path, {"version": found[0]["version"], "email": "a@b.example", "markup_percent": "12.5"})
    assert (changed["email"], changed["markup_percent"], changed["name"]) == ("a@b.example", "12.5", "Acme")
    assert "changed this client meanwhile" in api("patch", path, {"version": 0, "name": "Lost"}, status=409)["detail"]
    assert api("patch", path, {"version": changed["version"], "time_zone": "Mars"}, status=400)["errors"]["time_zone"]
    for field in ("status", "owner", "id", "onboarding_token", "provider"):
        refused = api("patch", path, {"version": changed["version"], field: "1"}, status=400)
        assert refused["errors"] == {field: ["There is no such field."]}
    assert api("post", f"{path}suspend/", {"reason": "unpaid"})["status_reason"] == "unpaid"
    assert api("post", f"{path}activate/", {})["status"] == "active"
    assert api("post", f"{path}archive/", {})["status"] == "inactive"
    assert api("get", "clients/?status=nonsense", status=400)["errors"]


def test_a_plan_is_given_and_taken(api: Automation, acme: Client) -> None:
    make_plan("Basic", "requests=500/day", markup_bp=2000)
    assert [row["name"] for row in api("get", "plans/")["results"]] == ["Basic"]
    given = api("post", f"clients/{acme.pk}/plan/", {"plan": "Basic"})
    assert (given["plan"], given["limits"], given["markup_percent"]) == ("Basic", ["500 requests a day"], "20")
    assert api("post", f"clients/{acme.pk}/plan/", {"plan": None})["plan"] is None
    assert "no plan" in str(api("post", f"clients/{acme.pk}/plan/", {"plan": "Gold"}, status=400))


def test_limits_are_replaced_and_tell_how_they_stand(
    api: Automation, acme: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = acme.limits.get()
    path = f"clients/{acme.pk}/limits/"
    api("put", path, {"limits": ["requests=250/day", "credits=25.50/month"]})
    assert acme.limits.get(metric="requests").pk == kept.pk
    row = (kept.pk, 250, 70, 5, None)
    monkeypatch.setattr(standings, "_ask", lambda query: {str(acme.pk): [row]})
    told = api("get", path)
    assert told["gateway_answers"] is True
    assert told["limits"][0] == {"limit": "credits=25.50/month"}
    day = told["limits"][1]
    assert (day["limit"], day["used"], day["reserved"], day["left"]) == ("requests=250/day", "70", "5", "175")
    for wrong in (["requests=many/day"], ["requests=1/day", "requests=2/day"]):
        api("put", path, {"limits": wrong}, status=400)
    assert acme.limits.count() == 2
    monkeypatch.setattr(standings, "_ask", lambda query: None)
    assert api("get", path)["gateway_answers"] is False


def test_a_key_is_issued_regenerated_handed_over_and_revoked(api: Automation, acme: Client) -> None:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    Model.objects.create(name="gpt-4o-mini", provider=provider)
    asked = {
        "client": acme.pk,
        "name": "n8n",
        "expires_in": "30d",
        "models": ["gpt-4o-mini"],
        "limits": ["requests=9/day"],
    }
    issued = api("post", "keys/", asked, status=201)
    key = APIKey.objects.get(pk=issued["key"]["id"])
    assert bytes(key.digest) == digest(issued["text"].encode())
    assert (issued["key"]["models"], issued["key"]["limits"]) == (["gpt-4o-mini"], ["9 requests a day"])
    again = api("post", f"keys/{key.pk}/regenerate/", {"grace": "1h", "hand_over": True}, status=201)
    assert again["text"] is None
    assert "/keys/" in again["link"]
    assert api("get", f"keys/{key.pk}/")["state"] == "replaced"
    revoked = api("post", f"keys/{again['key']['id']}/revoke/", {"reason": "leaked"})
    assert (revoked["state"], revoked["revoked_reason"]) == ("revoked", "leaked")
    listed = api("get", f"keys/?client={acme.pk}")
    assert [row["state"] for row in listed["results"]] == ["replaced", "revoked"]
    assert issued["text"] not in str(listed)
    for wrong in ({"client": acme.pk, "models": ["gpt-9"]}, {"client": acme.pk, "digest": "x"}, {"client": "x"}):
        api("post", "keys/", wrong, status=400)
    api("post", f"keys/{key.pk}/regenerate/", {}, status=400)


def test_a_price_from_the_first_is_added_and_the_one_in_force_stays(api: Automation) -> None:
    provider = Provider.objects.create(name="Own", base_url="https://api.openai.com/v1", owner=api.person)
    model = Model.objects.create(name="gpt-4o-mini", provider=provider)
    path = f"models/{model.pk}/prices/"
    api("post", path, {"input": "0.15", "output": "0.60"}, status=201)
    first = (timezone.now() + timedelta(days=20)).isoformat()
    told = api("post", path, {"input": "0.20", "output": "0.80", "effective_from": first}, status=201)
    assert [(row["state"], row["usd_per_million"]["input"]) for row in told] == [
        ("to come", "0.2"),
        ("in force", "0.15"),
    ]
    api("post", path, {"input": "-1", "output": "0.60"}, status=400)
    api("post", path, {"input": "0.1", "output": "0.1", "effective_from": "2020-01-01T00:00:00Z"}, status=400)
    assert [row["name"] for row in api("get", "models/")["results"]] == ["gpt-4o-mini"]
    assert "credential" not in str(api("get", "providers/"))


def test_usage_is_read_by_page_summed_up_and_exported(api: Automation, acme: Client) -> None:
    for number in range(5):
        record = call(acme, charge=number * 10**12, workflow="nightly" if number % 2 else "", input_tokens=10)
        record.save(force_insert=True)
    due.put_all_down()
    page = api("get", "usage/?page_size=2")
    seen = page["results"]
    while page["next"]:
        page = api("get", page["next"].partition("/api/")[2])
        seen += page["results"]
    assert sorted(row["charge_usd"] for row in seen) == ["0.00", "1.00", "2.00", "3.00", "4.00"]
    assert len(api("get", "usage/?workflow=nightly")["results"]) == 2
    assert api("get", f"usage/{seen[0]['request_id']}/")["charge_usd"] == seen[0]["charge_usd"]
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    assert api("get", f"usage/?since={tomorrow}")["results"] == []
    api("get", "usage/?since=yesterday", status=400)
    [row] = api("get", "usage/summary/?last=7d&by=client")["rows"]
    assert (row["client"], row["calls"], row["charge_usd"], row["input_tokens"]) == (acme.pk, 5, "10.00", 50)
    api("get", "usage/summary/", status=400)
    api("get", "usage/summary/?last=7d&by=colour", status=400)
    answer = Browser().get("/api/costs/?last=7d&group_by=client", headers=api.headers)
    [line] = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))  # type: ignore[attr-defined]
    assert (line["client"], line["charge_usd"]) == ("Acme", "10.00")
    assert api("get", "health/")["rollups_due_since"] is not None


def test_a_client_pays_its_own_prices_and_the_markup_again_without_them(api: Automation, acme: Client) -> None:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    one, two = (Model.objects.create(name=name, provider=provider) for name in ("gpt-4o", "gpt-4o-mini"))
    path = f"clients/{acme.pk}/prices/"
    told = api("put", path, {"prices": [
        {"model": one.pk, "input": "2.50", "output": "10"}, {"model": two.pk, "input": "0.3", "output": "1.2"},
    ]})  # fmt: skip
    assert [(row["name"], row["usd_per_million"]["input"]) for row in told] == [
        ("gpt-4o", "2.5"),
        ("gpt-4o-mini", "0.3"),
    ]
    told = api("put", path, {"prices": [{"model": two.pk, "input": "0.4", "output": "1.2", "cached_input": "0.1"}]})
    assert [(row["model"], row["usd_per_million"]["cached_input"]) for row in told] == [(two.pk, "0.1")]
    assert acme.own_prices.get().input == 400_000
    foreign = Provider.objects.create(name="Ben's", base_url="https://b.example", owner=User.objects.create_user("ben"))
    others = Model.objects.create(name="gpt-4o", provider=foreign)
    price = {"model": one.pk, "input": "1", "output": "1"}
    no_output = {"model": one.pk, "input": "1"}
    wrong_ones = [[price, price], [no_output], *([price | bad] for bad in ({"model": others.pk}, {"input": "-1"}))]
    for wrong in (*wrong_ones, [price | {"model": 10**9}]):
        assert api("put", path, {"prices": wrong}, status=400)["errors"]
    assert [row["model"] for row in api("get", path)] == [two.pk]
    assert api("put", path, {"prices": []}) == []


def test_a_model_is_renamed_and_switched_off(api: Automation) -> None:
    provider = Provider.objects.create(name="Own", base_url="https://api.openai.com/v1", owner=api.person)
    model = Model.objects.create(name="gpt-4o", provider=provider)
    Model.objects.create(name="taken", provider=provider)
    shared = Provider.objects.create(name="Shared", base_url="https://api.openai.com/v1")
    path = f"models/{model.pk}/"
    told = api("patch", path, {"name": "chat", "upstream_name": "gpt-4o", "enabled": False})
    assert (told["name"], told["upstream_name"], told["enabled"]) == ("chat", "gpt-4o", False)
    assert api("get", path) == told
    assert api("patch", path, {"name": "taken"}, status=400)["errors"]["name"]
    assert api("patch", path, {"provider": shared.pk}, status=400)["errors"]["provider"]
    theirs = Model.objects.create(name="gpt-4o", provider=shared)
    api("patch", f"models/{theirs.pk}/", {"enabled": False}, status=403)


def test_owners_keep_plans_and_clients_that_follow_get_the_new_terms_where_they_say_so(api: Automation) -> None:
    set_role(api.person, Role.OWNER)
    plan = api("post", "plans/", {"name": "Basic", "markup_percent": "20", "limits": ["requests=10/day"]}, status=201)
    assert (plan["markup_percent"], plan["limits"]) == ("20", ["10 requests a day"])
    follows, deviates = (create_client(name, plan=Plan.objects.get()) for name in ("Follows", "Deviates"))
    api("put", f"clients/{deviates.pk}/limits/", {"limits": ["requests=99/day"]})
    path = f"plans/{plan['id']}/"
    api("patch", path, {"limits": ["requests=20/day", "tokens=5/month"]})
    assert follows.limits.get().amount == 10
    changed = api("patch", path, {"markup_percent": "30", "adopt": True})
    assert (changed["name"], changed["markup_percent"]) == ("Basic", "30")
    assert {limit.amount for limit in follows.limits.all()} == {20, 5}
    assert deviates.limits.get().amount == 99
    for wrong in ({"limits": ["beauty=1/day"]}, {"name": ""}, {"markup_percent": "much"}, {"clients": []}):
        api("patch", path, wrong, status=400)
    assert api("post", "plans/", {"name": "Basic"}, status=400)["errors"]["name"]
