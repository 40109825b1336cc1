"""The cost report: sums to the picodollar whatever they are grouped by, by the calendar of any zone, as a file."""

import csv
import io
import tracemalloc
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.access import Role, set_role
from clients.models import Client
from keys.lifecycle import issue
from pricing.models import Model, Provider
from pricing.money import format_dollars
from tests.usage.test_pages import call
from usage.cost_csv import COLUMNS, Form, file_name, text
from usage.costs import DIMENSIONS, Question, last, preview, rows, total, whole_days
from usage.ingest import insert
from usage.models import RolledZone, RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.rollups import roll_due

pytestmark = pytest.mark.django_db

YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu",
         "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago"]  # fmt: skip


def micros(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def read(pieces, delimiter=","):
    return list(csv.DictReader(io.StringIO("".join(pieces), newline=""), delimiter=delimiter))


def exported(*arguments):
    out = io.StringIO(newline="")
    call_command("exportcosts", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def acme():
    return Client.objects.create(name="Acme")


amounts = st.one_of(st.integers(0, 2**62), st.integers(0, 10**9))
made_calls = st.lists(
    st.fixed_dictionaries(
        {
            "c": st.sampled_from([1, 2, 99]),
            "m": st.sampled_from([None, 1, 2]),
            "key": st.sampled_from([None, 5]),
            "p": st.sampled_from([None, 1]),
            "o": st.sampled_from(["ok", "refused", "upstream_error", "interrupted"]),
            "w": st.sampled_from([None, "=1+1", "nightly"]),
            "env": st.sampled_from([None, "prod"]),
            "ep": st.sampled_from(["chat.completions", "embeddings"]),
            "cost": amounts,
            "charge": amounts,
            "in": st.integers(0, 10**9),
            "out": st.integers(0, 10**9),
            "at": st.integers(micros(YEAR[0]), micros(YEAR[1]) - 1),
        }
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=made_calls,
    group_by=st.lists(st.sampled_from(DIMENSIONS), unique=True, max_size=4),
    zone=st.sampled_from(ZONES),
    rolled=st.booleans(),
)
def test_any_grouping_sums_to_the_records_to_the_picodollar(calls, made, group_by, zone, rolled):
    for model in (UsageRecord, UsageRollup, TagRollup, UsageSeries, RolledZone, RollupDue):
        model._base_manager.all().delete()
    for one in made:
        if one["o"] in {"refused", "upstream_error"}:
            one["charge"] = 0
    insert([calls.end(**one, end=one["at"]) for one in made])
    if rolled:
        roll_due()
    question = Question(*YEAR, zone, tuple(group_by))
    found, records = list(rows(question)), list(UsageRecord.objects.all())
    for field in ("cost", "charge", "input_tokens", "output_tokens", "cached_tokens"):
        whole = sum(getattr(record, field) for record in records)
        assert sum(getattr(row, field) for row in found) == whole == getattr(total(question), field)
    assert sum(row.requests + row.uncounted_requests for row in found) == len(records)
    assert len({row.groups for row in found}) == len(found)
    file = read(text(question))
    assert [row["cost_usd"] for row in file] == [format_dollars(row.cost) for row in found]
    assert [row["margin_usd"] for row in file] == [format_dollars(row.margin) for row in found]
    assert preview(question, 100) == (found, total(question))
    assert preview(question, 1)[0] == found[:2]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("by", ["day", "week", "month"])
def test_days_weeks_and_months_are_those_of_the_zones_calendar(calls, acme, zone, by):
    there = ZoneInfo(zone)
    moments = [YEAR[0] + timedelta(minutes=47 * number) for number in range(365 * 30)]
    insert([calls.end(c=acme.pk, at=micros(at), end=micros(at), cost=number) for number, at in enumerate(moments)])
    expected = defaultdict(int)
    for number, at in enumerate(moments):
        day = at.astimezone(there).date()
        label = {"day": day, "week": day - timedelta(days=day.weekday()), "month": f"{day:%Y-%m}"}[by]
        expected[str(label)] += number
    found = [(row.groups[0], row.cost) for row in rows(Question(*YEAR, zone, (by,)))]
    assert found == sorted(expected.items())


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2025, 3, 30), 23),
        ("Europe/Berlin", date(2025, 10, 26), 25),
        ("America/Santiago", date(2025, 9, 7), 23),  # its clocks skip midnight
        ("Pacific/Kiritimati", date(2025, 5, 1), 24),
        ("Pacific/Pago_Pago", date(2025, 5, 1), 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_has_it(calls, acme, zone, day, hours):
    start, end = whole_days(day, day, zone)
    assert end - start == timedelta(hours=hours)
    edges = [micros(start) - 1, micros(start), micros(end) - 1, micros(end)]
    insert([calls.end(c=acme.pk, at=at, end=at, cost=10**number) for number, at in enumerate(edges)])
    assert [(row.groups, row.cost) for row in rows(Question(start, end, zone, ("day",)))] == [((str(day),), 110)]


def test_the_last_days_are_calendar_days_and_the_last_hours_are_hours():
    now = datetime(2025, 3, 30, 12, tzinfo=UTC)
    assert last("1d", "Europe/Berlin", now) == (datetime(2025, 3, 29, 23, tzinfo=UTC), now)
    assert last("2d", "Europe/Berlin", now) == (datetime(2025, 3, 28, 23, tzinfo=UTC), now)
    assert last("24h", "Europe/Berlin", now) == (now - timedelta(hours=24), now)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"start": YEAR[1], "end": YEAR[0]}, "ends before it begins"),
        ({"start": YEAR[0] - timedelta(days=3650)}, "longer than five years"),
        ({"start": datetime(2999, 1, 1, tzinfo=UTC), "end": datetime(2999, 2, 1, tzinfo=UTC)}, "in the future"),
        ({"zone": "Mars/Olympus"}, "not an IANA time zone"),
        ({"group_by": ("client", "colour")}, "nothing to group by"),
        ({"group_by": ("client", "client")}, "twice"),
    ],
)
def test_what_cannot_be_answered_is_told_in_words(change, says):
    asked = {"start": YEAR[0], "end": YEAR[1], "zone": "UTC"} | change
    with pytest.raises(ValidationError, match=says):
        Question(**asked)


def test_everybody_sees_what_is_theirs(calls):
    people = {role: User.objects.create_user(role) for role in Role}
    for role, person in people.items():
        set_role(person, role)
    mine = Client.objects.create(name="Mine", owner=people[Role.OPERATOR])
    foreign = Client.objects.create(name="Foreign")
    other = User.objects.create_user("other")
    hidden = Provider.objects.create(name="Hidden", base_url="https://127.0.0.1/v1", owner=other)
    model = Model.objects.create(name="theirs", provider=hidden)
    key, _ = issue(mine, "n8n")
    insert([
        calls.end(c=mine.pk, cost=1, key=key.pk, p=hidden.pk, m=model.pk),
        calls.end(c=foreign.pk, cost=2, p=hidden.pk, m=model.pk),
    ])  # fmt: skip

    def seen(role, *by):
        return {row.groups: row.cost for row in rows(Question(*YEAR, "UTC", by, reader=people[role]))}

    for role in (Role.OWNER, Role.FINANCE, Role.VIEWER):
        assert seen(role, "client") == {("Mine",): 1, ("Foreign",): 2}
    assert seen(Role.OPERATOR, "client") == {("Mine",): 1}
    assert seen(Role.OPERATOR, "provider", "model") == {(f"#{hidden.pk}", f"#{model.pk}"): 1}
    assert seen(Role.OPERATOR, "key") == {(str(key),): 1}
    assert seen(Role.FINANCE, "provider") == {("Hidden",): 3}
    for role, by in ((Role.FINANCE, "key"), (Role.VIEWER, "key"), (Role.VIEWER, "provider")):
        with pytest.raises(ValidationError, match="does not see"):
            seen(role, by)
    with pytest.raises(ValidationError, match="does not see providers"):
        Question(*YEAR, "UTC", reader=people[Role.VIEWER], provider=hidden.pk)
    assert not list(rows(Question(*YEAR, "UTC", ("endpoint",), reader=other)))


NAMES = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "<script>alert(1)</script>", "שלום עולם", '🧾 Büro, "Nord"']


@pytest.mark.parametrize("form", [Form(), Form(bom=True), Form(decimal_comma=True)])
def test_the_file_is_read_by_any_parser_and_runs_nothing(calls, form):
    clients = [Client.objects.create(name=name) for name in NAMES]
    insert([calls.end(c=client.pk, cost=3, charge=1, w="\tx") for client in clients])
    question = Question(*YEAR, "Europe/Berlin", ("client", "workflow"))
    whole = "".join(text(question, form))
    assert whole.startswith("\ufeff") is form.bom
    assert whole.count("\r\n") == whole.count("\n") == len(NAMES) + 1
    found = read([whole.removeprefix("\ufeff")], ";" if form.decimal_comma else ",")
    assert [row["client"] for row in found] == [f"'{name}" if name[0] in "=+-@" else name for name in NAMES]
    assert {row["cost_usd"] for row in found} == {"0,000000000003" if form.decimal_comma else "0.000000000003"}
    assert {row["margin_usd"] for row in found} == {"-0,000000000002" if form.decimal_comma else "-0.000000000002"}
    assert {row["from"] for row in found} == {"2025-01-01T01:00:00+01:00"}
    assert {row["zone"] for row in found} == {"Europe/Berlin"}


def test_its_name_says_what_is_in_it():
    question = Question(*whole_days(date(2025, 1, 1), date(2025, 1, 31), "Europe/Berlin"), "Europe/Berlin")
    assert file_name(question) == "costs-by-client-2025-01-01-to-2025-01-31-Europe-Berlin.csv"


def test_the_command_prints_what_finance_agreed_on(calls, acme):
    now = micros(datetime.now(UTC))
    insert([calls.end(c=acme.pk, at=now - 1, end=now, cost=5, cached=4)])
    whole = exported("--last", "90d", "--group-by", "client")
    header = "client,requests,input_tokens,cached_tokens,output_tokens,cost_usd,charge_usd,margin_usd,"
    assert whole.startswith(header)
    assert [
        (
            row["client"],
            row["requests"],
            row["input_tokens"],
            row["cached_tokens"],
            row["output_tokens"],
            row["cost_usd"],
        )
        for row in read([whole])
    ] == [("Acme", "1", "90", "4", "10", "0.000000000005")]
    every = exported("--last", "1d", "--group-by", "client,key,model,provider,endpoint,day,week,month,tag")
    assert every.split("\r\n")[0].split(",")[: len(DIMENSIONS)] == [*DIMENSIONS]
    assert exported("--from", "2025-01-01", "--to", "2025-01-02").split("\r\n") == [",".join(("client", *COLUMNS)), ""]
    yesterday = str(datetime.now(UTC).date() - timedelta(days=1))
    assert len(read([exported("--from", yesterday, "--client", "Acme")])) == 1
    Client.objects.create(name="Other")
    assert read([exported("--from", yesterday, "--client", "Other")]) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which time"),
        (["--last", "90d", "--from", "2025-01-01"], "either"),
        (["--last", "ninety"], "written like"),
        (["--last", "3650d"], "five years"),
        (["--from", "2025-02-01", "--to", "2025-01-01"], "before it begins"),
        (["--from", "2025-13-01"], "written like"),
        (["--from", "0001-01-01", "--to", "9999-12-31"], "Days are from"),
        (["--last", "1d", "--group-by", ""], "nothing to group by"),
        (["--last", "1d", "--client", "Nobody"], "Nobody"),
        (["--last", "1d", "--model", "none"], "no model"),
        (["--last", "1d", "--zone", "Nowhere"], "IANA"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, says):
    with pytest.raises(CommandError, match=says):
        exported(*arguments)


def test_the_first_line_is_there_before_the_database_is_asked(django_assert_num_queries):
    pieces = text(Question(*YEAR, "UTC", ("client", "day")), Form(bom=True))
    with django_assert_num_queries(0):
        assert next(pieces).startswith("\ufeffclient,day,requests")


def test_a_file_of_any_length_takes_the_same_memory(acme):
    def peak(rows_made):
        at = datetime(2025, 6, 1, tzinfo=UTC)
        UsageRecord.objects.all().delete()
        made = (call(acme, workflow=f"workflow {n}", admitted_at=at) for n in range(rows_made))
        while some := list(islice(made, 2_000)):
            UsageRecord.objects.bulk_create(some)
        tracemalloc.start()
        size = sum(len(piece) for piece in text(Question(*YEAR, "UTC", ("workflow",))))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size, most

    (short, few), (long, many) = peak(5_000), peak(20_000)
    assert long > 3.9 * short
    assert many < 1.3 * few
    assert many < 10 * 2**20
