"""From the journal to records: every end becomes a record exactly once, whatever is killed when.

A segment is deleted only after its records are committed and durable. Inserts ignore ids that are there already, so
doing anything twice, or by two processes at once, is harmless.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.db import DataError, Error, IntegrityError, connection, transaction

from keys.models import APIKey, KeyUse
from usage import due, outcomes, segments
from usage.heartbeats import Heartbeat, Pulse
from usage.journal import UNBORN_SUFFIX
from usage.lines import BEGIN_PREFIX, BadLine, Begin, End, encode, interrupted, moment, parse
from usage.models import UsageRecord
from usage.segments import State

logger = logging.getLogger(__name__)

BATCH: Final = 4_000  # records a transaction; on SQLite others wait this long for their turn, about 0.2 s
PAUSE_SECONDS: Final = 0.25
LONGEST_BACK_OFF: Final = 5.0  # seconds
UNBORN_SECONDS: Final = 3600  # a segment without a name for so long was left by a process that died making it
LAST_USED_US: Final = 60_000_000  # KeyUse.last_used_at moves in steps of at least this
_ROWS: Final = 500  # a statement; times the columns it stays below SQLite's 32,766 and PostgreSQL's 65,535 parameters

_FIELDS: Final = (
    "request_id",
    "client",
    "key",
    "provider",
    "model",
    "price",
    "endpoint",
    "model_asked",
    "model_served",
    "admitted_at",
    "settled_at",
    "outcome",
    "status",
    "error_code",
    "stream",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost",
    "charge",
    "estimated",
    "latency_us",
    "first_byte_us",
    "session",
    "session_opened",
    "workflow",
    "execution",
    "env",
    "service_tier",
    "provider_request_id",
)
_BY_NAME: Final = {column.name: column for column in UsageRecord._meta.concrete_fields}
_COLUMNS: Final = ", ".join(f'"{_BY_NAME[name].column}"' for name in _FIELDS)
_LENGTHS: Final = {name: length for name in _FIELDS if (length := _BY_NAME[name].max_length)}

_ADD_TO_KEY: Final = f"""
    UPDATE "{KeyUse._meta.db_table}" SET calls = calls + %s, tokens = tokens + %s, charge = charge + %s,
        last_used_at = CASE WHEN last_used_at > %s THEN last_used_at ELSE %s END,
        last_address = CASE WHEN %s = '' OR last_used_at > %s THEN last_address ELSE %s END,
        last_user_agent = CASE WHEN %s = '' OR last_used_at > %s THEN last_user_agent ELSE %s END
    WHERE key_id = %s
"""  # noqa: S608 - a name of ours


class Ingest:
    """The journal of one directory, drained into the default database. Use one instance from one thread."""

    def __init__(self, journal_dir: Path) -> None:
        self.directory = journal_dir
        self._offsets: dict[str, int] = {}  # how far live segments are read; forgetting it costs only time

    def run_forever(self, stop: threading.Event) -> None:
        """Drain until `stop` is set. While the database or the disk refuses, the journal grows and is tried again."""
        back_off = PAUSE_SECONDS
        pulse = Pulse(Heartbeat.Process.INGEST)
        while not stop.is_set():
            try:
                moved = self.run_once()
                pulse.beat()
            except (Error, OSError) as error:
                logger.warning("Usage stays in the journal, next attempt in %.1f s: %s", back_off, error)
                connection.close()
                stop.wait(back_off)
                back_off = min(2 * back_off, LONGEST_BACK_OFF)
            else:
                back_off = PAUSE_SECONDS
                if moved < BATCH:  # few at a time would cost a durable commit each
                    stop.wait(PAUSE_SECONDS)

    def run_once(self) -> int:
        """Move all that is there; return how many records are new. Raises django.db.Error when the database refuses."""
        self._make_commits_durable()
        self._remove_unborn()
        paths = segments.segments(self.directory)
        names = {path.name for path in paths}
        self._offsets = {name: offset for name, offset in self._offsets.items() if name in names}
        moved = 0
        dead: dict[str, None] = {}
        for path in paths:
            contents = segments.read(path, self._offsets.get(path.name, 0))
            if contents is None:
                continue
            if contents.state is State.DEAD:
                dead[segments.tag(path)] = None
                continue
            ends = [line for line in self._parsed(path, contents.lines, begins=False) if line["k"] == "e"]
            moved += self._store(path, ends)
            if contents.state is State.SEALED:
                path.unlink(missing_ok=True)
            else:
                self._offsets[path.name] = contents.offset
        return moved + sum(self._adopt(tag) for tag in dead)

    def _adopt(self, tag: str) -> int:
        """Store all that a dead process left; calls that it had open become interrupted ones."""
        left = []
        for path in segments.segments(self.directory):
            if segments.tag(path) == tag and (contents := segments.read(path)) is not None:
                if contents.state is State.LIVE:
                    return 0
                left.append((path, contents))
        begins: dict[str, Begin] = {}
        moved = 0
        ended: set[str] = set()
        for path, contents in left:
            ends: list[End] = []
            for line in self._parsed(path, contents.lines, begins=True):
                if line["k"] == "e":
                    ends.append(line)
                elif contents.state is State.DEAD:
                    begins[line["id"]] = line
            ended.update(end["id"] for end in ends)
            moved += self._store(path, ends)
        if left:
            died_us = max(contents.modified_us for _, contents in left)
            cut = [interrupted(begin, died_us) for begin in begins.values() if begin["id"] not in ended]
            moved += self._store(left[-1][0], cut)
        for path, _ in left:
            path.unlink(missing_ok=True)
        return moved

    def _parsed(self, path: Path, lines: list[bytes], *, begins: bool) -> Iterator[Begin | End]:
        for raw in lines:
            if not begins and raw.startswith(BEGIN_PREFIX):
                continue
            try:
                line = parse(raw)
            except BadLine as error:
                self._quarantine(path, raw, str(error))
            else:
                if line is not None:
                    yield line

    def _store(self, path: Path, ends: list[End]) -> int:
        return sum(self._insert_or_part(path, ends[at : at + BATCH]) for at in range(0, len(ends), BATCH))

    def _insert_or_part(self, path: Path, ends: list[End]) -> int:
        """Insert; where the database objects to a row, find it by halving, so that it holds up no other."""
        try:
            return insert(ends)
        except (IntegrityError, DataError) as error:
            if len(ends) == 1:
                self._quarantine(path, encode(ends[0]).rstrip(b"\n"), str(error))
                return 0
        half = len(ends) // 2
        return self._insert_or_part(path, ends[:half]) + self._insert_or_part(path, ends[half:])

    def _quarantine(self, path: Path, raw: bytes, reason: str) -> None:
        """Keep a line that cannot become a record, once, under its segment's name, durable before we go on."""
        logger.error("A line of journal segment %s went to quarantine: %s", path.name, reason)
        folder = self.directory / "quarantine"
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder / path.name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b") as file:
            file.seek(0)
            if raw not in file.read().split(b"\n"):
                file.write(raw + b"\n")
            file.flush()
            os.fsync(fd)

    def _make_commits_durable(self) -> None:
        # A segment must not vanish before the commit that replaces it is on disk; PostgreSQL does that by itself.
        if connection.vendor == "sqlite" and not connection.in_atomic_block:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous = FULL")

    def _remove_unborn(self) -> None:
        for path in self.directory.glob(f"*{UNBORN_SUFFIX}"):
            try:
                if time.time() - path.stat().st_mtime > UNBORN_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                continue


def insert(ends: list[End]) -> int:
    """Insert those not yet there, list them for rollups and add them to their keys' use; return how many were new.

    All in one transaction.
    """
    ends = list({end["id"]: end for end in reversed(ends)}.values())  # of two ends of one call the first holds
    with transaction.atomic():
        new: set[str] = set()
        # The driver's own cursor: with DEBUG on Django's would keep every statement, each of half a megabyte, and
        # turning so many placeholders into SQLite's takes it a tenth of the time.
        row = "(" + ", ".join(["?" if connection.vendor == "sqlite" else "%s"] * len(_FIELDS)) + ")"
        with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
            for at in range(0, len(ends), _ROWS):
                rows = ends[at : at + _ROWS]
                sql = (
                    f'INSERT INTO "{UsageRecord._meta.db_table}" ({_COLUMNS}) VALUES '  # noqa: S608 - names of ours
                    f'{", ".join([row] * len(rows))} ON CONFLICT ("request_id") DO NOTHING RETURNING "request_id"'
                )
                cursor.execute(sql, [value for end in rows for value in _values(end)])
                new.update(id if isinstance(id, str) else id.hex for (id,) in cursor.fetchall())
        fresh = [end for end in ends if end["id"] in new]
        due.put_down((end["id"], moment(end["at"])) for end in fresh)
        _add_to_keys(fresh)
    return len(new)


def _values(end: End) -> tuple[Any, ...]:
    """The row, in the order of _FIELDS."""
    adapt = connection.ops.adapt_datetimefield_value
    return (
        end["id"],
        end["c"],
        end["key"],
        end["p"],
        end["m"],
        end["price"],
        _text(end["ep"], "endpoint"),
        _text(end["ask"], "model_asked"),
        _text(end["srv"], "model_served"),
        adapt(moment(end["at"])),
        adapt(moment(end["end"])),
        end["o"],
        end["status"],
        _text(end["err"], "error_code"),
        bool(end["st"]),
        end["in"],
        end["cached"],
        end["cw"],
        end["out"],
        end["reason"],
        end["ain"],
        end["aout"],
        end["cost"],
        end["charge"],
        bool(end["est"]),
        end["ms"],
        end["ttfb"],
        _text(end["s"], "session"),
        bool(end["so"]),
        _text(end["w"], "workflow"),
        _text(end["x"], "execution"),
        _text(end["env"], "env"),
        _text(end["tier"], "service_tier"),
        _text(end["prid"], "provider_request_id"),
    )


def _text(value: str | None, name: str) -> str:
    """What the column can hold: PostgreSQL takes neither a NUL nor one character too many."""
    return value.replace("\0", "")[: _LENGTHS[name]] if value else ""


def _bounded(value: str, length: int) -> str:
    return value.replace("\0", "")[:length]


@dataclass(slots=True)
class _Use:
    last_us: int = 0
    calls: int = 0
    tokens: int = 0
    charge: int = 0
    address: str = ""
    user_agent: str = ""


def _add_to_keys(ends: list[End]) -> None:
    uses: dict[int, _Use] = {}
    for end in ends:
        if end["key"] is None:
            continue
        use = uses.setdefault(end["key"], _Use())
        if end["at"] >= use.last_us:
            use.last_us = end["at"]
            if end["ip"]:  # unknown where the gateway died during the call
                use.address, use.user_agent = end["ip"], end["ua"] or ""
        if end["o"] in outcomes.COUNTED:
            use.calls += 1
            use.tokens += end["in"] + end["out"]
            use.charge += end["charge"]
    # In the order of ids: two processes that lock several rows must not wait for each other.
    keys = list(APIKey.objects.filter(pk__in=uses).order_by("pk").values_list("pk", flat=True))
    KeyUse.objects.bulk_create([KeyUse(key_id=key) for key in keys], ignore_conflicts=True)
    adapt = connection.ops.adapt_datetimefield_value
    rows = []
    for key in keys:
        use = uses[key]
        last = adapt(moment(use.last_us))
        address = _bounded(use.address, 45)
        agent = _bounded(use.user_agent, 200)
        rows.append(
            (
                *(use.calls, use.tokens, use.charge, adapt(moment(use.last_us - LAST_USED_US)), last),
                *(address, last, address, address, last, agent, key),
            )
        )
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_ADD_TO_KEY, rows)
