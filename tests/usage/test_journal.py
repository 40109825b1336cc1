"""The journal keeps what it accepted, and accepts only what it can keep."""

import resource
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from usage import segments
from usage.journal import Journal, JournalUnavailable
from usage.lines import encode, parse
from usage.segments import State


def written(directory):
    """The begins and ends of all segments, by kind: lists of ids."""
    found = {"b": [], "e": []}
    for path in segments.segments(directory):
        for raw in segments.read(path).lines:
            line = parse(raw)
            if line is not None:
                found[line["k"]].append(line["id"])
    return found


def states(directory):
    return [segments.read(path).state for path in segments.segments(directory)]


def test_lines_are_there_at_once_and_private(open_journal, calls, journal_dir):
    journal = open_journal()
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    assert written(journal_dir) == {"b": [begin["id"]], "e": []}
    assert journal.open_calls == 1
    journal.end(begin["id"], encode(calls.end(begin)))
    assert written(journal_dir) == {"b": [begin["id"]], "e": [begin["id"]]}
    assert journal.open_calls == 0
    assert stat.S_IMODE(journal_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in journal_dir.iterdir()} == {0o600}


def test_a_segment_is_live_until_it_is_sealed(open_journal, calls, journal_dir):
    journal = open_journal()
    calls.write(journal)
    assert states(journal_dir) == [State.LIVE]
    journal.close()
    assert states(journal_dir) == [State.SEALED]


def test_closed_with_calls_open_it_is_dead(open_journal, calls, journal_dir):
    journal = open_journal()
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    journal.close()
    assert states(journal_dir) == [State.DEAD]


def test_rotation_carries_open_calls_over(open_journal, calls, journal_dir):
    journal = open_journal(segment_bytes=16 * 1024)
    begin = calls.begin()
    journal.begin(begin["id"], encode(begin))
    for _ in range(60):
        calls.write(journal)
    paths = segments.segments(journal_dir)
    assert len(paths) > 2
    *sealed, last = [segments.read(path) for path in paths]
    assert {contents.state for contents in sealed} == {State.SEALED}
    assert last.state is State.LIVE
    assert begin["id"] in [parse(raw)["id"] for raw in last.lines]
    assert len(set(written(journal_dir)["e"])) == 60
    journal.end(begin["id"], encode(calls.end(begin)))
    assert begin["id"] in written(journal_dir)["e"]


def test_more_open_calls_than_a_segment_holds(open_journal, calls, journal_dir):
    journal = open_journal(segment_bytes=16 * 1024)
    begins = [calls.begin() for _ in range(200)]
    for begin in begins:
        journal.begin(begin["id"], encode(begin))
    for begin in begins:
        journal.end(begin["id"], encode(calls.end(begin)))
    assert set(written(journal_dir)["e"]) == {begin["id"] for begin in begins}
    assert len(segments.segments(journal_dir)) < 20


@pytest.mark.parametrize("step", ["begin", "tick"])
def test_a_segment_of_age_is_sealed(open_journal, calls, clock, journal_dir, step):
    journal = open_journal()
    journal.tick()
    calls.write(journal)
    clock.now += 9_000_000
    journal.tick()
    assert states(journal_dir) == [State.LIVE]
    clock.now += 1_000_000
    if step == "tick":
        journal.tick()
    else:
        calls.write(journal)
    assert states(journal_dir) == [State.SEALED, State.LIVE]
    clock.now += 60_000_000
    if step == "tick":
        journal.tick()
        assert len(states(journal_dir)) == 2, "an empty segment need not be sealed"


def test_a_clock_set_back_an_hour_changes_nothing(open_journal, calls, clock, journal_dir):
    journal = open_journal(segment_bytes=16 * 1024)
    ends = [calls.write(journal)["id"]]
    clock.now -= 3_600_000_000
    ends += [calls.write(journal)["id"] for _ in range(50)]
    names = [path.name for path in segments.segments(journal_dir)]
    journal.close()
    second = open_journal(segment_bytes=16 * 1024)
    ends.append(calls.write(second)["id"])
    assert sorted(written(journal_dir)["e"]) == sorted(ends)
    assert [path.name for path in segments.segments(journal_dir)][: len(names)] == names


def test_a_refused_call_is_on_record_without_a_begin(open_journal, calls, journal_dir):
    journal = open_journal()
    end = calls.end(o="refused", charge=0)
    journal.refused(encode(end))
    assert written(journal_dir) == {"b": [], "e": [end["id"]]}
    assert journal.open_calls == 0


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_sync_and_close_leave_no_descriptors(open_journal, calls, clock):
    before = descriptors()
    journal = open_journal(segment_bytes=16 * 1024)
    for _ in range(100):
        calls.write(journal)
    journal.sync()
    assert descriptors() == before + 1
    journal.sync()
    journal.close()
    assert descriptors() == before


@contextmanager
def file_size_limit(size):
    """The kernel refuses every write beyond `size`, as a disk with an error or a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_ends_that_cannot_be_written_are_kept_and_written_later(open_journal, calls, clock, journal_dir):
    journal = open_journal()
    begins = [calls.begin() for _ in range(5)]
    for begin in begins:
        journal.begin(begin["id"], encode(begin))
    with file_size_limit(600):  # in the midst of the second line
        for begin in begins:
            journal.end(begin["id"], encode(calls.end(begin)))
        assert journal.unwritten == 5
        assert journal.open_calls == 0
        with pytest.raises(JournalUnavailable):
            calls.write(journal)
        journal.tick()
        assert journal.unwritten == 5
    clock.now += 2_000_000
    journal.tick()
    assert journal.unwritten == 0
    last = calls.write(journal)
    assert written(journal_dir)["e"] == [*(begin["id"] for begin in begins), last["id"]]
    journal.close()
    assert states(journal_dir) == [State.SEALED]


def test_a_begin_cut_short_is_refused_and_leaves_no_trace(open_journal, calls, clock, journal_dir):
    journal = open_journal()
    first = calls.write(journal)
    used = len(segments.segments(journal_dir)[0].read_bytes().rstrip(b"\0"))
    cut = calls.begin(w="cut" * 50)
    with file_size_limit(used + 20), pytest.raises(JournalUnavailable):
        journal.begin(cut["id"], encode(cut))
    assert journal.open_calls == 0
    clock.now += 2_000_000
    second = calls.write(journal)
    assert written(journal_dir)["e"] == [first["id"], second["id"]]
    assert cut["id"] not in written(journal_dir)["b"]


def test_it_is_failing_until_a_write_succeeds_again(open_journal, calls, clock, journal_dir):
    journal = open_journal()
    first = calls.write(journal)
    used = len(segments.segments(journal_dir)[0].read_bytes().rstrip(b"\0"))
    assert not journal.failing
    with file_size_limit(used + 20):
        with pytest.raises(JournalUnavailable):
            calls.write(journal)
        assert journal.failing
        clock.now += 2_000_000
    with file_size_limit(used):
        journal.tick()
        assert journal.failing
    journal.tick()  # nobody sends calls to a gateway that is not ready: it has to find out by itself
    assert not journal.failing
    last = calls.write(journal)
    assert written(journal_dir)["e"] == [first["id"], last["id"]]


def test_refused_lines_that_cannot_be_written_show_as_well(open_journal, calls):
    journal = open_journal()
    with file_size_limit(10), pytest.raises(JournalUnavailable):
        journal.refused(encode(calls.end(o="refused", charge=0)))
    assert journal.failing
    calls.write(journal)
    assert not journal.failing


@pytest.mark.parametrize("lines_before", range(10))
def test_a_session_that_went_over_to_an_open_call_is_in_its_begin(open_journal, calls, journal_dir, lines_before):
    """Wherever in a segment that falls, its end included."""
    journal = open_journal(segment_bytes=4096)
    heir = calls.begin(s="aa")
    journal.begin(heir["id"], encode(heir))
    for _ in range(lines_before):
        journal.refused(encode(calls.end(o="refused", charge=0)))
    journal.take_session(heir["id"])
    journal.take_session(calls.begin()["id"])  # over already, or never there
    lines = [parse(raw) for raw in segments.read(segments.segments(journal_dir)[-1]).lines]
    assert [line for line in lines if line["id"] == heir["id"]][-1] == heir | {"so": 1}
    end = calls.end(heir)
    journal.end(heir["id"], encode(end))
    assert end["id"] in written(journal_dir)["e"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_on_a_full_disk_begins_are_refused_and_no_end_is_lost(small_disk, open_journal, calls, clock):
    journal = open_journal(segment_bytes=64 * 1024, directory=small_disk / "journal")
    (small_disk / "ballast").write_bytes(b"x" * 64 * 1024)
    begun, ended = [], []
    with pytest.raises(JournalUnavailable):
        for _ in range(10_000):
            begin = calls.begin()
            journal.begin(begin["id"], encode(begin))
            begun.append(begin)
            if len(begun) > 30:
                oldest = begun[len(ended)]
                journal.end(oldest["id"], encode(calls.end(oldest)))
                ended.append(oldest["id"])
    with pytest.raises(OSError, match="No space"), (small_disk / "rest").open("wb", buffering=0) as rest:
        while True:  # the last page too: nothing may find its place by luck
            rest.write(b"x" * 4096)
    with pytest.raises(JournalUnavailable):
        for _ in range(1000):
            journal.refused(encode(calls.end(o="refused", charge=0)))
    for begin in begun[len(ended) :]:
        journal.end(begin["id"], encode(calls.end(begin)))
        ended.append(begin["id"])
    assert journal.unwritten == 0
    found = [call_id for call_id in written(small_disk / "journal")["e"] if call_id in set(ended)]
    assert sorted(found) == sorted(ended)
    (small_disk / "ballast").unlink()
    clock.now += 2_000_000
    calls.write(journal)
    journal.close()


def test_a_full_disk_stops_the_start(small_disk, clock):
    journal = Journal(small_disk / "journal", clock)
    with pytest.raises(OSError, match="No space"):
        journal.open()
    assert list((small_disk / "journal").iterdir()) == []
