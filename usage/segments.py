"""The segments of the journal as others than their writer see them. Reading changes nothing."""

import fcntl
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from usage.journal import SUFFIX
from usage.lines import SEAL

_FIRST_READ: Final = 64 * 1024  # most looks at a live segment find little
_READ: Final = 4 * 1024 * 1024


class State(Enum):
    """Who may still write to a segment, and what its begins mean."""

    LIVE = "live"  # its writer holds it
    SEALED = "sealed"  # complete; calls still open were carried over to the writer's next segment
    DEAD = "dead"  # its writer died, or closed with calls open: begins without an end were interrupted


@dataclass(frozen=True, slots=True)
class Contents:
    """The complete lines of a segment from some offset on, without their newlines."""

    state: State
    lines: list[bytes]
    offset: int  # where the next reading goes on
    modified_us: int  # when the writer last wrote, µs


def segments(directory: Path) -> list[Path]:
    """The segments there, each process's own in the order of their making."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def tag(path: Path) -> str:
    """What tells the segments of one process from those of all others."""
    return path.stem.partition("-")[2]


def read(path: Path, offset: int = 0) -> Contents | None:
    """The lines from `offset` on; None where the segment has gone, which means that its lines are in the database."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # The lock is tried before reading: of a segment that is free by then, everything is read.
        live = not _free(fd)
        data = _written(fd, offset) if live else _whole(fd, offset)
        stat = os.fstat(fd)
        sealed = not live and os.pread(fd, len(SEAL), max(0, stat.st_size - len(SEAL))) == SEAL
    finally:
        os.close(fd)
    end = data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")[:-1]
    if b"\0" in data[:end]:  # a hole that a crash of the machine tore; the lines behind it are as good as any
        lines = [line for line in (line.strip(b"\0") for line in lines) if line]
    state = State.LIVE if live else State.SEALED if sealed else State.DEAD
    return Contents(state, lines, offset + end, stat.st_mtime_ns // 1000)


def _free(fd: int) -> bool:
    # Shared, so that two readers never take each other for the writer.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written(fd: int, offset: int) -> bytes:
    """What a live writer has written: up to the first NUL of the space allocated ahead."""
    parts = []
    size = _FIRST_READ
    while part := os.pread(fd, size, offset):
        head, nul, _ = part.partition(b"\0")
        parts.append(head)
        if nul:
            break
        offset += len(part)
        size = _READ
    return b"".join(parts)


def _whole(fd: int, offset: int) -> bytes:
    parts = []
    while part := os.pread(fd, _READ, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
