"""The console of `make run`: quiet while all is well, with what went wrong in one readable line each."""

import os
import re
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

import orjson

_CHATTER = {"worker: Warm shutdown (MainProcess)"}  # Celery prints it past its own logging
_LOUD = {"warning", "error", "critical"}
_DIED = re.compile(r"exited: (?P<name>\S+) \((?P<how>[^;]*); (?:not )?expected\)")


class LogFollower:
    """Reads the lines that are added to a log file, over its rotations, from its present end on."""

    def __init__(self, name: str, path: Path) -> None:
        """Follow `path`, which need not be there yet; `name` is whose lines they are."""
        self.name = name
        self._path = path
        self._rest = b""
        self._file: BufferedReader | None = None
        if path.exists():
            self._file = path.open("rb")
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that came since the last call."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open("rb")
        yield from self._read(self._file)
        try:
            rotated = not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return
        if rotated:
            yield from self._read(self._file)  # what came between the read and the rotation
            self._file.close()
            self._file = self._path.open("rb")
            yield from self._read(self._file)

    def _read(self, file: BufferedReader) -> Iterator[str]:
        *whole, self._rest = (self._rest + file.read()).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")


def remarkable(name: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield what an operator should see of `lines`: warnings and worse, and what is no JSON (a traceback)."""
    for line in lines:
        if not line.strip() or line in _CHATTER:
            continue
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield f"{name}: {line}"
            continue
        if not isinstance(entry, dict) or "level" not in entry:
            yield f"{name}: {line}"
        elif entry["level"] in _LOUD:
            yield f"{name}: {entry['level']}: {entry.get('message', line)}"
            if "exception" in entry:
                yield str(entry["exception"])


def deaths(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (process, how) for every process that supervisord's `lines` report as dead without being told to."""
    for line in lines:
        if match := _DIED.search(line):
            yield match["name"], match["how"]
