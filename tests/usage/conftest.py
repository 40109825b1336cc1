"""Calls as lines of the journal, and a database in a file for tests that need processes of their own."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from usage.journal import Journal
from usage.lines import Begin, End, encode

NOW = 1_763_900_000_000_000
ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """µs that only a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class Calls:
    """Makes begins and ends; every argument overrides a field."""

    def begin(self, **fields: object) -> Begin:
        line = {
            "k": "b", "id": uuid.uuid4().hex, "at": NOW, "c": 1, "key": None, "p": 1, "m": 1, "ep": "chat.completions",
            "ask": "gpt-4o-mini", "price": 1, "in": 100, "out": 50, "cost": 1000, "charge": 1500, "st": 0, "s": None,
            "w": None, "x": None, "env": None, "so": 0,
        }  # fmt: skip
        return line | fields  # type: ignore[return-value,operator]

    def end(self, begin: Begin | None = None, **fields: object) -> End:
        line = {
            **(begin or self.begin()), "k": "e", "srv": "gpt-4o-mini-2024-07-18", "in": 90, "cached": 0, "cw": 0,
            "out": 10, "reason": 0, "ain": 0, "aout": 0, "cost": 700, "charge": 1050, "est": 0, "o": "ok",
            "status": 200, "err": None, "ms": 1200, "ttfb": 300, "tier": None, "end": NOW + 1200, "prid": None,
            "ip": None, "ua": None,
        }  # fmt: skip
        return line | fields  # type: ignore[return-value,operator]

    def write(self, journal: Journal, **fields: object) -> End:
        """A call begun and ended in the journal."""
        begin = self.begin(**{name: value for name, value in fields.items() if name in self.begin()})
        end = self.end(begin, **fields)
        journal.begin(begin["id"], encode(begin))
        journal.end(end["id"], encode(end))
        return end


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def open_journal(journal_dir: Path, clock: Clock) -> Iterator[Callable[..., Journal]]:
    """Open a journal in `journal_dir`; small segments unless told otherwise."""
    opened: list[Journal] = []

    def make(segment_bytes: int = 64 * 1024, directory: Path | None = None) -> Journal:
        journal = Journal(directory or journal_dir, clock, segment_bytes=segment_bytes)
        journal.open()
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


@dataclass
class Installation:
    """A DATA_DIR with a migrated SQLite database, used by processes of its own."""

    data_dir: Path

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "journal"

    @property
    def database(self) -> Path:
        return self.data_dir / "gateway.sqlite3"

    def start(self, *command: str) -> "subprocess.Popen[str]":
        env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=env | {"DATA_DIR": str(self.data_dir), "DJANGO_SETTINGS_MODULE": "gateway_project.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installation = Installation(tmp_path_factory.mktemp("migrated"))
    process = installation.start("manage.py", "migrate", "--verbosity", "0")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return installation.data_dir


@pytest.fixture
def installation(migrated: Path, tmp_path: Path) -> Installation:
    return Installation(Path(shutil.copytree(migrated, tmp_path / "data")))
