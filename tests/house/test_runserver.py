"""`manage.py runserver`: the control plane and /v1 at one address, in one process, gone with Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pytest_django import Settings

from gateway_project.gateway import CannotStart, serve_in_thread

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60  # seconds; for a machine that runs other tests beside these

pytestmark = pytest.mark.xdist_group("make_run")


@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reloading", "noreload"])
def test_everything_at_one_address(fresh_env: dict[str, str], tmp_path: Path, options: tuple[str, ...]) -> None:
    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=fresh_env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    manage("migrate", "--verbosity", "0")
    manage("shell", "--verbosity", "0", "-c", "from pricing.catalogue import install_sandbox; install_sandbox()")
    manage("createclient", "Someone")
    key = manage("createkey", "--client", "Someone")
    port = fresh_env["WEB_PORT"]  # any free one
    output = tmp_path / "output"
    with output.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}", *options],
            cwd=ROOT,
            env=fresh_env | {"PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as caller:
            deadline = time.monotonic() + DEADLINE
            while True:
                try:
                    if caller.get("/readyz").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                assert time.monotonic() < deadline and server.poll() is None, output.read_text()
                time.sleep(0.1)
            assert f"http://127.0.0.1:{port}/" in output.read_text()
            assert caller.get("/accounts/login/").status_code == 200
            answer = caller.post(
                "/v1/chat/completions",
                headers={"Authorization": f"Bearer {key}"},
                json={"model": "sandbox", "messages": [{"role": "user", "content": "Hello"}]},
            )
            assert answer.status_code == 200, answer.text
            count = "from usage.models import UsageRecord; print(UsageRecord.objects.filter(outcome='ok').count())"
            while manage("shell", "--verbosity", "0", "-c", count) != "1":
                assert time.monotonic() < deadline, "the call never became a record"
    finally:
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
        assert server.wait(30) == 0, output.read_text()
    assert "Traceback" not in output.read_text()


def test_whatever_stops_the_start_is_raised(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    settings.TRUSTED_PROXIES = ["no network"]
    for _ in range(2):  # the lock is free again
        with pytest.raises(ValueError, match="no network"):
            serve_in_thread("127.0.0.1", 0, 1)
    settings.JOURNAL_DIR = tmp_path / "gateway.lock" / "journal"
    settings.TRUSTED_PROXIES = []
    with pytest.raises(CannotStart, match="journal"):
        serve_in_thread("127.0.0.1", 0, 1)


def test_migrated_and_empty_is_enough_and_a_second_one_is_refused_in_a_sentence(
    fresh_env: dict[str, str], tmp_path: Path
) -> None:
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=fresh_env, check=True, timeout=60)
    command = [sys.executable, "manage.py", "runserver", "--noreload", fresh_env["PORT"]]
    output = tmp_path / "output"
    with output.open("w") as file:
        first = subprocess.Popen(command, cwd=ROOT, env=fresh_env, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{fresh_env['PORT']}/healthz", timeout=5)
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline and "Traceback" not in output.read_text(), output.read_text()
                time.sleep(0.1)
        second = subprocess.run(
            command, cwd=ROOT, env=fresh_env, capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 1
        assert "DATA_DIR" in second.stderr and "Traceback" not in second.stderr
    finally:
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == 0
