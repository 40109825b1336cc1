"""Every end becomes a record exactly once."""

import logging
import os
import shutil
import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from clients.models import Client
from keys.models import APIKey, KeyUse
from usage import segments
from usage.ingest import Ingest
from usage.journal import UNBORN_SUFFIX
from usage.lines import encode, moment
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    client = Client.objects.create(name="Acme")
    return APIKey.objects.create(client=client, digest=b"d" * 32, hint="llm_gw_abcd…wxyz")


def ids():
    return sorted(record.hex for record in UsageRecord.objects.values_list("pk", flat=True))


def test_a_record_holds_all_that_the_line_says(open_journal, calls, journal_dir):
    end = calls.write(
        open_journal(), c=7, key=8, p=9, m=10, price=11, st=1, s="ab" * 32, so=1, w="wf", x="ex", env="prod",
        cached=5, cw=6, reason=3, ain=2, aout=1, est=1, o="broken", status=502, err="upstream_disconnected",
        tier="flex", prid="req_1", cost=2**62, charge=2**62 + 1,
    )  # fmt: skip
    assert Ingest(journal_dir).run_once() == 1
    record = UsageRecord.objects.get()
    assert {name: value for name, value in vars(record).items() if name != "_state"} == {
        "request_id": uuid.UUID(end["id"]), "client_id": 7, "key_id": 8, "provider_id": 9, "model_id": 10,
        "price_id": 11, "endpoint": "chat.completions", "model_asked": "gpt-4o-mini",
        "model_served": "gpt-4o-mini-2024-07-18", "admitted_at": moment(end["at"]), "settled_at": moment(end["end"]),
        "outcome": "broken", "status": 502, "error_code": "upstream_disconnected", "stream": True, "input_tokens": 90,
        "cached_tokens": 5, "cache_write_tokens": 6, "output_tokens": 10, "reasoning_tokens": 3,
        "audio_input_tokens": 2, "audio_output_tokens": 1, "cost": 2**62, "charge": 2**62 + 1, "estimated": True,
        "latency_us": 1200, "first_byte_us": 300, "session": "ab" * 32, "session_opened": True, "workflow": "wf",
        "execution": "ex", "env": "prod", "service_tier": "flex", "provider_request_id": "req_1",
        "rerating_id": None,
    }  # fmt: skip
    record.full_clean(validate_unique=False, exclude=["client", "key", "provider", "model", "price", "rerating"])


def test_a_live_segment_is_read_as_it_grows_and_deleted_when_sealed(open_journal, calls, journal_dir):
    journal = open_journal()
    ingest = Ingest(journal_dir)
    assert ingest.run_once() == 0
    first = calls.write(journal)
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    assert ingest.run_once() == 1
    assert ids() == [first["id"]], "a call still open is no record"
    journal.end(begin["id"], encode(calls.end(begin)))
    assert ingest.run_once() == 1
    assert len(segments.segments(journal_dir)) == 1
    journal.close()
    assert ingest.run_once() == 0
    assert segments.segments(journal_dir) == []
    assert ids() == sorted([first["id"], begin["id"]])


def test_rotation_with_open_calls_interrupts_nobody(open_journal, calls, journal_dir):
    journal = open_journal(segment_bytes=16 * 1024)
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    ends = [calls.write(journal)["id"] for _ in range(60)]
    assert Ingest(journal_dir).run_once() == 60
    assert len(segments.segments(journal_dir)) == 1
    journal.end(begin["id"], encode(calls.end(begin)))
    journal.close()
    assert Ingest(journal_dir).run_once() == 1
    assert ids() == sorted([*ends, begin["id"]])
    assert not UsageRecord.objects.filter(outcome="interrupted").exists()


def test_what_a_dead_process_had_open_is_interrupted_once(open_journal, calls, journal_dir):
    journal = open_journal(segment_bytes=16 * 1024)
    begins = [calls.begin() for _ in range(3)]
    for begin in begins:
        journal.begin(begin["id"], encode(begin))
    for _ in range(40):
        calls.write(journal)
    journal.end(begins[0]["id"], encode(calls.end(begins[0])))
    journal.close()
    assert Ingest(journal_dir).run_once() == 43
    cut = UsageRecord.objects.filter(outcome="interrupted")
    assert {record.request_id.hex for record in cut} == {begin["id"] for begin in begins[1:]}
    assert {(record.estimated, record.charge, record.input_tokens) for record in cut} == {(True, 1500, 100)}
    assert segments.segments(journal_dir) == []


def test_replay_after_a_crash_between_commit_and_delete(open_journal, calls, journal_dir, tmp_path, key):
    for left_open in (0, 1):
        journal = open_journal()
        for _ in range(10):
            calls.write(journal, c=key.client_id, key=key.pk)
        for begin in [calls.begin(c=key.client_id, key=key.pk)] * left_open:
            journal.begin(begin["id"], encode(begin))
        journal.close()
    shutil.copytree(journal_dir, tmp_path / "copy")
    assert Ingest(journal_dir).run_once() == 21
    use = KeyUse.objects.values().get()
    for path in (tmp_path / "copy").iterdir():
        shutil.copy(path, journal_dir)
    assert Ingest(journal_dir).run_once() == 0
    assert UsageRecord.objects.count() == 21
    assert KeyUse.objects.values().get() == use
    assert (use["calls"], use["tokens"]) == (21, 20 * 100 + 150)
    assert segments.segments(journal_dir) == []


def test_a_torn_last_line_is_passed_over(open_journal, calls, journal_dir):
    journal = open_journal()
    end = calls.write(journal)
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    journal.close()
    (path,) = segments.segments(journal_dir)
    whole = path.read_bytes().rstrip(b"\0")
    path.write_bytes(whole + encode(calls.end(begin))[:-20] + b"\0" * 1000)
    assert Ingest(journal_dir).run_once() == 2
    assert UsageRecord.objects.get(pk=begin["id"]).outcome == "interrupted"
    assert UsageRecord.objects.get(pk=end["id"]).outcome == "ok"
    assert not (journal_dir / "quarantine").exists()


def test_a_hole_torn_by_a_crash_loses_no_line_behind_it(open_journal, calls, journal_dir):
    journal = open_journal()
    ends = [calls.write(journal)["id"] for _ in range(2)]
    journal.close()
    (path,) = segments.segments(journal_dir)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b"\0" * 5000 + b"".join(lines[2:]))
    assert Ingest(journal_dir).run_once() == 2
    assert ids() == sorted(ends)


@pytest.mark.parametrize("live", [True, False])
def test_garbage_goes_to_quarantine_and_blocks_nothing(open_journal, calls, journal_dir, caplog, live):
    journal = open_journal()
    before = calls.write(journal)
    garbage = [b'{"k":"e","id":"\xff\xfe"}', b"[1,2", b'{"k":"?"}', encode(calls.end() | {"o": "fine"}).strip()]
    for raw in garbage:
        journal.refused(raw + b"\n")
    after = calls.write(journal)
    if not live:
        journal.close()
    (path,) = segments.segments(journal_dir)
    with caplog.at_level(logging.ERROR):
        assert Ingest(journal_dir).run_once() == 2
        if live:
            assert Ingest(journal_dir).run_once() == 0
    assert path.name in caplog.text
    assert ids() == sorted([before["id"], after["id"]])
    kept = journal_dir / "quarantine" / path.name
    assert kept.read_bytes().splitlines() == garbage
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_row_that_the_database_refuses_holds_up_no_other(open_journal, calls, journal_dir):
    journal = open_journal()
    good = [calls.write(journal)["id"] for _ in range(5)]
    bad = calls.write(journal, o="refused", charge=5)
    good += [calls.write(journal)["id"] for _ in range(6)]
    journal.close()
    (path,) = segments.segments(journal_dir)
    assert Ingest(journal_dir).run_once() == 11
    assert ids() == sorted(good)
    assert bad["id"].encode() in (journal_dir / "quarantine" / path.name).read_bytes()


def test_text_longer_than_its_column_is_cut(open_journal, calls, journal_dir):
    calls.write(open_journal(), ask="m" * 900, w="a\0b" + "ü" * 900)
    assert Ingest(journal_dir).run_once() == 1
    record = UsageRecord.objects.get()
    assert record.model_asked == "m" * 200
    assert record.workflow == "ab" + "ü" * 198


def test_two_ends_of_one_call_are_one_record(open_journal, calls, journal_dir, key):
    journal = open_journal()
    end = calls.write(journal, key=key.pk, charge=1)
    journal.end(end["id"], encode(end | {"charge": 2}))
    assert Ingest(journal_dir).run_once() == 1
    assert UsageRecord.objects.get().charge == 1
    assert KeyUse.objects.get().charge == 1


def test_use_of_keys(open_journal, calls, journal_dir, key, clock):
    journal = open_journal()
    ingest = Ingest(journal_dir)
    calls.write(journal, key=key.pk, charge=7)
    calls.write(journal, key=key.pk, o="refused", charge=0)
    calls.write(journal, key=999, charge=7)
    assert ingest.run_once() == 3, "a key that is gone costs no record"
    use = KeyUse.objects.get()
    assert (use.key, use.calls, use.tokens, use.charge) == (key, 1, 100, 7)
    assert use.last_used_at == moment(clock.now)
    calls.write(journal, key=key.pk, at=clock.now + 59_000_000)
    ingest.run_once()
    use.refresh_from_db()
    assert use.calls == 2
    assert use.last_used_at == moment(clock.now), "moves once a minute at most"
    calls.write(journal, key=key.pk, at=clock.now + 60_000_000)
    calls.write(journal, key=key.pk, at=clock.now - 60_000_000)
    ingest.run_once()
    use.refresh_from_db()
    assert use.last_used_at == moment(clock.now + 60_000_000)


def test_a_segment_left_half_made_is_removed_in_time(journal_dir):
    journal_dir.mkdir()
    fresh, old = (journal_dir / f"00000000000{n}-1-ab{UNBORN_SUFFIX}" for n in (1, 2))
    for path in (fresh, old):
        path.touch()
    hours_ago = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(old, (hours_ago, hours_ago))
    Ingest(journal_dir).run_once()
    assert fresh.exists()
    assert not old.exists()


def test_without_a_journal_there_is_nothing_to_do(journal_dir):
    assert Ingest(journal_dir).run_once() == 0


def test_the_command(open_journal, calls, journal_dir, settings, capsys):
    settings.JOURNAL_DIR = journal_dir
    calls.write(open_journal())
    call_command("ingest", "--once")
    assert capsys.readouterr().out == "1\n"


def test_times_are_stored_as_django_stores_them(open_journal, calls, journal_dir):
    """Whole seconds too: SQLite compares them as text."""
    for at in (1_763_900_000_000_000, 1_763_900_000_000_001):
        calls.write(open_journal(), at=at)
    Ingest(journal_dir).run_once()
    assert UsageRecord.objects.filter(admitted_at=moment(1_763_900_000_000_000)).count() == 1
    assert UsageRecord.objects.filter(admitted_at__gt=moment(1_763_900_000_000_000)).count() == 1
    assert connection.vendor != "sqlite" or UsageRecord.objects.filter(stream__in=[0, 1]).count() == 2
