"""Records that move to the archive change no sum, whatever is killed when, and any tool reads them there."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from clients.agency import Agency, agency, change_agency
from clients.cycles import micros
from clients.models import Client
from gateway_project import tasks
from usage import cost_csv
from usage.analytics import Slice, read
from usage.archive import moving
from usage.archive.models import ArchivedUse, ArchiveFile
from usage.archive.reading import MissingArchive
from usage.costs import Question
from usage.ingest import insert
from usage.ledger import Window, read_ledger
from usage.models import RolledZone, RollupDue, TagRollup, UsageRecord, UsageRollup, UsageSeries
from usage.rollups import Archived, check, roll_due, roll_up
from usage.tags import read_tag

pytestmark = pytest.mark.django_db

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 5, 20, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
EMPTIED = (UsageRollup, TagRollup, UsageSeries, RolledZone, RollupDue, UsageRecord, ArchiveFile, ArchivedUse, Client)


@pytest.fixture(autouse=True)
def folder(settings, tmp_path) -> Path:
    settings.ARCHIVE_DIR = tmp_path / "archive"
    return settings.ARCHIVE_DIR


@pytest.fixture
def journal(tmp_path) -> Path:
    directory = tmp_path / "journal"
    directory.mkdir()
    return directory


def recorded(calls, at, **fields):
    insert([calls.end(at=micros(at), end=micros(at) + 1200, **fields)])


def keep(months):
    change_agency(record_months=months)


def csv(**fields):
    question = Question(START, END, "Asia/Kathmandu", **fields)
    return "".join(cost_csv.text(question))


def sums(journal):
    """All that must stay as it is, by every door."""
    windows = [
        Window(client, number, metric, start, key_id=key)
        for number, (client, metric, start, key) in enumerate(
            (client, metric, start, key)
            for client in (1, 2)
            for metric in ("requests", "tokens", "credits", "sessions")
            for start in (0, micros(datetime(2025, 2, 10, 7, 30, tzinfo=UTC)))
            for key in (0, 5)
        )
    ]
    odd = START + timedelta(days=20, hours=3, minutes=17)
    slices = [Slice(START, END, zone, "day", ("client", "model", "outcome")) for zone in ZONES]
    slices += [replace(one, start=odd, step="") for one in slices]
    by = (("client",), ("model", "day"), ("week", "workflow"), ("month", "env", "key"), ("endpoint",), ())
    return [
        read_ledger(journal, windows).spent,
        [[(row.at, row.group, row.sums.told()) for row in read(one, times=True)] for one in slices],
        [
            [(row.at, row.group, row.sums.told()) for row in read_tag(replace(one, group_by=("client",)), "workflow")]
            for one in slices
        ],
        [csv(group_by=group_by) for group_by in by],
        csv(group_by=("model", "month"), client=1, model=1),
        list(check(START, END)),
    ]


amounts = st.integers(0, 2**45) | st.integers(0, 1000)
made = st.fixed_dictionaries(
    {
        "at": st.datetimes(START.replace(tzinfo=None), END.replace(tzinfo=None)).map(lambda at: at.replace(tzinfo=UTC)),
        "c": st.sampled_from([1, 2]),
        "key": st.sampled_from([None, 5]),
        "m": st.sampled_from([None, 1, 2]),
        "o": st.sampled_from(["ok", "interrupted", "upstream_error"]),
        "est": st.sampled_from([0, 1]),
        "w": st.sampled_from([None, "=1+1", "nightly"]),
        "env": st.sampled_from([None, "prod"]),
        "cost": amounts,
        "charge": amounts,
        "in": amounts,
        "ttfb": st.none() | st.integers(0, 10**6),
    }
)


@examples(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(made, min_size=1, max_size=12), months=st.sampled_from([3, 4]), batch=st.sampled_from([1, 2]))
def test_no_sum_changes(calls, journal, monkeypatch, history, months, batch):
    for model in EMPTIED:
        model._base_manager.all().delete()
    for pk, zone in ((1, "UTC"), (2, "Asia/Kathmandu")):
        Client.objects.create(pk=pk, name=f"Client {pk}", time_zone=zone)
    for call in history:
        recorded(calls, **call | ({} if call["o"] != "upstream_error" else {"charge": 0}))
    roll_due()
    before = sums(journal)
    assert before[-1] == []
    keep(months)
    monkeypatch.setattr(moving, "BATCH", batch)
    monkeypatch.setattr(moving, "_LONGEST_PAUSE", 0)
    moving.go_on(NOW, limit_seconds=0.02)
    assert sums(journal) == before, "half way"
    moved = moving.go_on(NOW)
    assert sums(journal) == before
    assert moving.go_on(NOW) == moving.Moved(), f"nothing is left after {moved}"
    kept = UsageRecord.objects.values_list("admitted_at", flat=True)
    assert len(kept) + sum(ArchiveFile.objects.values_list("taken", flat=True)) == len(history)
    Client.objects.filter(pk=1).update(time_zone="Europe/Berlin")
    recorded(calls, datetime(2025, 5, 19, tzinfo=UTC), c=1, cost=0, charge=0)
    roll_due()
    assert list(check(START, END)) == [], "a zone that came into use has the archived calls, too"


def test_only_whole_months_beyond_those_that_are_kept_move(calls, folder):
    Client.objects.create(pk=1, name="Acme")
    borders = [datetime(2025, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC), NOW]
    for at in borders:
        recorded(calls, at)
    roll_due()
    assert moving.go_on(NOW) == moving.Moved(), "nobody asked for it"
    Agency.objects.update_or_create(pk=1, defaults={"record_months": 1})
    assert moving.go_on(NOW) == moving.Moved(1, 1), "less than three months is never kept"
    assert list(UsageRecord.objects.order_by("admitted_at").values_list("admitted_at", flat=True)) == borders[1:]
    assert [path.name for path in folder.glob("*.parquet")] == ["usage-2025-02.parquet"]


def test_what_is_in_no_rollup_yet_stays(calls):
    Client.objects.create(pk=1, name="Acme")
    recorded(calls, START)
    keep(3)
    assert moving.go_on(NOW) == moving.Moved()
    roll_due()
    assert moving.go_on(NOW) == moving.Moved(1, 1)


def test_a_kill_between_file_and_row_or_within_a_batch_loses_and_doubles_nothing(calls, journal, monkeypatch):
    Client.objects.create(pk=1, name="Acme")
    for day in range(5):
        recorded(calls, START + timedelta(days=day), cost=7, charge=11)
    roll_due()
    keep(3)
    before = sums(journal)
    monkeypatch.setattr(moving, "BATCH", 2)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    for where, what in ((ArchiveFile.objects, "create"), (moving, "_add_use")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, what, killed)
            moving.go_on(NOW)
        assert UsageRecord.objects.count() == 5
        assert sums(journal) == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(moving.time, "sleep", killed)  # the first batch is out
        moving.go_on(NOW)
    assert UsageRecord.objects.count() == 3
    assert sums(journal) == before
    assert moving.go_on(NOW) == moving.Moved(0, 3)
    assert sums(journal) == before


def test_two_at_once_are_one(calls):
    Client.objects.create(pk=1, name="Acme")
    recorded(calls, START)
    roll_due()
    keep(3)
    with moving._lock() as got:
        assert got
        assert moving.go_on(NOW) == moving.Moved()
    assert moving.go_on(NOW) == moving.Moved(1, 1)


def test_a_late_record_gets_a_file_of_its_own(calls, journal, folder):
    Client.objects.create(pk=1, name="Acme")
    keep(3)
    for day in (3, 9):
        recorded(calls, START + timedelta(days=day))
        roll_due()
        before = sums(journal)
        assert moving.go_on(NOW) == moving.Moved(1, 1)
        assert sums(journal) == before
    assert sorted(path.name for path in folder.glob("*.parquet")) == [
        "usage-2025-01-2.parquet",
        "usage-2025-01.parquet",
    ]


def test_a_missing_file_is_an_error_that_names_it(calls, journal, folder):
    Client.objects.create(pk=1, name="Acme")
    recorded(calls, START, charge=11)
    roll_due()
    keep(3)
    moving.go_on(NOW)
    (folder / "usage-2025-01.parquet").unlink()
    with pytest.raises(CommandError, match=r"usage-2025-01\.parquet"):
        call_command("exportcosts", "--from", "2025-01-01")
    with pytest.raises(MissingArchive, match=r"usage-2025-01\.parquet"):
        csv()
    counts = read_ledger(journal, [Window(1, 1, "credits", 0)])
    assert counts.spent == {1: 11}, "the gateway's counters need no file"


def test_any_tool_reads_it(calls, folder):
    Client.objects.create(pk=1, name="Acme")
    for day in (2, 1):
        recorded(calls, START + timedelta(days=day), cost=2**62 // day, charge=5, w="nightly")
    roll_due()
    records = list(UsageRecord.objects.order_by("admitted_at").values())
    keep(3)
    moving.go_on(NOW)
    rows = pq.read_table(folder / "usage-2025-01.parquet").to_pylist()
    for row in rows:
        row["cost"], row["charge"] = row.pop("cost_picodollars"), row.pop("charge_picodollars")
    assert rows == [record | {"request_id": str(record["request_id"])} for record in records]


def test_rollups_of_what_is_archived_stay_as_they_are(calls, journal):
    Client.objects.create(pk=1, name="Acme")
    recorded(calls, START + timedelta(hours=5))
    roll_due()
    keep(3)
    moving.go_on(NOW)
    before = sums(journal)
    with pytest.raises(Archived):
        roll_up(START, END)
    with pytest.raises(CommandError, match="archive"):
        call_command("rollup", "--from", "2025-01-01", "--to", "2025-01-02")
    assert sums(journal) == before


def test_command_task_and_settings_page(calls, admin_client: Browser, folder):
    Client.objects.create(pk=1, name="Acme")
    recorded(calls, START)
    recorded(calls, START + timedelta(days=40))
    roll_due()
    page = reverse("admin:settings")
    assert "nothing yet" in admin_client.get(page).content.decode()
    admin_client.post(page, {"record_months": "2"})
    assert agency().record_months is None, "three at least"
    admin_client.post(page, {"record_months": "3"})
    told = io.StringIO()
    call_command("archiverecords", stdout=told)
    assert told.getvalue() == f"2 files were written to {folder}; 2 records moved.\n"
    shown = admin_client.get(page).content.decode()
    assert "2 files of 2025-01 to 2025-02" in shown
    assert str(folder) in shown
    listed = admin_client.get(reverse("admin:usage_usagerecord_changelist")).content.decode()
    assert "Calls up to 2025-02-10 are in the archive" in listed
    recorded(calls, START + timedelta(days=80))
    roll_due()
    tasks.archive_records()
    assert not UsageRecord.objects.exists()
