"""Taking a client on, by function and by command, and what the database refuses."""

from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from clients.markup import format_markup, parse_markup
from clients.models import Client, Limit
from clients.onboarding import create_client, find_client, onboard
from pricing.models import ConfigVersion
from tests.clients.test_plans import make_plan

pytestmark = pytest.mark.django_db


def run(*args: str) -> str:
    out = StringIO()
    call_command("createclient", *args, stdout=out)
    return out.getvalue()


def test_a_client_comes_with_its_limits() -> None:
    client = create_client("Acme", ["requests=100/day", "credits=25.50/month"], email="a@acme.example")
    assert {str(limit) for limit in client.limits.all()} == {"100 requests a day", "25.50 USD a month"}
    assert (client.status, client.markup_bp, client.cycle_start_day, client.time_zone) == ("active", 0, 1, "UTC")


@pytest.mark.parametrize("limits", [["requests=1/day", "tokens=x/day"], ["requests=1/day", "requests=2/day"]])
def test_a_wrong_limit_leaves_no_client_behind(limits: list[str]) -> None:
    with pytest.raises(ValidationError):
        create_client("Acme", limits)
    assert not Client.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 201),
        ("name", "Acme\nInc"),
        ("name", "Acme\x00"),
        ("name", "emcA\u202e"),
        ("company", "a\tb"),
        ("email", "nobody"),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../../etc/passwd"),
        ("time_zone", ""),
        ("cycle_start_day", 0),
        ("cycle_start_day", 32),
        ("markup_bp", -10_001),
    ],
)
def test_a_profile_that_does_not_hold_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        create_client(**{"name": "Acme", field: value})


def test_a_name_is_taken_once_whatever_the_blanks_around_it() -> None:
    create_client("Acme")
    with pytest.raises(ValidationError):
        create_client(" Acme ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "  "},
        {"status": "gone"},
        {"cycle_start_day": 0},
        {"cycle_start_day": 32},
        {"markup_bp": -10_001},
        {"time_zone": ""},
    ],
)
def test_the_database_itself_holds_the_rules_of_a_client(wrong: dict[str, Any]) -> None:
    client = create_client("Acme")
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.filter(pk=client.pk).update(**wrong)


@pytest.mark.parametrize("wrong", [{"metric": "calls"}, {"cycle": "year"}, {"amount": -1}])
def test_the_database_itself_holds_the_rules_of_a_limit(wrong: dict[str, Any]) -> None:
    client = create_client("Acme", ["requests=1/day"])
    with pytest.raises(IntegrityError), transaction.atomic():
        client.limits.update(**wrong)
    with pytest.raises(IntegrityError), transaction.atomic():
        Limit.objects.create(client=client, metric="requests", cycle="day", amount=2)


def test_status_changes_with_its_reason() -> None:
    client = create_client("Acme")
    client.suspend("unpaid")
    client.refresh_from_db()
    assert (client.status, client.status_reason) == ("suspended", "unpaid")
    client.activate()
    client.refresh_from_db()
    assert (client.status, client.status_reason) == ("active", "")
    client.archive()
    client.refresh_from_db()
    assert client.status == "inactive"
    with pytest.raises(ValidationError):
        client.suspend("x" * 201)


def test_every_change_of_clients_and_limits_is_noticed() -> None:
    def version() -> int:
        return ConfigVersion.objects.get().version

    client = create_client("Acme", ["requests=1/day"])
    seen = version()
    for change in (
        lambda: Client.objects.update(status="suspended"),
        lambda: client.limits.update(amount=2),
        lambda: client.limits.all().delete(),
        client.delete,
    ):
        change()
        assert version() > seen
        seen = version()


def test_a_client_is_found_by_name_or_id() -> None:
    acme = create_client("Acme")
    assert find_client("Acme") == find_client(f"{acme.pk}") == acme
    other = create_client(f"{acme.pk}")
    assert find_client(f"{other.pk}") == other
    for text in (f"{acme.pk}", "acme", "", "9" * 30):
        with pytest.raises(ValidationError):
            find_client(text)


@given(st.integers(-10_000, 1_000_000))
def test_a_markup_survives_its_form(basis_points: int) -> None:
    assert parse_markup(format_markup(basis_points)) == basis_points


@pytest.mark.parametrize("text", ["", "x", "1.234", "1e3", "NaN", "--1", "٢"])
def test_a_markup_that_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_markup(text)


def test_the_command_prints_the_id_alone() -> None:
    printed = run(
        *("Acme", "--limit", "requests=100/day", "--limit", "credits=2/month", "--email", "a@acme.example"),
        *("--time-zone", "Asia/Kolkata", "--start-day", "31", "--markup", "12.5"),
    )
    client = Client.objects.get()
    assert printed == f"{client.pk}\n"
    assert (client.markup_bp, client.cycle_start_day, client.time_zone) == (1250, 31, "Asia/Kolkata")
    assert client.limits.count() == 2


@pytest.mark.parametrize(
    ("args", "about"),
    [
        (["Acme", "--limit", "requests=many/day"], "whole number"),
        (["Acme", "--time-zone", "Nowhere"], "IANA"),
        (["Acme", "--start-day", "32"], "cycle_start_day"),
        (["Acme", "--markup", "lots"], "percentage"),
        (["Taken"], "already exists"),
    ],
)
def test_the_command_says_what_is_wrong_on_one_line(args: list[str], about: str) -> None:
    create_client("Taken")
    with pytest.raises(CommandError, match=about) as refusal:
        run(*args)
    assert "\n" not in str(refusal.value)
    assert Client.objects.count() == 1


def test_a_form_sent_twice_makes_one_client() -> None:
    token = uuid4()
    first, made = onboard(token, "Acme", ["requests=1/day"])
    again, made_again = onboard(token, " Acme ", ["requests=1/day"])
    assert (made, made_again, again) == (True, False, first)
    assert first.limits.count() == 1
    with pytest.raises(ValidationError, match="was sent before and made Acme"):
        onboard(token, "Other")
    with pytest.raises(ValidationError, match="already exists"):
        onboard(uuid4(), "Acme")
    assert Client.objects.count() == 1


def test_a_client_is_made_of_a_plan_from_the_shell() -> None:
    make_plan("Basic", "requests=100/day", "credits=2/month", markup_bp=2000)
    run("Acme", "--plan", "Basic", "--limit", "requests=5/day", "--limit", "credits=none/month")
    client = Client.objects.get()
    assert ([str(limit) for limit in client.limits.all()], client.markup_bp) == (["5 requests a day"], 2000)
    with pytest.raises(CommandError, match="no plan 'Gold'"):
        run("Other", "--plan", "Gold")
