"""Two processes that regenerate the same key at the same moment, on a database file of their own."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from keys.tokens import well_formed

ROOT = Path(__file__).resolve().parents[2]


def test_of_many_attempts_at_once_one_makes_a_key(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["DATA_DIR"] = str(tmp_path)

    def manage(*args: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "manage.py"), *args]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    for args in (["migrate", "-v0"], ["createclient", "Acme"]):
        assert manage(*args).wait() == 0
    plain = manage("createkey", "--client", "Acme").communicate()[0].strip()

    attempts = [manage("rotatekey", plain, "--grace", "1h") for _ in range(3)]
    results = [attempt.communicate() for attempt in attempts]

    made = [out.strip() for out, _ in results if out]
    assert len(made) == 1
    assert well_formed(made[0])
    assert [attempt.returncode for attempt in attempts].count(0) == 1
    assert all("already replaced" in err for out, err in results if not out)
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM keys_apikey").fetchone() == (2,)
