import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "PUBLIC_URL", "ALLOWED_HOSTS", "OPENAI_API_KEY")


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def free_ports() -> Callable[[], tuple[int, int]]:
    """Find two ports that nobody listens on."""
    return two_free_ports


@pytest.fixture
def fresh_env(tmp_path: Path) -> dict[str, str]:
    """The environment of an installation that nothing has been started in."""
    port, web_port = two_free_ports()
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    return env | {"DATA_DIR": str(tmp_path / "data"), "PORT": str(port), "WEB_PORT": str(web_port)}


@pytest.fixture
def manage(fresh_env: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run manage.py as a person would, with what is given of the environment changed."""

    def run(*arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=fresh_env | changed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
