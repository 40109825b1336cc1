"""Statements: what is billed is what was called, to the picodollar, however late it comes; and nothing changes one."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.db.models import Sum
from django.test import Client as Browser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.access import Role, set_role
from clients.access_tokens import make
from clients.agency import change_agency
from clients.append_only import STATEMENTS_SAY, unlocked
from clients.models import Client
from pricing.money import PICO
from tests.conftest import browser_of
from usage import client_links, outcomes
from usage.closing import close, drafts
from usage.ingest import insert
from usage.models import RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.rollups import roll_due
from usage.statement_csv import lines as lines_of
from usage.statement_pdf import pdf
from usage.statements import Statement, StatementLine
from usage.terms import Terms

pytestmark = pytest.mark.django_db

MONTHS = [date(2025, month, 1) for month in range(1, 5)]
LATER = datetime(2025, 9, 1, tzinfo=UTC)


def micros(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def at(month, day=10, hour=12):
    return micros(datetime(2025, month, day, hour, tzinfo=UTC))


@pytest.fixture
def acme():
    client = Client.objects.create(name="Acme", company="Acme GmbH")
    Client.objects.filter(pk=client.pk).update(created_at=datetime(2024, 12, 1, tzinfo=UTC))
    return Client.objects.get(pk=client.pk)


def draft_of(client, month, now=LATER):
    (draft,) = drafts([client], month, now)
    return draft


def closed(client, month, by=None):
    return close(draft_of(client, month), by, LATER)


def lines(statement, *kinds):
    return [line for line in statement.ordered if line.kind in kinds]


def test_a_statement_has_its_usage_by_model_and_workflow_fee_and_total_with_tax_in_the_clients_currency(acme, calls):
    change_agency(name="Flowworks", address="Main St 1", tax_label="VAT 19 %", tax_points=1900)
    Terms.objects.create(
        client=acme, since=MONTHS[0], monthly_fee=50 * PICO, included=2 * PICO, session_price=PICO // 10,
        currency="EUR", rate=920_000,
    )  # fmt: skip
    insert([
        calls.end(c=acme.pk, at=at(1), end=at(1), cost=PICO, charge=3 * PICO, w="bot", s="a" * 32, so=1),
        calls.end(c=acme.pk, at=at(1), end=at(1), cost=PICO, charge=PICO + 1, m=2),
        calls.end(c=acme.pk, at=at(1), end=at(1), cost=0, charge=0, o="refused"),
        calls.end(c=acme.pk, at=at(2), end=at(2), cost=PICO, charge=9 * PICO),
    ])  # fmt: skip
    statement = closed(acme, MONTHS[0])
    assert [(line.kind, line.amount) for line in statement.billed] == [
        ("usage", 3 * PICO), ("usage", PICO + 1), ("included", -2 * PICO), ("sessions", PICO // 10), ("fee", 50 * PICO),
    ]  # fmt: skip
    assert [(line.title, line.amount) for line in statement.by_workflow] == [
        ("bot", 3 * PICO), ("Without a workflow", PICO + 1),
    ]  # fmt: skip
    # 52.100000000001 USD at 0.92 are 47.932 EUR
    assert (statement.net, statement.tax, statement.gross) == (4793, 911, 5704)
    assert sum(line.minor for line in statement.billed) == 4793
    assert (statement.number, statement.agency_name, statement.client_company) == (1, "Flowworks", "Acme GmbH")


def test_by_workflow_a_statement_tells_the_calls_that_it_bills_and_no_others(acme, calls):
    insert([
        calls.end(c=acme.pk, at=at(1), end=at(1), charge=PICO, w="bot"),
        calls.end(c=acme.pk, at=at(1), end=at(1), charge=PICO),
        *(calls.end(c=acme.pk, at=at(1), end=at(1), cost=0, charge=0, o="refused", w="bot") for _ in range(3)),
    ])  # fmt: skip
    for roll in (lambda: None, roll_due):
        roll()
        told = [(line.title, line.calls) for line in draft_of(acme, MONTHS[0]).lines]
        assert told == [("Model 1", 2), ("bot", 1), ("Without a workflow", 1)]


def test_a_month_costs_no_less_than_its_minimum_even_without_usage(acme):
    Terms.objects.create(client=acme, since=MONTHS[0], minimum=25 * PICO)
    draft = draft_of(acme, MONTHS[0])
    assert "No usage." in draft.odd
    statement = close(draft, None, LATER)
    assert [(line.kind, line.amount) for line in statement.billed] == [("minimum", 25 * PICO)]
    assert statement.gross == 2500


def test_late_calls_go_into_the_next_statement_with_their_reason(acme, calls):
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=PICO)])
    closed(acme, MONTHS[0])
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=5 * PICO)])
    roll_due()
    second = closed(acme, MONTHS[1])
    (late,) = lines(second, StatementLine.ADJUSTMENT)
    assert late.amount == 5 * PICO
    assert late.title == "1 call that was recorded late, January 2025 (statement 1)"
    assert not lines(closed(acme, MONTHS[2]), StatementLine.ADJUSTMENT)


def test_late_calls_that_the_fee_covers_cost_nothing_more(acme, calls):
    Terms.objects.create(client=acme, since=MONTHS[0], monthly_fee=PICO, included=10 * PICO)
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=8 * PICO)])
    closed(acme, MONTHS[0])
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=3 * PICO)])
    (late,) = lines(closed(acme, MONTHS[1]), StatementLine.ADJUSTMENT)
    assert (late.charge, late.amount) == (3 * PICO, PICO)


def test_months_are_closed_once_in_order_and_when_they_are_over(acme):
    closed(acme, MONTHS[0])
    assert draft_of(acme, MONTHS[0]).refused == "closed"
    assert draft_of(acme, MONTHS[2]).refused == "February 2025 has to be closed first."
    assert draft_of(acme, MONTHS[1], datetime(2025, 2, 28, 23, tzinfo=UTC)).refused == "The month is not over."
    assert draft_of(acme, date(2024, 11, 1)).refused == "closed"
    stale = draft_of(acme, MONTHS[1])
    closed(acme, MONTHS[1])
    with pytest.raises(ValidationError, match="meanwhile"):
        close(stale, None, LATER)
    assert list(Statement.objects.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_a_client_that_moves_has_each_call_on_one_statement(acme, calls):
    closed(acme, MONTHS[0])
    Client.objects.filter(pk=acme.pk).update(time_zone="Pacific/Kiritimati")  # its February began 14 hours before
    acme.refresh_from_db()
    border = datetime(2025, 1, 31, 12, tzinfo=UTC)
    insert([
        calls.end(c=acme.pk, at=micros(border + timedelta(hours=hour)), end=at(3), charge=1) for hour in range(48)
    ])  # fmt: skip
    second = closed(acme, MONTHS[1])
    assert sum(line.calls for line in second.billed) == 48


def test_statements_are_never_changed_or_deleted(acme):
    statement = closed(acme, MONTHS[0])
    for act in (
        lambda: Statement.objects.update(net=1),
        lambda: (
            StatementLine.objects.create(statement=statement, position=0, title="x", month=MONTHS[0])
            and StatementLine.objects.update(amount=1)
        ),
        lambda: Statement.objects.all()._raw_delete("default"),
    ):
        with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
            act()


def test_terms_hold_from_a_month_that_is_not_closed(acme):
    closed(acme, MONTHS[0])
    with pytest.raises(ValidationError, match="already"):
        Terms(client=acme, since=date(2025, 1, 9)).full_clean()
    terms = Terms(client=acme, since=date(2025, 2, 9))
    terms.full_clean()
    assert terms.since == MONTHS[1]


amounts = st.integers(0, 10**15) | st.integers(0, 10)
events = st.lists(
    st.one_of(
        st.fixed_dictionaries({
            "at": st.builds(at, st.integers(1, 4), st.integers(1, 28), st.integers(0, 23)),
            "charge": amounts, "cost": amounts, "m": st.sampled_from([None, 1, 2]),
            "w": st.sampled_from([None, "bot", "=1+1"]), "so": st.sampled_from([0, 1]),
            "o": st.sampled_from(["ok", "interrupted", "refused"]), "in": amounts,
        }),
        st.sampled_from(["roll", "close"]),
    ),
    max_size=16,
)  # fmt: skip
conditions = st.fixed_dictionaries(
    {name: st.integers(0, 10**14) for name in ("monthly_fee", "included", "minimum", "session_price")}
    | {"rate": st.integers(1, 10**9), "currency": st.sampled_from(["USD", "EUR", "JPY", "KWD"])}
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events, terms=conditions)
def test_statements_and_their_adjustments_are_what_was_called_to_the_picodollar(acme, calls, events, terms):
    with unlocked("usage_statementline", says=STATEMENTS_SAY), unlocked("usage_statement", says=STATEMENTS_SAY):
        for model in (StatementLine, Statement, Terms, UsageRecord, UsageRollup, TagRollup, UsageSeries, RollupDue):
            model._base_manager.all().delete()
    Terms.objects.create(client=acme, since=MONTHS[0], **terms)
    months = iter(MONTHS)
    for event in [*events, "close", "close", "close", "close"]:
        if event == "roll":
            roll_due()
        elif event == "close":
            if (month := next(months, None)) is not None:
                closed(acme, month)
        else:
            refused = event["o"] == "refused"
            more = {"charge": 0, "so": 0} if refused else {}
            session = "a" * 32 if event["so"] and not refused else None
            insert([calls.end(c=acme.pk, **{**event, **more, "s": session}, end=event["at"])])
    # what came into a month after its statement is on the next; what came after the last is not billed yet
    more = draft_of(acme, date(2025, 5, 1))
    counted = UsageRecord.objects.filter(outcome__in=outcomes.COUNTED)
    billed = [line for statement in Statement.objects.all() for line in statement.billed] + [
        line for line in more.lines if line.kind == StatementLine.ADJUSTMENT
    ]
    assert sum(line.charge for line in billed) == (counted.aggregate(sum=Sum("charge"))["sum"] or 0)
    assert sum(line.cost for line in billed) == (counted.aggregate(sum=Sum("cost"))["sum"] or 0)
    assert sum(line.calls for line in billed) == counted.count()
    for month in MONTHS:
        of_month = counted.filter(admitted_at__month=month.month)
        charge = of_month.aggregate(sum=Sum("charge"))["sum"] or 0
        sessions = of_month.filter(session_opened=True).count()
        due = Terms(**terms).amount(charge, sessions)
        assert sum(line.amount for line in billed if line.month == month) == due
    for statement in Statement.objects.all():
        assert sum(line.minor for line in statement.billed) == statement.net
        exact = sum(line.amount for line in statement.billed) * statement.rate
        scale = 10 ** {"JPY": 0, "KWD": 3}.get(statement.currency, 2)
        assert abs(statement.net * PICO * 10**6 - exact * scale) * 2 <= PICO * 10**6
        assert statement.gross == statement.net + statement.tax


def test_finance_closes_a_month_in_one_act_and_the_client_has_its_pdf(acme, calls):
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), cost=10**9, charge=2 * PICO, w="=1+1 bot 🤖")])
    other = Client.objects.create(name="Other", created_at=acme.created_at)
    finance = browser_of(Role.FINANCE)
    shown = finance.get("/admin/closing/?month=2025-01").content.decode()
    assert "2 to close" in shown
    assert "No usage." in shown
    finance.post("/admin/closing/?month=2025-01", {"client": [acme.pk, other.pk]})
    first, second = Statement.objects.order_by("number")
    assert (first.gross, second.gross, first.closed_by) == (200, 0, "finance")
    assert "January 2025 is closed" in finance.get("/admin/closing/?month=2025-01").content.decode()
    assert "Acme" in finance.get(f"/admin/usage/statement/{first.pk}/change/").content.decode()
    text = b"".join(finance.get(f"/admin/usage/statement/{first.pk}/csv/").streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [(row["kind"], row["amount"]) for row in rows] == [("usage", "2.00"), ("workflow", "")]
    assert rows[1]["line"] == "'=1+1 bot 🤖"
    assert "cost" not in text
    _, token = client_links.make(acme, None)
    client = Browser()
    own = client.get(f"/usage/{token}/").content.decode()
    assert f"/usage/{token}/statements/1/" in own
    answer = client.get(f"/usage/{token}/statements/1/")
    assert answer.content.startswith(b"%PDF-")
    assert answer.content == pdf(Statement.objects.get(number=1))
    assert client.get(f"/usage/{token}/statements/2/").status_code == 404
    assert client.get("/usage/nonsense/statements/1/").status_code == 404


def test_only_who_keeps_the_books_closes(acme):
    for role in (Role.OPERATOR, Role.VIEWER):
        browser = browser_of(role)
        assert browser.get("/admin/closing/").status_code == 403
        assert browser.post("/admin/closing/?month=2025-01", {"client": [acme.pk]}).status_code == 403
    assert not Statement.objects.exists()


def test_a_month_that_is_none_is_refused_with_a_sentence(acme):
    browser = browser_of(Role.OWNER)
    for month in ("2025-13", "1925-01", "x" * 100):
        assert "A month is such as" in browser.get(f"/admin/closing/?month={month}", follow=True).content.decode()


def test_the_command_shows_first_and_makes_statements_when_told_to(acme, calls):
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=2 * PICO)])
    call_command("closemonth", "2025-01", stdout=(out := io.StringIO()))
    assert "Acme: 2.00 USD." in out.getvalue()
    assert not Statement.objects.exists()
    call_command("closemonth", "2025-01", "--client", "Acme", "--yes", stdout=(out := io.StringIO()))
    assert "statement 1" in out.getvalue()
    with pytest.raises(CommandError, match="such as"):
        call_command("closemonth", "January")


def test_the_smallest_amount_is_plain_digits_in_the_file(acme, calls):
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), charge=1)])
    statement = closed(acme, MONTHS[0])
    (row,) = csv.DictReader(io.StringIO("".join(lines_of(statement)).removeprefix("\ufeff")))
    assert (row["charge_usd"], row["amount_usd"], row["amount"]) == ("0.000000000001", "0.000000000001", "0.00")


def test_automation_reads_statements(acme, calls):
    insert([calls.end(c=acme.pk, at=at(1), end=at(1), cost=1, charge=2 * PICO, w="bot")])
    closed(acme, MONTHS[0])
    closed(acme, MONTHS[1])
    finance = User.objects.create_user("finance")
    set_role(finance, Role.FINANCE)
    bearer = {"authorization": f"Bearer {make(finance, 'n8n', ['usage:read'])[1]}"}

    def get(path):
        return Browser().get(f"/api/statements/{path}", headers=bearer)

    assert [one["number"] for one in get("").json()["results"]] == [2, 1]
    assert [one["month"] for one in get("?month=2025-01").json()["results"]] == ["2025-01"]
    assert get("?month=January").status_code == get("?client=x").status_code == 400
    told = get("1/").json()
    assert (told["gross"], told["lines"][0]["amount_usd"], told["by_workflow"][0]["title"]) == ("2.00", "2.00", "bot")
    assert "cost" not in get("1/").content.decode()
    assert get("1/pdf/").content.startswith(b"%PDF-")
    assert get("9/").status_code == 404
