"""The secrets of an installation that sets none: made once, whole, and readable by their owner alone."""

import stat
import subprocess
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from gateway_project.secrets import load_or_create


def test_made_once_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secrets.env"
    first = load_or_create(path)
    assert load_or_create(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    Fernet(first["ENCRYPTION_KEYS"])
    assert len(first["SECRET_KEY"]) >= 50


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from gateway_project.secrets import load_or_create;"
        "sys.stdin.readline(); print(load_or_create(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "secrets.env")]
    racers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(8)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = {racer.communicate(timeout=30)[0] for racer in racers}
    assert len(answers) == 1
    assert "ENCRYPTION_KEYS" in answers.pop()
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.env"]
