"""The analytics page: exact at every moment, by the days of any zone, of what the reader may see."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.access import Role, set_role
from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.models import Model, Provider
from pricing.money import from_dollars
from pricing.price_list import Step, new_price
from tests.usage.test_pages import call, text
from usage import costs, due, periods
from usage.models import RolledZone, RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.rollups import roll_due

pytestmark = pytest.mark.django_db

URL = "/admin/analytics/"
NOW = datetime(2026, 11, 26, 14, 37, tzinfo=UTC)
ROLLED = (UsageRollup, TagRollup, UsageSeries, RolledZone, RollupDue)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago"]


def table(browser: Browser, name: str, query: str = "") -> list[dict[str, str]]:
    answer = browser.get(f"{URL}?{query}&csv={name}")
    assert answer.status_code == 200, answer.content[:300]
    written = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    return list(csv.DictReader(io.StringIO(written)))


def record(*calls: UsageRecord) -> None:
    for model in ROLLED:
        model._base_manager.all().delete()
    UsageRecord.objects.bulk_create(calls)
    due.put_all_down()


made = st.lists(
    st.tuples(
        st.integers(0, 10 * 24 * 3600),  # seconds ago
        st.integers(0, 1),
        st.sampled_from(["ok", "broken", "refused"]),
        st.integers(0, 10**16),
        st.integers(0, 10**16),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=made, zone=st.sampled_from(ZONES), days=st.sampled_from(["24h", "7d", "30d"]), rolled=st.booleans())
def test_the_page_the_cost_report_and_the_records_say_the_same_to_the_picodollar(
    admin_client: Browser, made: list[Any], zone: str, days: str, rolled: bool
) -> None:
    for model in (*ROLLED, UsageRecord, Client):
        model._base_manager.all().delete()
    clients = [create_client("Acme"), create_client("Far", time_zone="Pacific/Kiritimati")]
    record(
        *(
            call(
                clients[number],
                admitted_at=NOW - timedelta(seconds=ago),
                settled_at=NOW,
                outcome=outcome,
                cost=cost,
                charge=charge if outcome != "refused" else 0,
                input_tokens=3,
            )
            for ago, number, outcome, cost, charge in made
        )
    )
    if rolled:
        roll_due()
    with time_machine.travel(NOW, tick=False):
        period = periods.parse({"range": days}, zone, NOW)
        rows = {
            metric: table(admin_client, "over_time", f"range={days}&zone={zone}&metric={metric}&by=client")
            for metric in ("charge", "margin", "tokens")
        }
        told = {metric: sum(Decimal(row["all"]) for row in found) for metric, found in rows.items()}
        question = costs.Question(period.start, period.end, zone, ())
        report = list(costs.rows(question))
    there = UsageRecord.objects.filter(admitted_at__gte=period.start, admitted_at__lt=period.end)
    expected = [(one.cost, one.charge) for one in there]
    charge, cost = sum(one[1] for one in expected), sum(one[0] for one in expected)
    assert from_dollars(Decimal(told["charge"])) == charge == sum(row.charge for row in report)
    margin = sum(Decimal(row["all"]) for row in rows["margin"])
    assert int(margin * 10**12) == charge - cost
    assert told["tokens"] == 3 * len(expected)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_on_which_clocks_change_has_as_many_hours_as_it_has(admin_client: Browser, day: str, hours: int) -> None:
    zone, acme = "Europe/Berlin", create_client("Acme")
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    inside = [midnight.astimezone(UTC) + timedelta(hours=hour, minutes=30) for hour in range(hours)]
    outside = [midnight.astimezone(UTC) - timedelta(seconds=1), midnight.astimezone(UTC) + timedelta(hours=hours)]
    record(*(call(acme, admitted_at=at, settled_at=at) for at in (*inside, *outside)))
    with time_machine.travel(NOW, tick=False):
        rows = table(admin_client, "over_time", f"from={day}&to={day}&zone={zone}&metric=calls")
    assert [row["all"] for row in rows] == ["1"] * hours


def test_a_running_range_is_compared_with_as_much_of_the_one_before() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    period = periods.parse({"range": "7d"}, "Europe/Berlin", NOW)
    assert (period.first_day.isoformat(), period.last_day.isoformat(), period.running) == (
        "2026-11-20",
        "2026-11-26",
        True,
    )
    local = [(start.astimezone(berlin), end.astimezone(berlin)) for start, end in period.before()]
    assert [f"{at:%d %H:%M}" for part in local for at in part] == ["13 00:00", "19 00:00", "19 00:00", "19 15:37"]
    over = periods.parse({"from": "2026-11-01", "to": "2026-11-10"}, "Europe/Berlin", NOW)
    [(start, end)] = over.before()
    assert (start.astimezone(berlin).isoformat(), end) == ("2026-10-22T00:00:00+02:00", over.start)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=2026-11-10&to=2026-11-01", "ends before it begins"),
        ("from=2016-11-10&to=2026-11-01", "too long"),
        ("from=2027-11-10&to=2027-11-11", "in the future"),
        ("from=tomorrow&to=2027-11-11", "is a day such as"),
        ("from=2026-11-01", "is a day such as"),
        ("range=3y", "There is no range"),
        ("zone=Mars/Olympus", "not an IANA time zone"),
        ("metric=beauty", "nothing like"),
        ("by=colour", "nothing to split by"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_sentence(admin_client: Browser, query: str, said: str) -> None:
    with time_machine.travel(NOW, tick=False):
        answer = admin_client.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert said in answer.content.decode()


def test_totals_comparison_breakdown_and_what_the_cache_saved(admin_client: Browser) -> None:
    acme, other = create_client("Acme"), create_client("Beta")
    model = Model.objects.create(
        name="gpt-4o-mini", provider=Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    )
    with time_machine.travel(NOW - timedelta(days=60)):
        new_price(model, [Step(1_000_000, 2_000_000, cached_input=250_000)], None, None)
    before = NOW - timedelta(days=8)
    record(
        call(acme, model=model, charge=3 * 10**12, cost=2 * 10**12, input_tokens=1_000, cached_tokens=400,
             latency_us=2_000_000, workflow="nightly", execution="42", admitted_at=NOW, settled_at=NOW),
        call(other, charge=10**12, admitted_at=NOW, settled_at=NOW),
        call(other, outcome="refused", status=429, admitted_at=NOW, settled_at=NOW),
        call(acme, charge=2 * 10**12, admitted_at=before, settled_at=before),
        call(acme, admitted_at=NOW - timedelta(days=30), settled_at=NOW),
    )  # fmt: skip
    with time_machine.travel(NOW + timedelta(seconds=1), tick=False):
        page = text(admin_client.get(URL))
        assert "+100 % on the range before" in page
        assert "saved 0.000300 USD" in page
        [top, second] = table(admin_client, "by_client")
        assert (top["client"], top["charged, USD"], top["margin, USD"], top["calls"]) == ("Acme", "3.00", "1.00", "1")
        assert (second["client"], second["refused"], second["calls"]) == ("Beta", "1", "1")
        assert table(admin_client, "workflows")[0]["workflow"] == "nightly"
        assert table(admin_client, "executions")[0]["execution"] == "42"
        narrowed = table(admin_client, "by_model", f"client={acme.pk}")
        assert [row["model"] for row in narrowed] == ["gpt-4o-mini"]
        page = admin_client.get(f"{URL}?client={acme.pk}")
        assert "client: Acme" in text(page)
        listed = admin_client.get(page.context["calls_link"])
        assert listed.status_code == 200
        assert [one.client for one in listed.context["cl"].queryset] == [acme]


def test_an_empty_range_says_so_and_an_empty_installation_too(admin_client: Browser) -> None:
    assert "No calls in this range" in text(admin_client.get(URL))


def test_names_that_are_formulas_or_html_do_nothing(admin_client: Browser) -> None:
    client = create_client("=1+1<b>")
    record(call(client, workflow="@evil", admitted_at=NOW, settled_at=NOW))
    with time_machine.travel(NOW, tick=False):
        assert table(admin_client, "by_client", "range=24h")[0]["client"] == "'=1+1<b>"
        assert table(admin_client, "workflows", "range=24h")[0]["workflow"] == "'@evil"
        assert "1+1<b>" not in text(admin_client.get(f"{URL}?range=24h"))


def test_everybody_sees_what_is_theirs(admin_client: Browser) -> None:
    ana, viewer = User.objects.create_user("ana"), User.objects.create_user("vera")
    set_role(ana, Role.OPERATOR)
    set_role(viewer, Role.VIEWER)
    own, foreign = create_client("Own", owner=ana), create_client("Foreign")
    key, _ = issue(foreign, "n8n")
    record(*(call(client, charge=10**12, admitted_at=NOW, settled_at=NOW) for client in (own, foreign)))
    browser = Browser()
    with time_machine.travel(NOW, tick=False):
        browser.force_login(ana)
        assert [row["client"] for row in table(browser, "by_client")] == ["Own"]
        for query in (f"client={foreign.pk}", f"key={key.pk}", f"client={own.pk}&client={foreign.pk}", "client=0'"):
            assert browser.get(f"{URL}?{query}").status_code == 404, query
        browser.force_login(viewer)
        assert len(table(browser, "by_client")) == 2
        page = text(browser.get(URL))
        assert ">key<" not in page
        assert browser.get(f"{URL}?by=key").status_code == 400
        assert browser.get(f"{URL}?key={key.pk}").status_code == 404
    assert reverse("admin:analytics") == URL


def test_the_number_of_queries_does_not_grow_with_clients(
    admin_client: Browser, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        client = create_client(f"Client {number}")
        record(call(client, admitted_at=NOW, settled_at=NOW))
    roll_due()
    with time_machine.travel(NOW, tick=False), django_assert_max_num_queries(60):
        admin_client.get(URL)


def test_the_range_is_told_in_the_zone_whose_days_it_has(admin_client: Browser) -> None:
    admin_client.cookies["time_zone"] = "Asia/Tokyo"
    record(call(create_client("Acme"), admitted_at=NOW, settled_at=NOW))
    with time_machine.travel(NOW, tick=False):
        assert "20 Nov 2026, 00:00 to now (UTC)" in text(admin_client.get(URL))
        chosen = text(admin_client.get(f"{URL}?from=2026-11-20&to=2026-11-21&zone=Europe/Berlin"))
    assert "20 Nov 2026, 00:00 to 22 Nov 2026, 00:00 (Europe/Berlin)" in chosen


tagged = st.lists(
    st.tuples(
        st.integers(0, 6 * 24 * 3600),  # seconds ago
        st.integers(0, 1),
        st.sampled_from(["", "bot", "mail & more"]),
        st.sampled_from(["ok", "broken", "refused"]),
        st.integers(0, 10**16),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=tagged, zone=st.sampled_from(ZONES[:3]), days=st.sampled_from(["24h", "7d"]), rolled=st.booleans())
def test_by_workflow_over_time_it_says_what_the_records_do(
    admin_client: Browser, made: list[Any], zone: str, days: str, rolled: bool
) -> None:
    for model in (*ROLLED, UsageRecord, Client):
        model._base_manager.all().delete()
    clients = [create_client("Acme"), create_client("Berlin", time_zone="Europe/Berlin")]
    record(
        *(
            call(
                clients[number],
                admitted_at=NOW - timedelta(seconds=ago),
                settled_at=NOW,
                outcome=outcome,
                workflow=workflow,
                charge=charge if outcome != "refused" else 0,
                input_tokens=3 if outcome != "refused" else 0,
            )
            for ago, number, workflow, outcome, charge in made
        )
    )
    if rolled:
        roll_due()
    with time_machine.travel(NOW, tick=False):
        period = periods.parse({"range": days}, zone, NOW)
        asked = f"range={days}&zone={zone}&by=workflow"
        rows = table(admin_client, "over_time", asked)
        bots = table(admin_client, "over_time", f"range={days}&zone={zone}&by=client&workflow=bot&metric=calls")
        acmes = table(admin_client, "by_client", f"{asked}&workflow=bot&client={clients[0].pk}")
    there = list(UsageRecord.objects.filter(admitted_at__gte=period.start, admitted_at__lt=period.end))

    def charged(*workflows: str) -> int:
        return sum(one.charge for one in there if one.workflow in workflows)

    def told(column: str) -> int:
        return from_dollars(Decimal(sum(Decimal(row.get(column, "0")) for row in rows)))

    assert told("bot") == charged("bot")
    assert told("mail & more") == charged("mail & more")
    if rows:
        assert told("others, or none") == charged("")
        assert told("all") == charged("", "bot", "mail & more")
    counted = [one for one in there if one.workflow == "bot" and one.outcome != "refused"]
    assert sum(int(row["all"]) for row in bots) == len(counted)
    assert sum(int(row["calls"]) for row in acmes) == sum(one.client_id == clients[0].pk for one in counted)


def test_a_workflow_is_chosen_by_a_click_and_leads_to_its_calls(admin_client: Browser) -> None:
    acme, other = create_client("Acme"), create_client("Beta")
    record(
        call(acme, workflow="nightly", execution="7", charge=10**12, admitted_at=NOW, settled_at=NOW),
        call(other, workflow="nightly", charge=10**12, admitted_at=NOW, settled_at=NOW),
        call(other, workflow="bot", execution="9", charge=10**12, admitted_at=NOW, settled_at=NOW),
    )
    with time_machine.travel(NOW, tick=False):
        page = admin_client.get(f"{URL}?by=workflow")
        links = {cells[0].plain: cells[0].link for cells in page.context["tables"][1].rows}
        chosen = admin_client.get(URL + links["nightly"])
        assert "workflow: nightly" in text(chosen)
        shown = {one.id: [row[0].plain for row in one.rows] for one in chosen.context["tables"]}
        assert shown["by_client"] == ["Acme", "Beta"]
        assert shown["executions"] == ["7"]
        assert "latency" not in shown
        listed = admin_client.get(chosen.context["calls_link"])
        assert {one.workflow for one in listed.context["cl"].queryset} == {"nightly"}
        for query in ("by=workflow&model=1", "by=model&workflow=bot"):
            assert admin_client.get(f"{URL}?{query}").status_code in {400, 404}


def test_workflows_of_others_are_not_seen(admin_client: Browser) -> None:
    ana = User.objects.create_user("ana")
    set_role(ana, Role.OPERATOR)
    own, foreign = create_client("Own", owner=ana), create_client("Foreign")
    record(*(call(client, workflow=f"of {client}", admitted_at=NOW, settled_at=NOW) for client in (own, foreign)))
    browser = Browser()
    browser.force_login(ana)
    with time_machine.travel(NOW, tick=False):
        assert [row["workflow"] for row in table(browser, "by_workflow", "by=workflow&metric=calls")] == ["of Own"]
        empty = browser.get(f"{URL}?workflow=of+Foreign&by=workflow")
        assert "No calls in this range" in text(empty)
