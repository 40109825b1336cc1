"""One JSON line a call, for the operator's log: who, what, how it ended, what it cost; never what was said."""

import asyncio
import os

import orjson

from proxy.directory import Grant, Route
from usage.lines import End

FLUSH_SECONDS = 0.2
MAX_HELD = 8 * 1024 * 1024  # a log that nobody takes must not fill the memory; what is dropped is counted


class CallLog:
    """Collects lines and writes them from a thread, since a full pipe would block the event loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._held = 0
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(self, end: End, grant: Grant, route: Route | None) -> None:
        """Log the end of one call."""
        line = orjson.dumps(
            {
                "ts": end["end"] / 1_000_000,
                "level": "info",
                "event": "call",
                "request_id": end["id"],
                "client": grant.client.name,
                "key": grant.hint,
                "endpoint": end["ep"],
                "model": end["ask"],
                "provider": None if route is None else route.provider.name,
                "stream": bool(end["st"]),
                "status": end["status"],
                "outcome": end["o"],
                "code": end["err"],
                "input_tokens": end["in"],
                "output_tokens": end["out"],
                "estimated": bool(end["est"]),
                "cost_picodollars": end["cost"],
                "charge_picodollars": end["charge"],
                "latency_us": end["ms"],
                "first_byte_us": end["ttfb"],
                "upstream_request_id": end["prid"],
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        if self._held > MAX_HELD:
            self.dropped += 1
            return
        self._lines.append(line)
        self._held += len(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
            return
        lines = self._take()
        self._writing = True
        writing = asyncio.get_running_loop().run_in_executor(None, _write_all, self._fd, b"".join(lines))
        writing.add_done_callback(lambda done: self._written(done, len(lines)))

    def _written(self, future: asyncio.Future[None], lines: int) -> None:
        self._writing = False
        if future.exception() is not None:  # a closed pipe, a full disk: there is nobody left to tell
            self.dropped += lines

    def _take(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        self._held = 0
        return lines

    def close(self) -> None:
        """Write what is left, now."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            _write_all(self._fd, b"".join(self._take()))
        except OSError:
            self.dropped += 1


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
