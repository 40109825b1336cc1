"""A second gateway on the same embedded DATA_DIR is refused in one sentence, and the first is none the worse."""

import subprocess
import sys
from collections.abc import Callable

from tests.callers import account
from tests.installation import ROOT, Installation, free_port


def test_refused_in_one_sentence(install: Callable[..., Installation]) -> None:
    installation = install().start(ingest=False)
    caller = account(installation)
    assert caller.call().status == 200
    second = subprocess.run(
        [sys.executable, "manage.py", "gateway"],
        cwd=ROOT,
        env=installation.env | {"PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    message = second.stderr.strip()
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message
    assert "Another gateway is running" in message
    assert str(installation.data_dir) in message
    assert caller.call().status == 200
    assert installation.is_ready()


def test_after_a_kill_the_next_one_starts_at_once(install: Callable[..., Installation]) -> None:
    installation = install().start(ingest=False)
    installation.stop_gateway(9)
    installation.start_gateway()
    assert account(installation).call().status == 200
