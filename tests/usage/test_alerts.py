"""Alerts: what is told, to whom, once for each cycle and threshold."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from clients.access import Role, set_role
from clients.models import Client, Limit
from clients.onboarding import create_client
from keys.models import APIKey, KeyLimit, KeyUse
from keys.tokens import digest, generate, hint
from pricing.models import Model, Provider
from tests.usage.test_pages import call
from usage import standings
from usage.alerts.models import Alert, AlertRules, Delivery, Kind, Receiver
from usage.alerts.watch import look_ahead, watch
from usage.due import put_down
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 17, 12, 30, tzinfo=UTC)
RESETS = datetime(2026, 7, 1, tzinfo=UTC)
Say = Callable[..., None]


@pytest.fixture
def client() -> Client:
    return create_client("Dental Clinic", ["requests=100/month", "tokens=1000/minute"])


@pytest.fixture
def gateway_says(monkeypatch: pytest.MonkeyPatch) -> Say:
    """What the gateway tells of limits: what each has spent, and when it resets; of keys apart."""

    def say(spent: dict[Limit, int], of_keys: dict[KeyLimit, int] | None = None, resets: datetime = RESETS) -> None:
        def ask(query: str) -> Any:
            name, _, percent = query.partition("=")
            asked: dict[Any, int] = {"percent": spent, "keys": of_keys or {}}[name]  # type: ignore[dict-item]
            micros = int(resets.timestamp() * 1_000_000)
            rows: dict[str, list[Any]] = {}
            for limit, used in asked.items():
                if used * 100 >= int(percent) * limit.amount:
                    owner = limit.key.client_id if isinstance(limit, KeyLimit) else limit.client_id
                    rows.setdefault(str(owner), []).append([limit.pk, limit.amount, used, 0, micros])
            return rows

        monkeypatch.setattr(standings, "_ask", ask)

    say({})
    return say


def record(client: Client, number: int, at: datetime, **fields: Any) -> None:
    made = UsageRecord.objects.bulk_create(call(client, admitted_at=at, settled_at=at, **fields) for _ in range(number))
    put_down((one.request_id, one.admitted_at) for one in made)


def titles(kind: Kind) -> list[str]:
    return list(Alert.objects.filter(kind=kind).order_by("pk").values_list("title", flat=True))


def test_each_threshold_of_a_limit_is_told_once_a_cycle(client: Client, gateway_says: Say) -> None:
    limit = client.limits.get(metric="requests")
    for used in (79, 80, 81, 99, 100, 104, 100):
        gateway_says({limit: used})
        watch(NOW)
    assert titles(Kind.LIMIT) == [
        "Dental Clinic has used 80 % of 100 requests a month: 80 requests",
        "Dental Clinic has used 100 % of 100 requests a month: 100 requests",
    ]
    gateway_says({limit: 85}, resets=datetime(2026, 8, 1, tzinfo=UTC))
    assert watch(NOW + timedelta(days=30)) == 1
    assert Alert.objects.latest("pk").facts["threshold_percent"] == 80


def test_of_two_thresholds_reached_at_once_the_higher_is_told(client: Client, gateway_says: Say) -> None:
    gateway_says({client.limits.get(metric="requests"): 100})
    watch(NOW)
    watch(NOW)
    assert [one.facts["threshold_percent"] for one in Alert.objects.all()] == [100]


def test_a_limit_that_was_raised_is_told_of_again(client: Client, gateway_says: Say) -> None:
    limit = client.limits.get(metric="requests")
    gateway_says({limit: 90})
    assert watch(NOW) == 1
    Limit.objects.filter(pk=limit.pk).update(amount=110)
    limit.refresh_from_db()
    gateway_says({limit: 90})
    assert watch(NOW) == 1


def test_limits_of_a_minute_are_not_told_of(client: Client, gateway_says: Say) -> None:
    gateway_says({client.limits.get(metric="tokens"): 1000})
    assert watch(NOW) == 0


def test_thresholds_are_chosen_and_none_is_a_choice(client: Client, gateway_says: Say) -> None:
    limit = client.limits.get(metric="requests")
    gateway_says({limit: 55})
    rules = AlertRules(percentages=" 90 %,50 , 50")
    rules.full_clean()
    assert rules.percentages == "50, 90"
    rules.save()
    assert watch(NOW) == 1
    rules.percentages = ""
    rules.save()
    gateway_says({limit: 100})
    assert watch(NOW) == 0


@pytest.mark.parametrize("wrong", ["0", "101", "80.5", "-1", "x", "80;90", "1e2", ",".join(map(str, range(1, 12)))])
def test_what_is_no_percentage_is_refused(wrong: str) -> None:
    with pytest.raises(Exception, match="percentages"):
        AlertRules(percentages=wrong).full_clean()


def test_a_limit_of_a_key_is_told_of_without_the_key(client: Client, gateway_says: Say) -> None:
    text = generate()
    key = APIKey.objects.create(client=client, name="staging", digest=digest(text), hint=hint(text))
    limit = KeyLimit.objects.create(key=key, metric="requests", amount=10, cycle="day")
    gateway_says({}, {limit: 9})
    assert watch(NOW) == 1
    alert = Alert.objects.get()
    assert "staging" not in alert.title and key.hint not in alert.title
    assert alert.facts["key"] == str(key)


def test_a_gateway_that_does_not_answer_raises_nothing(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    monkeypatch.setattr(standings, "_ask", lambda query: None)
    assert watch(NOW) == look_ahead(NOW) == 0


def test_an_overrun_is_foreseen_once_a_cycle(client: Client, gateway_says: Say) -> None:
    now = timezone.now().replace(minute=30)
    limit = client.limits.get(metric="requests")
    for hours in range(1, 49):
        record(client, 1, now - timedelta(hours=hours))
    gateway_says({limit: 48}, resets=now + timedelta(days=20))
    assert look_ahead(now) == 1
    assert look_ahead(now + timedelta(hours=1)) == 0
    (title,) = titles(Kind.FORECAST)
    assert title.startswith("Dental Clinic will have used up 100 requests a month on ")
    gateway_says({limit: 48}, resets=now + timedelta(hours=20))
    assert look_ahead(now) == 0


def test_clients_whose_calls_fail_are_told_of_once_a_day(client: Client, gateway_says: Say) -> None:
    now = timezone.now()
    at = now - timedelta(minutes=1)
    record(client, 15, at)
    record(client, 4, at, outcome="upstream_error")
    record(client, 50, at, outcome="refused")
    assert watch(now) == 0  # 19 calls say nothing
    record(client, 1, at, outcome="broken")
    assert watch(now) == 1
    assert watch(now) == 0
    assert titles(Kind.ERRORS) == ["25 % of the calls of Dental Clinic fail: 5 of 20"]


def test_a_client_that_fell_silent_is_told_of_once_a_silence(client: Client, gateway_says: Say) -> None:
    text = generate()
    key = APIKey.objects.create(client=client, name="n8n", digest=digest(text), hint=hint(text))
    assert look_ahead(NOW) == 0  # never made a call
    use = KeyUse.objects.create(key=key, calls=1, last_used_at=NOW - timedelta(days=2, hours=23))
    assert look_ahead(NOW) == 0
    assert look_ahead(NOW + timedelta(hours=2)) == 1
    assert look_ahead(NOW + timedelta(days=2)) == 0
    KeyUse.objects.filter(pk=use.pk).update(last_used_at=NOW)
    client.suspend()
    assert look_ahead(NOW + timedelta(days=4)) == 0
    client.activate()
    assert look_ahead(NOW + timedelta(days=4)) == 1
    assert titles(Kind.SILENT)[-1] == "Dental Clinic has made no call for 4 days"


def test_spend_far_beyond_the_clients_own_usual_is_told_of(client: Client, gateway_says: Say) -> None:
    now = timezone.now().replace(minute=30)
    lately = now - timedelta(minutes=1)
    other = create_client("Large Shop", [])
    dollar = 10**12
    for hours in range(2, 40):
        record(client, 1, now - timedelta(hours=hours), cost=dollar // 2)
        record(other, 1, now - timedelta(hours=hours), cost=4 * dollar)
    record(client, 1, lately, cost=5 * dollar // 2)
    record(other, 1, lately, cost=19 * dollar)
    assert look_ahead(now) == 0  # 5 times as much is not more than 5 times as much
    record(client, 1, lately, cost=1)
    assert look_ahead(now) == 1
    assert titles(Kind.UNUSUAL) == ["Dental Clinic cost 2.50 USD within an hour; a busy hour is 0.50 USD"]


def test_of_a_new_client_nobody_says_what_is_usual(client: Client, gateway_says: Say) -> None:
    now = timezone.now().replace(minute=30)
    lately = now - timedelta(minutes=1)
    for hours in range(2, 20):
        record(client, 1, now - timedelta(hours=hours), cost=1)
    record(client, 1, lately, cost=50 * 10**12)
    assert look_ahead(now) == 0


def test_what_somebody_has_to_mend_is_told_once_a_day(client: Client, gateway_says: Say) -> None:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    model = Model.objects.create(name="gpt-x", provider=provider)
    at = NOW - timedelta(minutes=5)
    record(client, 2, at, outcome="refused", error_code="model_not_priced", model_id=model.pk)
    record(client, 2, at, outcome="upstream_error", error_code="provider_auth_error", provider_id=provider.pk)
    record(client, 2, at, outcome="refused", error_code="runaway_brake", workflow="42")
    record(client, 9, NOW - timedelta(hours=1), outcome="refused", error_code="runaway_brake", workflow="43")
    assert watch(NOW) == 3
    assert watch(NOW + timedelta(minutes=1)) == 0
    assert {alert.title for alert in Alert.objects.all()} == {
        "gpt-x has no price: its calls are refused",
        "OpenAI refuses the key that is stored for it: calls fail",
        "Workflow 42 of Dental Clinic was taken for a loop and braked",
    }


def test_an_operator_is_told_of_own_clients_alone_and_of_what_was_asked_for(client: Client, gateway_says: Say) -> None:
    ana, ben = User.objects.create_user("ana"), User.objects.create_user("ben")
    for person in (ana, ben):
        set_role(person, Role.OPERATOR)
    Client.objects.update(owner=ana)
    made = {
        name: Receiver.objects.create(name=name, addresses="a@b.example", **fields)
        for name, fields in {
            "all": {},
            "ana": {"owner": ana},
            "ben": {"owner": ben},
            "off": {"enabled": False},
            "prices": {"kinds": Kind.PRICE},
            "limits": {"kinds": f"{Kind.PRICE},{Kind.LIMIT}"},
        }.items()
    }
    gateway_says({client.limits.get(metric="requests"): 80})
    assert watch(NOW) == 1
    assert set(Delivery.objects.values_list("receiver", flat=True)) == {
        made[one].pk for one in ("all", "ana", "limits")
    }
