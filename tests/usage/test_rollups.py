"""Rollups and the list of what is due make up the records, whatever is recorded, rolled, and asked for when."""

import io
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.access import Role, set_role
from clients.models import Client
from usage import agency_days, due, outcomes
from usage.agency_days import join_up
from usage.analytics import Slice, read
from usage.days import Days
from usage.folding import AMOUNTS, DIMENSIONS, Sums
from usage.histograms import percentile
from usage.ingest import insert
from usage.models import AgencyDay, RolledZone, RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.packs import ROW, Pack, add, unpack
from usage.rollups import check, roll_due, roll_up
from usage.tags import dearest, read_tag

pytestmark = pytest.mark.django_db

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Santiago"]
TOKENS = {
    "input_tokens": "in", "cached_tokens": "cached", "cache_write_tokens": "cw", "output_tokens": "out",
    "reasoning_tokens": "reason", "audio_input_tokens": "ain", "audio_output_tokens": "aout",
}  # fmt: skip


def micros(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def amounts_of(record):
    return [1, int(record.session_opened), *(getattr(record, name) for name in AMOUNTS[2:])]


def expected(records, asked):
    """What `read` must say, from the records one by one."""
    there, found = ZoneInfo(asked.zone), defaultdict(lambda: [0] * len(AMOUNTS))
    for record in records:
        if not asked.start <= record.admitted_at < asked.end:
            continue
        if not all(_of(record, name) in values for name, values in asked.only.items()):
            continue
        at = record.admitted_at.astimezone(there)
        step = {"": None, "hour": record.admitted_at.replace(minute=0, second=0, microsecond=0), "day": at.date()}
        key = (step[asked.step], tuple(_of(record, name) for name in asked.group_by))
        found[key] = [old + new for old, new in zip(found[key], amounts_of(record), strict=True)]
    return dict(found)


def _of(record, name):
    return getattr(record, name if name in {"endpoint", "outcome", "estimated"} else f"{name}_id")


def told(rows, asked):
    """What it says, in the form of `expected`: steps by their hour, or by the date in the zone."""
    there, found = ZoneInfo(asked.zone), {}
    for row in rows:
        at = row.at
        if asked.step == "day":
            at = at.astimezone(there).date()
        elif asked.step == "hour":
            at = at.replace(minute=0, second=0, microsecond=0)
        assert (at, row.group) not in found
        found[at, row.group] = row.sums.amounts
    return found


amounts = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 10**9))
moments = st.integers(micros(START), micros(END) - 1) | st.integers(micros(START), micros(START) + 3 * 3_600_000_000)
made_calls = st.fixed_dictionaries(
    {
        "c": st.sampled_from([0, 1, 99]),  # the first, the second, one that is gone
        "m": st.sampled_from([None, 1, 2]),
        "key": st.sampled_from([None, 5]),
        "p": st.sampled_from([None, 1]),
        "o": st.sampled_from(["ok", "refused", "upstream_error", "interrupted"]),
        "est": st.sampled_from([0, 1]),
        "w": st.sampled_from([None, "=1+1", "nightly"]),
        "env": st.sampled_from([None, "prod"]),
        "ep": st.sampled_from(["chat.completions", "embeddings"]),
        "cost": amounts,
        "charge": amounts,
        "in": amounts,
        "reason": st.integers(0, 10**6),
        "ms": st.integers(0, 10**9),
        "ttfb": st.none() | st.integers(0, 10**8),
        "at": moments,
    }
)
histories = st.lists(
    st.one_of(
        made_calls,
        st.tuples(st.just("roll"), st.none()),
        st.tuples(st.just("again"), st.integers(0, 360)),
        st.tuples(st.just("move"), st.sampled_from(ZONES)),
        st.tuples(st.just("replay"), st.none()),
        st.tuples(st.just("join"), st.none()),
    ),
    max_size=14,
)
slices = st.builds(
    lambda first, length, step, zone, group_by, only: (first, length, step, zone, tuple(group_by), only),
    st.one_of(st.dates(date(2025, 1, 1), date(2025, 12, 30)), moments),
    st.integers(1, 370),
    st.sampled_from(["", "day", "hour"]),
    st.sampled_from(ZONES),
    st.lists(st.sampled_from(DIMENSIONS), unique=True, max_size=3),
    st.fixed_dictionaries(
        {}, optional={"model": st.just([1, 2]), "outcome": st.just(["ok"]), "estimated": st.just([True])}
    ),
)


def sums_in(rollups):
    """The sums of every series in every row."""
    return [sums for pack in rollups.values_list(*Pack._fields) for sums in unpack(Pack(*pack)).values()]


def as_slice(first, length, step, zone, group_by, only):
    if isinstance(first, date):
        days = Days(zone)
        there = ZoneInfo(zone)
        start = datetime(first.year, first.month, first.day, tzinfo=there).astimezone(UTC)
        last = first + timedelta(days=length if step != "hour" else 1)
        end = datetime(last.year, last.month, last.day, tzinfo=there).astimezone(UTC)
        assert days.start(start) == start
    else:
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first)
        end = start + timedelta(hours=length * (24 if step != "hour" else 1), minutes=17)
    return Slice(start, end, zone, step, group_by, only)


@pytest.fixture
def few_are_joined_up(monkeypatch):
    monkeypatch.setattr(agency_days, "FEWEST", 0)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories, asked=st.lists(slices, min_size=2, max_size=4))
def test_at_every_moment_sums_are_those_of_the_records(few_are_joined_up, calls, history, asked):
    for model in (AgencyDay, UsageRollup, TagRollup, UsageSeries, RolledZone, RollupDue, UsageRecord, Client):
        model._base_manager.all().delete()
    clients = [Client.objects.create(name="Acme"), Client.objects.create(name="Far", time_zone="Asia/Kathmandu")]
    ends = []
    for act in history:
        if isinstance(act, dict):
            one = {**act, "c": clients[act["c"]].pk if act["c"] < 2 else 10**6}
            if one["o"] in {"refused", "upstream_error"}:
                one["charge"] = 0
            ends.append(calls.end(**one, end=one["at"]))
            insert(ends[-1:])
        elif act[0] == "roll":
            roll_due()
        elif act[0] == "again":
            roll_up(START + timedelta(days=act[1]), START + timedelta(days=act[1], hours=30))
        elif act[0] == "move":
            Client.objects.filter(pk=clients[1].pk).update(time_zone=act[1])
        elif act[0] == "join":
            join_up(END + timedelta(days=1))
        else:
            insert(ends)
    records = list(UsageRecord.objects.all())
    for rolled in (False, True, True):
        if rolled:
            roll_due()
            assert not RollupDue.objects.exists()
            assert join_up(END + timedelta(days=1)) or AgencyDay.objects.exists() or not records
        for one in (as_slice(*made) for made in asked):
            assert told(read(one), one) == expected(records, one)
        by_value = defaultdict(int)
        for record in records:
            if record.workflow and record.outcome in outcomes.COUNTED:
                by_value[record.workflow] += record.cost
        year = Slice(START - timedelta(days=1), END + timedelta(days=1), "UTC")
        assert {row.group[0]: row.sums.cost for row in read_tag(year, "workflow")} == by_value
        assert list(check(START, END)) == []
    hours = sums_in(UsageRollup.objects.filter(grain="hour"))
    assert sum(sums.cost for sums in hours) == sum(record.cost for record in records)
    assert sum(sums.calls for sums in hours) == len(records)


@pytest.mark.parametrize("zone", ZONES)
def test_days_are_those_of_the_zones_calendar_before_and_after_rolling(calls, zone):
    acme = Client.objects.create(name="Acme", time_zone=zone)
    there = ZoneInfo(zone)
    times = [START + timedelta(minutes=97 * number) for number in range(365 * 14)]
    insert([calls.end(c=acme.pk, at=micros(at), end=micros(at), cost=number) for number, at in enumerate(times)])
    wanted = defaultdict(int)
    for number, at in enumerate(times):
        wanted[at.astimezone(there).date()] += number
    days = Days(zone)
    asked = Slice(days.start(START), days.end(END), zone, "day")
    for _ in range(2):
        assert {row.at.astimezone(there).date(): row.sums.cost for row in read(asked)} == wanted
        roll_due()
    assert UsageRollup.objects.filter(grain=zone).count() == len(wanted)


def test_a_day_may_have_23_or_25_hours():
    days = Days("Europe/Berlin")
    for day, hours in ((date(2025, 3, 30), 23), (date(2025, 10, 26), 25), (date(2025, 7, 1), 24)):
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        assert days.end(noon) - days.start(noon) == timedelta(hours=hours)


def test_percentiles_of_a_year_are_those_of_its_calls(calls):
    acme = Client.objects.create(name="Acme")
    latencies = [(number * 7919) % 100_003 * 37 + 500 for number in range(3_000)]
    insert([
        calls.end(c=acme.pk, at=micros(START) + number * 9_000_000_000, end=0, ms=latency, ttfb=latency // 3)
        for number, latency in enumerate(latencies)
    ])  # fmt: skip
    exact = sorted(latencies)
    asked = Slice(START, END, "UTC")
    for _ in range(2):
        (row,) = read(asked, times=True)
        for percent in (50, 95, 99):
            rank = -(-len(exact) * percent // 100) - 1
            assert abs(percentile(row.sums.latency, percent) - exact[rank]) * 64 <= exact[rank]
            assert abs(percentile(row.sums.first_byte, percent) - exact[rank] // 3) * 64 <= exact[rank] // 3
        roll_due()


def test_sums_beyond_what_a_column_holds_go_on_in_another_row(calls):
    most = 2**63 - 1
    for _ in range(3):
        insert([calls.end(c=7, at=micros(START), end=micros(START), cost=most, charge=most, **{"in": most})])
        roll_due()
    (row,) = read(Slice(START, END, "UTC"))
    assert (row.sums.cost, row.sums.charge, row.sums.input_tokens, row.sums.calls) == (3 * most, 3 * most, 3 * most, 3)
    (hour,) = UsageRollup.objects.filter(grain="hour")
    assert len(hour.rows) == 3 * ROW.size
    assert list(check(START, END)) == []


def test_rolling_again_gives_the_same_rows(calls):
    acme = Client.objects.create(name="Acme", time_zone="Asia/Kathmandu")
    insert([
        calls.end(c=acme.pk, at=micros(START) + number * 1_000_000_000, end=micros(START), w="wf", env="prod")
        for number in range(200)
    ])  # fmt: skip
    roll_due()

    def rows():
        return [sorted(map(str, model.objects.values_list(*(f.name for f in model._meta.fields if f.name != "id"))))
                for model in (UsageRollup, TagRollup)]  # fmt: skip

    before = rows()
    for _ in range(2):
        assert roll_up(START + timedelta(minutes=30), START + timedelta(days=4)) > 0
        assert rows() == before
    assert not RollupDue.objects.exists()


def test_records_that_came_past_ingest_are_found_missing_and_mended(calls):
    insert([calls.end(c=7, at=micros(START), end=micros(START), w="wf", cost=5)])
    RollupDue.objects.all().delete()
    with pytest.raises(CommandError, match="rows differ"):
        call_command("checkrollups", stdout=(out := io.StringIO()))
    assert "hour from 2025-01-01 00:00 UTC, client 7" in out.getvalue()
    assert "cost 0, by records 5" in out.getvalue()
    call_command("rollup", "--from", "2025-01-01", "--to", "2025-01-02", stdout=io.StringIO())
    call_command("checkrollups", stdout=(out := io.StringIO()))
    assert "what the records make up" in out.getvalue()


def test_a_row_that_was_tampered_with_is_named(calls):
    insert([calls.end(c=7, at=micros(START), end=micros(START), cost=5)])
    call_command("rollup", stdout=io.StringIO())
    days = UsageRollup.objects.filter(grain="UTC")
    pack = Pack(*days.values_list(*Pack._fields).get())
    (series,) = unpack(pack)
    one_more = Sums([0] * AMOUNTS.index("cost") + [1] + [0] * (len(AMOUNTS) - AMOUNTS.index("cost") - 1))
    days.update(**add(pack, {series: one_more})._asdict())
    (found,) = check(START, END)
    assert (found.grain, dict(found.rolled), dict(found.recorded)) == ("UTC", {"cost": 6}, {"cost": 5})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "2025-01-01"], "--to needs --from"),
        (["--from", "2025-02-01", "--to", "2025-01-01"], "exchange"),
        (["--from", "0001-01-01"], "Days are from"),
        (["--from", "yesterday"], "invalid"),
    ],
)
@pytest.mark.parametrize("command", ["rollup", "checkrollups"])
def test_commands_refuse_bad_ranges_with_a_sentence(command, arguments, told):
    with pytest.raises(CommandError, match=told):
        call_command(command, *arguments)


def test_a_range_that_ends_now_has_what_comes_in_meanwhile(calls):
    now = datetime.now(UTC)
    insert([calls.end(c=7, at=micros(now), end=micros(now))])
    assert [row.sums.calls for row in read(Slice(now - timedelta(days=1), now, "UTC"))] == [1]


def test_what_is_not_asked_for_right_is_refused():
    for start, end, more in [
        (END, START, {}),
        (START, START + timedelta(days=4000), {}),
        (START, END, {"step": "hour"}),
        (START, END, {"step": "week"}),
        (START, END, {"group_by": ("execution",)}),
    ]:
        with pytest.raises(ValidationError):
            Slice(start, end, "UTC", **more)
    with pytest.raises(ValidationError):
        Slice(START, END, "Mars/Olympus")
    with pytest.raises(ValidationError):
        read_tag(Slice(START, END, "UTC"), "execution")


def test_operators_get_sums_of_their_own_clients_only(calls):
    anna, bert = (User.objects.create_user(name) for name in ("anna", "bert"))
    for user in (anna, bert):
        set_role(user, Role.OPERATOR)
    for number, owner in enumerate((anna, bert), start=1):
        client = Client.objects.create(name=owner.username, owner=owner)
        insert([calls.end(c=client.pk, at=micros(START), end=micros(START), cost=number, w=owner.username)])
    viewer = User.objects.create_user("finn")
    set_role(viewer, Role.FINANCE)
    for rolled in (False, True):
        if rolled:
            roll_due()
        for zone in ("UTC", "Asia/Kathmandu"):
            days = Days(zone)
            start, end = days.start(START), days.end(START + timedelta(days=9))
            assert [row.sums.cost for row in read(Slice(start, end, zone, reader=bert))] == [2]
            assert [row.group for row in read_tag(Slice(start, end, zone, reader=bert), "workflow")] == [("bert",)]
            assert [row.sums.cost for row in read(Slice(start, end, zone, reader=viewer))] == [3]
    with pytest.raises(ValidationError, match="keys"):
        Slice(START, END, "UTC", group_by=("key",), reader=viewer)


def test_a_client_that_moves_has_its_old_days_in_its_new_zone(calls):
    acme = Client.objects.create(name="Acme")
    insert([calls.end(c=acme.pk, at=micros(START) + hour * 3_600_000_000, end=micros(START)) for hour in range(48)])
    roll_due()
    Client.objects.filter(pk=acme.pk).update(time_zone="Asia/Kathmandu")
    insert([calls.end(c=acme.pk, at=micros(START), end=micros(START))])
    roll_due()
    grain = UsageRollup.objects.filter(grain="Asia/Kathmandu")
    assert sum(sums.calls for sums in sums_in(grain)) == 49
    assert list(check(START, END)) == []


def test_sums_say_their_amounts_by_name():
    sums = Sums(range(len(AMOUNTS)))
    assert [getattr(sums, name) for name in AMOUNTS] == list(range(len(AMOUNTS)))
    with pytest.raises(AttributeError):
        sums.profit  # noqa: B018


@pytest.mark.django_db(transaction=True)
def test_the_migration_lists_what_was_there_and_goes_back(calls):
    leaves = [node for node in MigrationExecutor(connection).loader.graph.leaf_nodes() if node[0] == "usage"]
    MigrationExecutor(connection).migrate([("usage", "0001_initial")])
    try:
        tables = connection.introspection.table_names()
        assert not [name for name in tables if "rollup" in name or "rolled" in name or "series" in name]
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM usage_usagerecord")
    finally:
        MigrationExecutor(connection).migrate(leaves)
    insert([calls.end(c=7, at=micros(START), end=micros(START)) for _ in range(3)])
    MigrationExecutor(connection).migrate([("usage", "0001_initial")])
    MigrationExecutor(connection).migrate(leaves)
    assert len(list(due.listed(RollupDue.objects.all()))) == 3
    roll_due()
    assert [row.sums.calls for row in read(Slice(START, END, "UTC"))] == [3]


def test_of_days_joined_up_everybody_reads_what_is_theirs(few_are_joined_up, calls):
    bert, clients = User.objects.create_user("bert"), []
    set_role(bert, Role.OPERATOR)
    for name, owner in (("Own", bert), ("Foreign", None)):
        clients.append(Client.objects.create(name=name, owner=owner))
        insert([calls.end(c=clients[-1].pk, at=micros(START), end=micros(START), cost=len(name))])
    roll_due()
    assert join_up(START + timedelta(days=2)) == 1
    asked = Slice(START, START + timedelta(days=1), "UTC", group_by=("client",))
    assert [row.group[0] for row in read(asked)] == [client.pk for client in clients]
    assert [row.sums.cost for row in read(replace(asked, reader=bert))] == [len("Own")]
    assert [row.sums.cost for row in read(replace(asked, only={"client": [clients[1].pk]}))] == [len("Foreign")]
    insert([calls.end(c=clients[0].pk, at=micros(START) + 1, end=micros(START) + 1, cost=5)])  # late
    assert sum(row.sums.cost for row in read(asked)) == len("Own") + len("Foreign") + 5
    roll_due()
    assert not AgencyDay.objects.exists()
    assert sum(row.sums.cost for row in read(asked)) == len("Own") + len("Foreign") + 5


def test_the_dearest_workflows_are_found_while_a_backlog_of_thousands_is_due(calls):
    acme = Client.objects.create(name="Acme")
    insert([calls.end(c=acme.pk, at=micros(START), end=micros(START), charge=n, w=f"w{n}") for n in range(1_500)])
    asked = Slice(START, START + timedelta(days=1), "UTC")
    for _ in range(2):
        found = dearest(asked, "workflow", ("calls", "charge"), 3)
        assert [(row.group, row.sums.charge) for row in found] == [((f"w{n}",), n) for n in (1499, 1498, 1497)]
        roll_due()
    insert([calls.end(c=acme.pk, at=micros(START), end=micros(START), charge=5_000, w="w7")])  # which brings it there
    assert dearest(asked, "workflow", ("calls", "charge"), 1)[0].sums.charge == 5_007
