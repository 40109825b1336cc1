"""Ingest as a process: two of them at once, a database that is locked, a signal to stop."""

import re
import signal
import sqlite3
import time
from pathlib import Path

from usage import segments
from usage.lines import encode


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def recorded(installation):
    database = sqlite3.connect(installation.database, timeout=30)
    try:
        return [row[0] for row in database.execute("SELECT request_id FROM usage_usagerecord ORDER BY 1")]
    finally:
        database.close()


def listens(process):
    """Whether the process has come so far that it stops in order."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1]
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


def stopped(process):
    until(lambda: listens(process))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


def test_two_at_once_harm_nothing(installation, open_journal, calls):
    processes = [installation.start("manage.py", "ingest") for _ in range(2)]
    ids = []
    for _ in range(4):  # each closes with a call open: both adopt it
        journal = open_journal(directory=installation.journal_dir)
        ids += [calls.write(journal)["id"] for _ in range(400)]
        begin = calls.begin()
        journal.begin(begin["id"], encode(begin))
        ids.append(begin["id"])
        journal.close()
    until(lambda: not segments.segments(installation.journal_dir))
    for process in processes:
        stopped(process)
    assert recorded(installation) == sorted(ids)


# The stock settings wait 20 s for a lock; here the refusal itself is wanted.
IMPATIENT = """
import signal, sys, threading
import django
from django.conf import settings
settings.DATABASES["default"]["OPTIONS"]["timeout"] = 0.05
django.setup()
from usage.ingest import Ingest
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
Ingest(settings.JOURNAL_DIR).run_forever(stop)
"""


def test_a_locked_database_is_waited_for(installation, open_journal, calls):
    lock = sqlite3.connect(installation.database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    journal = open_journal(directory=installation.journal_dir)
    ids = [calls.write(journal)["id"] for _ in range(500)]
    process = installation.start("-c", IMPATIENT)
    line = process.stderr.readline()
    while "stays in the journal" not in line:
        assert line, "it gave up"
        line = process.stderr.readline()
    ids += [calls.write(journal)["id"] for _ in range(500)]
    assert "stays in the journal" in process.stderr.readline(), "it tries again"
    lock.execute("ROLLBACK")
    lock.close()
    until(lambda: len(recorded(installation)) == 1000)
    stopped(process)
    assert recorded(installation) == sorted(ids)
