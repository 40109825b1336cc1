"""kill -9 of a gateway at random moments: what `end` returned for is on record once, nothing is twice."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from usage import segments
from usage.ingest import Ingest
from usage.models import UsageRecord

ROOT = Path(__file__).resolve().parents[2]
# Tells each end that returned on stdout, after it returned; keeps up to 20 calls open.
WRITER = """
import os, sys, time, uuid
from pathlib import Path
from usage.journal import Journal
from usage.lines import encode

journal = Journal(Path(sys.argv[1]), lambda: time.time_ns() // 1000, segment_bytes=24 * 1024)
journal.open()
open_calls = []
while True:
    begin = {"k": "b", "id": uuid.uuid4().hex, "at": time.time_ns() // 1000, "c": 1, "key": None, "p": 1, "m": 1,
             "ep": "chat.completions", "ask": "m", "price": 1, "in": 3, "out": 4, "cost": 5, "charge": 6, "st": 0,
             "s": None, "w": None, "x": None, "env": None, "so": 0}
    journal.begin(begin["id"], encode(begin))
    os.write(1, f"b {begin['id']}\\n".encode())
    open_calls.append(begin)
    if len(open_calls) > 20:
        begin = open_calls.pop(0)
        end = {**begin, "k": "e", "srv": None, "cached": 0, "cw": 0, "reason": 0, "ain": 0, "aout": 0, "est": 0,
               "o": "ok", "status": 200, "err": None, "ms": 1, "ttfb": 1, "tier": None,
               "end": time.time_ns() // 1000, "prid": None}
        journal.end(end["id"], encode(end))
        os.write(1, f"e {end['id']}\\n".encode())
"""


@pytest.mark.django_db
def test_killed_at_random_moments(journal_dir):
    chance = random.Random()
    ingest = Ingest(journal_dir)
    begun, ended = set(), set()
    for _ in range(25):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(journal_dir)], cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        # Bytes of its report, not time, decide when it dies: a slow machine changes nothing.
        report = process.stdout.read(chance.randrange(1, 60_000))
        if chance.random() < 0.5:
            ingest.run_once()
        process.send_signal(signal.SIGKILL)
        report += process.stdout.read()
        process.wait()
        for line in report.split(b"\n")[:-1]:
            kind, call_id = line.decode().split()
            (begun if kind == "b" else ended).add(call_id)
        if chance.random() < 0.5:
            ingest.run_once()
    ingest.run_once()
    records = {record.request_id.hex: record.outcome for record in UsageRecord.objects.all()}
    assert ended
    assert {call_id for call_id in ended if records.get(call_id) != "ok"} == set()
    # The last begin and the last end of each life may have been written without having been told.
    assert begun <= records.keys()
    assert len(records.keys() - begun) <= 25
    interrupted = {call_id for call_id, outcome in records.items() if outcome == "interrupted"}
    assert interrupted & ended == set()
    assert len(begun - ended - interrupted) <= 25
    assert segments.segments(journal_dir) == []
    assert not (journal_dir / "quarantine").exists()
