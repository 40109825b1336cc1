"""The journal as the gateway writes it: every call's begin and end, on disk before anybody relies on them.

Synchronous, for one thread (the event loop); only `sync` may run in another. It must not touch a database.

Each process writes its own segments: files allocated whole, so that a full disk is met when one is made and not when a
call ends. The writer holds an exclusive flock on a segment until it has sealed it; a segment that is neither locked
nor sealed belongs to a dead process. `usage.segments` reads them.
"""

import fcntl
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from usage.lines import SEAL, opening_session

logger = logging.getLogger(__name__)

SUFFIX: Final = ".journal"
UNBORN_SUFFIX: Final = ".unborn"  # a segment whose writer has not locked and filled it yet
SEGMENT_BYTES: Final = 16 * 1024 * 1024
SEGMENT_US: Final = 10_000_000  # a segment with lines is sealed at this age, so that ingest can delete it
RETRY_US: Final = 1_000_000  # between attempts to make a segment on a disk that is full
END_ROOM: Final = 1536  # how many bytes an end may be longer than its begin and still be certain of its place


class JournalUnavailable(Exception):
    """The call cannot be put on record, so it must not be made."""


@dataclass(slots=True)
class _Segment:
    path: Path
    fd: int
    size: int
    offset: int


class Journal:
    """The segments of this process. Use: `open`, then `begin` and `end` (or `refused`) per call, `close` last.

    `clock` gives µs; it may jump either way. Call `tick` each second on the same thread, and `sync` every
    `fsync_seconds` from a thread: what was written survives the death of the process at once, that of the machine
    only after `sync`.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], int],
        segment_bytes: int = SEGMENT_BYTES,
        fsync_seconds: float = 1.0,
    ) -> None:
        self.directory = directory
        self.fsync_seconds = fsync_seconds
        self.tag = f"{os.getpid()}-{secrets.token_hex(4)}"  # tells this process's segments from all others, for ever
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._sequence = 0
        self._fd = -1
        self._offset = 0
        self._limit = 0  # the segment's size less its seal
        self._segment: _Segment | None = None
        self._since: int | None = None  # when this segment got its first line, µs
        self._failed_at: int | None = None  # when a segment could last not be made, µs
        self._write_failed = False  # no write has succeeded since one failed
        self._open: dict[str, bytes] = {}  # id -> begin line
        self._reserved = 0  # bytes kept for the ends of the open calls: offset + reserved <= limit, always
        self._unwritten: deque[tuple[str, bytes]] = deque()
        self._unsealed: list[_Segment] = []
        self._retired: deque[int] = deque()  # sealed and unlocked; `sync` makes them durable and closes them
        self._new_names: deque[str] = deque()  # not durable in the directory yet
        self._sync_lock = threading.Lock()

    @property
    def open_calls(self) -> int:
        """Calls begun whose end has not been given."""
        return len(self._open) - len(self._unwritten)

    @property
    def unwritten(self) -> int:
        """Ends that could not be written and are kept in memory; anything but 0 deserves an alert."""
        return len(self._unwritten)

    @property
    def failing(self) -> bool:
        """Whether the last write or the last attempt to make a segment failed: calls are refused, or soon will be."""
        return self._write_failed or self._failed_at is not None

    def open(self) -> None:
        """Make the directory and the first segment. OSError when that fails: the gateway must not start."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = [path.name.split("-")[0] for path in self.directory.glob(f"*{SUFFIX}")]
        self._sequence = max((int(number) for number in numbers if number.isdigit()), default=0)
        self._rotate(0)

    def begin(self, call_id: str, line: bytes) -> None:
        """Put an admitted call on record. JournalUnavailable unless it and the ends of all open calls have a place."""
        size = len(line)
        now = self._clock()
        since = self._since
        if since is None:
            self._since = now
        elif not 0 <= now - since < SEGMENT_US:
            self._turn(now)
        if self._unwritten:
            self._write_unwritten()
            if self._unwritten:
                raise JournalUnavailable("ends of earlier calls cannot be written")
        needed = 2 * size + END_ROOM
        if self._offset + self._reserved + needed > self._limit:
            self._make_room(needed)
        self._append(line)
        self._open[call_id] = line
        self._reserved += size + END_ROOM

    def end(self, call_id: str, line: bytes) -> None:
        """Put the end of a call on record. Never raises: what cannot be written is kept and tried again."""
        begun = self._open.get(call_id)
        room = 0 if begun is None else len(begun) + END_ROOM
        try:
            if len(line) > room and self._offset + self._reserved - room + len(line) > self._limit:
                self._make_room(len(line))
            self._append(line)
        except JournalUnavailable:
            logger.exception("The end of call %s could not be written; it is kept in memory", call_id)
            self._unwritten.append((call_id, line))
            if begun is None:
                self._open[call_id] = b""
                self._reserved += END_ROOM
            return
        if begun is not None:
            del self._open[call_id]
            self._reserved -= room

    def take_session(self, call_id: str) -> None:
        """Note that an open call now is the one that its session is counted for, should this process die. Never raises.

        The call that was it before has given it up; readers hold to the last of a call's begins.
        """
        line = self._open.get(call_id)
        if not line:
            return
        self._open[call_id] = line = opening_session(line)
        try:
            if self._offset + self._reserved + len(line) > self._limit:
                self._make_room(0)  # which carries it over
            else:
                self._append(line)
        except JournalUnavailable:
            logger.exception("That call %s opens a session could not be written; its end will tell", call_id)

    def refused(self, line: bytes) -> None:
        """Put a call on record that never began. JournalUnavailable when there is no place beside the open calls."""
        if self._since is None:
            self._since = self._clock()
        if self._offset + self._reserved + len(line) > self._limit:
            self._make_room(len(line))
        self._append(line)

    def tick(self) -> None:
        """Once a second: retry what could not be written, seal a segment that has come of age."""
        if self._unwritten:
            self._write_unwritten()
        elif self._write_failed:
            self._try_writing()
        self._seal_left_overs()
        if self._since is not None:
            self._turn(self._clock())

    def sync(self) -> None:
        """Make all lines durable. Takes milliseconds: call it from a thread. OSError when the disk fails."""
        with self._sync_lock:
            while self._new_names:
                directory = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    names = len(self._new_names)
                    os.fsync(directory)
                    for _ in range(names):
                        self._new_names.popleft()
                finally:
                    os.close(directory)
            current = self._fd
            while self._retired:
                retired = self._retired.popleft()
                try:
                    os.fsync(retired)
                finally:
                    os.close(retired)
            if current >= 0 and self._fd == current:
                os.fsync(current)

    def close(self) -> None:
        """Write what is left and seal the segment; left unsealed when calls are still open, which get interrupted."""
        if self._segment is None:
            return
        self._write_unwritten()
        if self._unwritten:
            logger.error("%d ends of calls are lost to a journal that cannot be written", len(self._unwritten))
        self._seal_left_overs()
        segment = self._current()
        with self._sync_lock:
            self._fd = -1
        self._segment = None
        if self._open or not self._seal(segment):
            self._retired.append(segment.fd)
            fcntl.flock(segment.fd, fcntl.LOCK_UN)
        for unsealed in self._unsealed:
            self._retired.append(unsealed.fd)
        self.sync()

    def _append(self, line: bytes) -> None:
        # A line cut short stays beyond the offset, without a newline: readers pass it over, the next line covers it.
        try:
            written = os.pwrite(self._fd, line, self._offset)
            while written < len(line):
                more = os.pwrite(self._fd, line[written:], self._offset + written)
                if more == 0:
                    raise OSError("the journal takes no more bytes")
                written += more
        except OSError as error:
            self._write_failed = True
            raise JournalUnavailable(str(error)) from error
        self._write_failed = False
        self._offset += written

    def _try_writing(self) -> None:
        """See whether the disk takes writes again: who asks for readiness first sends no call that would show it."""
        try:
            os.pwrite(self._fd, b"\0", self._offset)  # before it is written, the place of the next line holds NULs
        except OSError:
            return
        self._write_failed = False

    def _turn(self, now: int) -> None:
        since = self._since
        if since is None or now < since:
            self._since = now
        elif now - since >= SEGMENT_US and self._may_try(now):
            try:
                self._rotate(0)
            except OSError as error:
                self._note_failure(now, error)

    def _may_try(self, now: int) -> bool:
        return self._failed_at is None or abs(now - self._failed_at) >= RETRY_US

    def _note_failure(self, now: int, error: OSError) -> None:
        self._failed_at = now
        logger.error("A journal segment cannot be made in %s: %s", self.directory, error)

    def _make_room(self, needed: int) -> None:
        now = self._clock()
        if not self._may_try(now):
            raise JournalUnavailable("no segment can be made")
        try:
            self._rotate(needed)
        except OSError as error:
            self._note_failure(now, error)
            raise JournalUnavailable(f"no segment can be made: {error}") from error

    def _rotate(self, needed: int) -> None:
        """Go on in a new segment with room for `needed` bytes, carrying the begins of all open calls over."""
        carried = b"".join(self._open.values())
        least = len(carried) + self._reserved + needed + len(SEAL)
        # Twice the least, or a crowd of open calls would make the next rotation follow at once.
        fresh = self._create(carried, max(self._segment_bytes, 2 * least))
        old = self._segment and self._current()
        self._segment = fresh
        self._fd = fresh.fd
        self._offset = fresh.offset
        self._limit = fresh.size - len(SEAL)
        self._since = self._clock() if carried else None
        self._failed_at = None
        self._new_names.append(fresh.path.name)
        if old is not None and not self._seal(old):
            self._unsealed.append(old)

    def _create(self, content: bytes, size: int) -> _Segment:
        """A locked segment of `size` bytes that begins with `content`; it gets its name only when it is whole."""
        self._sequence += 1
        path = self.directory / f"{self._sequence:012d}-{self.tag}{SUFFIX}"
        unborn = path.with_suffix(UNBORN_SUFFIX)
        fd = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(fd, 0, size)
            written = 0
            while written < len(content):
                written += os.pwrite(fd, content[written:], written)
            unborn.rename(path)
        except OSError:
            os.close(fd)
            unborn.unlink(missing_ok=True)
            raise
        return _Segment(path, fd, size, len(content))

    def _current(self) -> _Segment:
        if self._segment is None:
            raise JournalUnavailable("the journal is not open")
        self._segment.offset = self._offset
        return self._segment

    def _seal(self, segment: _Segment) -> bool:
        """Seal, cut to length and unlock. False on an error: it stays locked, so that nobody takes us for dead."""
        try:
            if os.pwrite(segment.fd, SEAL, segment.offset) < len(SEAL):
                return False
            os.ftruncate(segment.fd, segment.offset + len(SEAL))
            fcntl.flock(segment.fd, fcntl.LOCK_UN)
        except OSError as error:
            logger.error("Journal segment %s cannot be sealed: %s", segment.path.name, error)
            return False
        self._retired.append(segment.fd)
        return True

    def _seal_left_overs(self) -> None:
        self._unsealed = [segment for segment in self._unsealed if not self._seal(segment)]

    def _write_unwritten(self) -> None:
        for _ in range(len(self._unwritten)):
            call_id, line = self._unwritten[0]
            begun = self._open.get(call_id)
            room = 0 if begun is None else len(begun) + END_ROOM
            try:
                if len(line) > room and self._offset + self._reserved - room + len(line) > self._limit:
                    self._make_room(len(line))
                self._append(line)
            except JournalUnavailable:
                return
            self._unwritten.popleft()
            if begun is not None:
                del self._open[call_id]
                self._reserved -= room
