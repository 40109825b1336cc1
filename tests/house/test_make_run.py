"""From an empty DATA_DIR to the first answered call, by the four real processes; and back to nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60  # seconds; for a machine that runs other tests beside these

pytestmark = pytest.mark.xdist_group("make_run")  # each start takes all of a small machine


class Installation:
    """`manage.py start` as a child of this test, with what it printed."""

    def __init__(self, env: dict[str, str], output: Path, *arguments: str) -> None:
        self.address = f"http://127.0.0.1:{env['PORT']}"
        self.data_dir = Path(env["DATA_DIR"])
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "start", *arguments],
                cwd=ROOT,
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.wait_until(lambda: "Ctrl-C stops everything." in self.printed or self.process.poll() is not None)

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain; printed:\n{self.printed}"
            time.sleep(0.1)

    def family(self) -> dict[int, str]:
        """Every process of this installation, by pid: what has its DATA_DIR in the environment."""
        mark = f"DATA_DIR={self.data_dir}\0".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    if mark in (folder / "environ").read_bytes() + b"\0":
                        found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue  # ended meanwhile
        return {pid: command for pid, command in found.items() if command}

    def main_process(self, command: str) -> int | None:
        """The oldest process whose command line holds `command`."""
        return min((pid for pid, line in self.family().items() if command in line), default=None)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.address + path, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@pytest.fixture
def start(fresh_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    started: list[Installation] = []

    def run() -> Installation:
        started.append(Installation(fresh_env, tmp_path / f"output-{len(started)}"))
        return started[-1]

    yield run
    for installation in started:
        if installation.process.poll() is None:
            installation.stop(signal.SIGTERM)


def test_first_run_ends_with_a_call_to_copy_and_later_runs_keep_the_secrets(start: Callable[[], Installation]) -> None:
    first = start()
    assert first.printed.rstrip().splitlines()[-1] == "Ctrl-C stops everything."
    command = first.printed[first.printed.index("\ncurl ") :].split("\n\n")[0]
    answer = subprocess.run(["bash", "-c", command + " -s"], capture_output=True, text=True, timeout=30, check=True)
    assert '"chat.completion"' in answer.stdout
    password = re.search(r"^ *password +(\S+)$", first.printed, re.MULTILINE)
    assert password
    with httpx.Client(base_url=first.address, follow_redirects=True) as browser:
        browser.get("/admin/")
        form = {"login": "admin", "password": password[1], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        assert "Back office" in browser.post("/accounts/login/", data=form).text
    modes = {path.name: path.stat().st_mode & 0o077 for path in first.data_dir.rglob("*")}
    assert not any(modes.values()), f"readable by others: {modes}"

    assert first.stop(signal.SIGINT) == 0
    assert first.family() == {}
    kept = "".join(path.read_text(errors="replace") for path in (first.data_dir / "logs").iterdir())
    assert password[1] not in kept

    second = start()
    assert first.address in second.printed
    assert "password  " not in second.printed and "llm_gw_" not in second.printed
    assert second.stop(signal.SIGTERM) == 0
    assert second.family() == {}


def test_a_dead_process_is_started_again_and_leaves_no_orphan(start: Callable[[], Installation]) -> None:
    installation = start()
    for command, path in (
        ("granian", "/accounts/login/"),
        ("celery", "/readyz"),
        ("ingest", "/readyz"),
        ("manage.py gateway", "/readyz"),
    ):
        installation.wait_until(lambda command=command: installation.main_process(command))
        relatives = {pid for pid, line in installation.family().items() if command in line}
        os.kill(installation.main_process(command), signal.SIGKILL)
        installation.wait_until(lambda relatives=relatives: not relatives & installation.family().keys())
        installation.wait_until(lambda command=command: installation.main_process(command))
        installation.wait_until(lambda path=path: installation.answers(path))
    assert installation.printed.count("ended by itself") == 4
    assert installation.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("victim", ["manage.py start", "supervisord"])
def test_nothing_is_left_when_the_head_is_cut_off(start: Callable[[], Installation], victim: str) -> None:
    installation = start()
    os.kill(installation.main_process(victim), signal.SIGKILL)
    installation.wait_until(lambda: installation.family() == {})


@pytest.mark.parametrize(("other_port", "named"), [(False, "PORT"), (True, "DATA_DIR")])
def test_a_second_start_on_the_same_installation_is_refused_in_a_sentence(
    start: Callable[[], Installation],
    fresh_env: dict[str, str],
    free_ports: Callable[[], tuple[int, int]],
    other_port: bool,
    named: str,
) -> None:
    installation = start()
    if other_port:
        port, web_port = free_ports()
        fresh_env |= {"PORT": str(port), "WEB_PORT": str(web_port)}
    second = start()
    assert second.process.wait(DEADLINE) == 1
    assert second.printed.count("\n") == 1
    assert named in second.printed
    assert installation.answers("/readyz")
