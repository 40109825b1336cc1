"""The ledger equals a plain sum over all calls, wherever their lines are."""

import itertools
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usage import outcomes
from usage.ingest import Ingest, insert
from usage.journal import Journal
from usage.ledger import SESSION_US, Window, last_settled, read_ledger
from usage.lines import encode
from usage.models import UsageRecord

METRICS = ("requests", "tokens", "credits", "sessions")
SECOND = 1_000_000
NOW = 1_763_900_000 * SECOND


def amount(end, metric):
    if end["o"] not in outcomes.COUNTED:
        return 0
    return {"requests": 1, "tokens": end["in"] + end["out"], "credits": end["charge"], "sessions": end["so"]}[metric]


def plain_sum(ends, window, until=None):
    return sum(
        amount(end, window.metric)
        for end in ends
        if end["c"] == window.client_id
        and window.key_id in (0, end["key"])
        and end["at"] >= window.start_us
        and (until is None or end["end"] <= until)
    )


def windows_of(starts, clients=(1, 2, 3)):
    rule_keys = itertools.count(1)
    return [
        Window(client, next(rule_keys), metric, start, by_second=start >= NOW, key_id=key)
        for client in clients
        for key in (0, 1, 2)
        for metric in METRICS
        for start in starts
    ]


call_fields = st.fixed_dictionaries(
    {
        "c": st.integers(1, 3),
        "key": st.sampled_from([1, 2, 3, None]),
        "at": st.integers(NOW - 3 * SECOND, NOW + 3 * SECOND),
        "end": st.integers(NOW - 3 * SECOND, NOW + 9 * SECOND),
        "in": st.integers(0, 10**6),
        "out": st.integers(0, 10**6),
        "charge": st.integers(0, 10**15),
        "o": st.sampled_from(sorted(outcomes.ALL)),
        "so": st.integers(0, 1),
        "s": st.sampled_from(["aa", "bb", "cc"]),
    }
).map(lambda fields: fields | ({"charge": 0, "so": 0} if fields["o"] in outcomes.UNCOUNTED else {}))


@pytest.mark.django_db
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(st.lists(st.tuples(call_fields, st.booleans(), st.booleans()), max_size=12), max_size=3),
    starts=st.lists(st.integers(NOW - 3 * SECOND, NOW + 3 * SECOND) | st.just(0), min_size=1, max_size=3),
    until=st.none() | st.integers(NOW - SECOND, NOW + 9 * SECOND),
    last_lives=st.booleans(),
)
def test_it_is_the_plain_sum_whatever_part_was_ingested(calls, lives, starts, until, last_lives):
    """Each life is a process; of each call: its fields, whether it is already a record, whether its end was written."""
    UsageRecord.objects.all().delete()
    directory = Path(tempfile.mkdtemp())
    expected, recorded, open_begins = [], [], []
    journals = []
    for number, life in enumerate(lives):
        living = last_lives and number == len(lives) - 1
        journal = Journal(directory, lambda: NOW, segment_bytes=16 * 1024)
        journal.open()
        for fields, is_recorded, has_end in life:
            begin = calls.begin(**{name: value for name, value in fields.items() if name not in ("end", "o")})
            end = calls.end(begin, **fields)
            journal.begin(begin["id"], encode(begin))
            if has_end:
                journal.end(end["id"], encode(end))
                expected.append(end)
                if is_recorded:
                    recorded.append(end)
            elif not living:
                open_begins.append(begin)
        if living:
            journals.append(journal)
        else:
            journal.close()
    insert(recorded)
    died = time.time_ns() // 1000  # what dead processes had open was settled a moment ago, after any `until` here
    if until is None:
        expected += [calls.end(begin, **begin) | {"o": "interrupted", "end": died} for begin in open_begins]
    windows = windows_of(dict.fromkeys(starts))
    for _ in range(2):
        counts = read_ledger(directory, windows, until)
        assert counts.spent == {window.rule_key: plain_sum(expected, window, until) for window in windows}
        for window in windows:
            if window.by_second:
                assert sum(counts.seconds[window.rule_key].values()) == counts.spent[window.rule_key]
                assert all(second >= NOW // SECOND for second in counts.seconds[window.rule_key])
        Ingest(directory).run_once()
    for journal in journals:
        journal.close()
    shutil.rmtree(directory)


@pytest.mark.django_db
def test_buckets_of_seconds_are_the_same_from_records_and_journal(open_journal, calls, journal_dir):
    journal = open_journal()
    for at, tokens in ((0, 1), (999_999, 2), (1_000_000, 4), (59_999_999, 8)):
        calls.write(journal, at=NOW + at, **{"in": tokens, "out": 0})
    window = Window(1, 5, "tokens", NOW, by_second=True)
    buckets = {NOW // SECOND: 3, NOW // SECOND + 1: 4, NOW // SECOND + 59: 8}
    assert read_ledger(journal_dir, [window]).seconds == {5: buckets}
    assert Ingest(journal_dir).run_once() == 4
    assert read_ledger(journal_dir, [window]).seconds == {5: buckets}


@pytest.mark.django_db
def test_sessions_of_the_last_24_hours(open_journal, calls, journal_dir):
    journal = open_journal()
    calls.write(journal, s="old", so=1, at=NOW - SESSION_US - 1)
    calls.write(journal, s="young", so=1, at=NOW - SESSION_US)
    calls.write(journal, s="young", so=0, at=NOW - 5)
    calls.write(journal, s="other", so=1, at=NOW - 7, c=2)
    calls.write(journal, s="failed", o="upstream_error", charge=0, at=NOW)
    expected = {1: {"young": NOW - SESSION_US}, 2: {"other": NOW - 7}}
    assert read_ledger(journal_dir, [], until=NOW).sessions == {}, "settled later than asked for"
    for line_source in ("journal", "records"):
        counts = read_ledger(journal_dir, [], until=NOW + 1200)
        # 24 hours before `until`, so the young one is 1,200 µs too old by then
        assert counts.sessions == {2: expected[2]}, line_source
        Ingest(journal_dir).run_once()


# Prints the ledger's sum again and again until its stdin closes.
READER = """
import select, sys
from pathlib import Path
import django
django.setup()
from usage.ledger import read_ledger
while True:
    print(read_ledger(Path(sys.argv[1]), [(1, 1, "credits", 0)]).spent[1], flush=True)
    if select.select([sys.stdin], [], [], 0)[0]:
        break
"""


def test_correct_while_ingest_moves_lines(installation, open_journal, calls):
    """Every reading sees the same sum, though each call is moved and its segment deleted meanwhile."""
    for _ in range(8):
        journal = open_journal(directory=installation.journal_dir)
        for _ in range(400):
            calls.write(journal)
        begin = calls.begin(charge=1050)
        journal.begin(begin["id"], encode(begin))
        journal.close()
    expected = str(8 * 401 * 1050)
    reader = installation.start("-c", READER, str(installation.journal_dir))
    assert reader.stdout.readline().strip() == expected
    ingest = installation.start("manage.py", "ingest", "--once")
    assert ingest.communicate(timeout=60)[0] == f"{8 * 401}\n"
    seen, _ = reader.communicate(timeout=60)
    assert set(seen.split()) == {expected}
    assert len(seen.split()) > 2


@pytest.mark.django_db
def test_the_session_of_a_released_call_stays_with_its_heir_if_both_die(open_journal, calls, journal_dir):
    journal = open_journal()
    opener, heir = calls.begin(at=NOW, s="aa", so=1), calls.begin(at=NOW + 1, s="aa")
    for begin in (opener, heir):
        journal.begin(begin["id"], encode(begin))
    journal.end(opener["id"], encode(calls.end(opener, o=outcomes.UPSTREAM_ERROR, so=0, cost=0, charge=0)))
    journal.take_session(heir["id"])
    journal.close()  # with a call open, as one that is killed leaves it
    for _ in range(2):
        assert read_ledger(journal_dir, [Window(1, 1, "sessions", 0)]).spent == {1: 1}
        Ingest(journal_dir).run_once()
    assert UsageRecord.objects.get(session_opened=True).request_id.hex == heir["id"]


@pytest.mark.django_db
def test_the_last_moment_on_record_is_found_in_journal_and_records(open_journal, calls, journal_dir):
    latest = time.time_ns() // 1000 + SECOND  # segments are written now
    assert last_settled(journal_dir, latest) == 0
    insert([calls.end(at=NOW, end=NOW + 5 * SECOND), calls.end(at=latest + 9 * SECOND, end=latest + 9 * SECOND)])
    assert last_settled(journal_dir, latest) == NOW + 5 * SECOND, "what lies far ahead is a mistake"
    journal = open_journal()
    calls.write(journal, end=latest - 1)
    calls.write(journal, end=latest + 1)
    assert last_settled(journal_dir, latest) == latest - 1


@pytest.mark.django_db
def test_asked_for_and_never_used_is_zero(journal_dir):
    assert read_ledger(journal_dir, [(1, 77, "tokens", 0)]).spent == {77: 0}


@pytest.mark.django_db
def test_a_window_for_each_client_and_start_costs_one_query_a_start(journal_dir, django_assert_max_num_queries):
    windows = [
        Window(client, 10 * client + n, "credits", start) for client in range(100) for n, start in enumerate((0, NOW))
    ]
    with django_assert_max_num_queries(4):  # one of them asks whether there is an archive
        read_ledger(journal_dir, windows)
