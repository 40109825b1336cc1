"""Plans: copied to clients, deviated from, changed for those that follow; one transaction for all."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext

from clients.limits import parse_limit
from clients.models import Client, Plan, PlanLimit
from clients.onboarding import create_client
from clients.plans import (
    adopt_plan_changes,
    apply_plan,
    behind,
    change_plan,
    deviates,
    deviations,
    followers,
    recognise_plan,
)
from pricing.models import ConfigVersion

pytestmark = pytest.mark.django_db


def make_plan(name: str, *limits: str, markup_bp: int = 0) -> Plan:
    plan = Plan.objects.create(name=name, markup_bp=markup_bp)
    for text in limits:
        metric, amount, cycle = parse_limit(text)
        PlanLimit.objects.create(plan=plan, metric=metric, amount=amount, cycle=cycle)
    return plan


@pytest.fixture
def basic() -> Plan:
    return make_plan("Basic", "requests=100/day", "credits=25/month", markup_bp=2000)


def limits(client: Client) -> set[str]:
    return {str(limit) for limit in client.limits.all()}


def test_a_client_of_a_plan_has_its_limits_and_markup(basic: Plan) -> None:
    client = create_client("Acme", plan=basic)
    assert limits(client) == {"100 requests a day", "25.00 USD a month"}
    assert client.markup_bp == 2000
    assert (deviations(client), deviates(client), behind(client)) == ([], False, False)


def test_deviations_are_told_in_words(basic: Plan) -> None:
    client = create_client(
        "Acme", ["requests=500/day", "credits=none/month", "sessions=30/total"], plan=basic, markup_bp=1000
    )
    assert limits(client) == {"500 requests a day", "30 WhatsApp sessions in total"}
    assert deviations(client) == [
        "no limit of 25.00 USD a month",
        "500 requests a day instead of 100 requests",
        "30 WhatsApp sessions in total, not limited by the plan",
        "markup 10 % instead of 20 %",
    ]
    assert (deviates(client), behind(client)) == (True, False)


@pytest.mark.parametrize("wrong", [["tokens=none/day"], ["requests=1/day", "requests=none/day"], ["requests=some/day"]])
def test_a_deviation_that_makes_no_sense_is_refused(basic: Plan, wrong: list[str]) -> None:
    with pytest.raises(ValidationError):
        create_client("Acme", wrong, plan=basic)
    assert not Client.objects.exists()


def test_another_plan_replaces_the_terms_and_keeps_what_was_counted(basic: Plan) -> None:
    client = create_client("Acme", ["requests=7/day"])
    counted = client.limits.get().pk
    apply_plan(client, basic)
    assert limits(client) == {"100 requests a day", "25.00 USD a month"}
    assert client.limits.get(metric="requests").pk == counted, "another row would begin to count anew"
    assert (client.plan, client.markup_bp, deviations(client)) == (basic, 2000, [])
    apply_plan(client, make_plan("Free", "requests=1/day"))
    assert limits(client) == {"1 request a day"}


def test_without_a_plan_a_client_keeps_what_it_had(basic: Plan) -> None:
    client = create_client("Acme", plan=basic)
    apply_plan(client, None)
    assert client.plan is None
    assert (len(limits(client)), client.markup_bp, deviations(client)) == (2, 2000, [])


def test_a_changed_plan_is_given_to_those_that_follow_it(basic: Plan) -> None:
    following, deviating = create_client("Follows", plan=basic), create_client("Own", ["requests=9/day"], plan=basic)
    foreign = create_client("Foreign", ["requests=100/day", "credits=25/month"], markup_bp=2000)
    basic.limits.filter(metric="requests").update(amount=200)
    basic.limits.filter(metric="credits").delete()
    PlanLimit.objects.create(plan=basic, metric="tokens", amount=5, cycle="hour")
    basic.markup_bp = 3000
    basic.save()
    following = Client.objects.get(pk=following.pk)
    assert (deviates(following), behind(following)) == (False, True)
    assert followers(basic) == [following]

    assert adopt_plan_changes(basic) == 1
    following = Client.objects.get(pk=following.pk)
    assert limits(following) == {"200 requests a day", "5 tokens an hour"}
    assert (following.markup_bp, deviations(following)) == (3000, [])
    assert limits(deviating) == {"9 requests a day", "25.00 USD a month"}
    assert limits(foreign) == {"100 requests a day", "25.00 USD a month"}
    assert adopt_plan_changes(basic) == 0


def test_a_plan_changed_twice_before_it_is_applied_still_knows_its_followers(basic: Plan) -> None:
    client = create_client("Acme", plan=basic)
    for amount in (200, 300):
        basic.limits.filter(metric="requests").update(amount=amount)
    assert adopt_plan_changes(basic) == 1
    assert "300 requests a day" in limits(client)


def test_who_was_edited_until_it_equals_its_plan_follows_it_again(basic: Plan) -> None:
    client = create_client("Acme", ["requests=9/day"], plan=basic)
    client.limits.filter(metric="requests").update(amount=100)
    recognise_plan(client)
    basic.limits.filter(metric="requests").update(amount=200)
    assert adopt_plan_changes(basic) == 1


def test_a_plan_is_changed_for_many_with_statements_that_do_not_grow(basic: Plan) -> None:
    def statements(count: int) -> int:
        clients = [create_client(f"Client {count}-{number}", ["sessions=1/day"]) for number in range(count)]
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert change_plan(Client.objects.filter(pk__in=[client.pk for client in clients]), basic) == count
        return len(captured)

    few, many = statements(2), statements(40)
    assert few <= many <= few + 2, "the audit log's entries go in batches, nothing else grows"
    assert {len(limits(client)) for client in Client.objects.all()} == {2}


def test_all_or_none_get_the_new_terms(basic: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_client("Acme", plan=basic)
    basic.limits.update(amount=1)

    def fails(*args: object, **kwargs: object) -> int:
        raise IntegrityError

    monkeypatch.setattr("clients.models.ClientQuerySet.update", fails)
    with pytest.raises(IntegrityError), transaction.atomic():
        adopt_plan_changes(basic)
    assert limits(client) == {"100 requests a day", "25.00 USD a month"}


def test_the_data_plane_hears_of_new_terms_at_once(basic: Plan) -> None:
    client = create_client("Acme", plan=basic)
    before = ConfigVersion.current()
    basic.limits.update(amount=1)
    assert ConfigVersion.current() == before, "a plan alone changes nothing for calls"
    adopt_plan_changes(basic)
    assert ConfigVersion.current() > before
    assert limits(client) == {"1 request a day", "0.000000000001 USD a month"}


def test_a_plan_with_clients_stays(basic: Plan) -> None:
    create_client("Acme", plan=basic)
    with pytest.raises(ProtectedError):
        basic.delete()


@pytest.mark.parametrize("wrong", [{"name": " "}, {"name": "a\nb"}, {"name": " Basic "}, {"markup_bp": -10_001}])
def test_a_plan_that_does_not_hold_is_refused(basic: Plan, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Plan(**{"name": "Pro", **wrong}).full_clean()


@pytest.mark.parametrize("wrong", [{"metric": "calls"}, {"cycle": "year"}, {"amount": -1}])
def test_the_database_itself_holds_the_rules_of_a_plan(basic: Plan, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        basic.limits.filter(metric="requests").update(**wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        PlanLimit.objects.create(plan=basic, metric="requests", cycle="day", amount=2)
    with pytest.raises(IntegrityError), transaction.atomic():
        Plan.objects.filter(pk=basic.pk).update(name=" ")
