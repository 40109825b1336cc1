"""Logs are one JSON object a line; the console of `make run` shows what matters of them, over every rotation."""

import json
import logging
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway_project.console import LogFollower, deaths, remarkable
from gateway_project.logs import JSONFormatter


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.INFO, "f.py", 1, message, (), None, extra=extra)


@given(st.text(), st.dictionaries(st.sampled_from(["request_id", "client", "status"]), st.text() | st.integers(0, 999)))
def test_one_line_whatever_is_in_it(message: str, extra: dict[str, object]) -> None:
    line = JSONFormatter().format(record(message, **extra))
    assert "\n" not in line and "\r" not in line
    entry = json.loads(line)
    assert entry["message"] == message
    assert {name: entry[name] for name in extra} == extra


def test_what_json_cannot_hold_does_not_lose_the_line() -> None:
    line = JSONFormatter().format(
        record("half a \ud800 pair", path=Path("/x"), huge=2**80, raw=b"\xff", odd={1: object()})
    )
    assert json.loads(line)["path"] == "/x"


def test_a_traceback_stays_on_the_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        entry = record("failed")
        entry.exc_info = (ValueError, error, error.__traceback__)
    line = JSONFormatter().format(entry)
    assert "\n" not in line
    assert "ValueError: two\nlines" in json.loads(line)["exception"]


def test_the_follower_misses_and_repeats_nothing_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_text("of an earlier run\n")
    follower = LogFollower("web", path)
    seen: list[str] = []
    file = path.open("a")
    for number in range(100):
        file.write(f"line {number} be")
        file.flush()
        if number % 3 == 0:
            seen += follower.lines()
        file.write("ginning and end\n")
        file.flush()
        if number % 10 == 9:  # as supervisord rotates: the old file is renamed, a new one opened
            file.close()
            path.rename(tmp_path / "web.log.1")
            file = path.open("a")
            seen += follower.lines()
    file.close()
    seen += follower.lines()
    assert seen == [f"line {number} beginning and end" for number in range(100)]


def test_the_console_shows_warnings_and_what_is_no_log_line() -> None:
    lines = [
        '{"level": "info", "message": "a call"}',
        '{"level": "error", "message": "provider refused our key"}',
        '{"level": "warning", "event": "call"}',
        "",
        "Traceback (most recent call last):",
        "[1, 2]",
    ]
    assert list(remarkable("gateway", lines)) == [
        "gateway: error: provider refused our key",
        'gateway: warning: {"level": "warning", "event": "call"}',
        "gateway: Traceback (most recent call last):",
        "gateway: [1, 2]",
    ]


def test_who_died() -> None:
    lines = [
        "2026-11-23 18:46:21,906 WARN exited: worker (terminated by SIGKILL; not expected)",
        "2026-11-23 18:46:21,907 INFO exited: web (exit status 0; expected)",
        "2026-11-23 18:46:29,403 INFO stopped: gateway (exit status 0)",
    ]
    assert list(deaths(lines)) == [("worker", "terminated by SIGKILL"), ("web", "exit status 0")]
