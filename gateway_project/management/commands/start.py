"""`make run`: from an empty folder to the first answered call, and all processes until it is told to stop."""

import argparse
import os
import signal
import subprocess
import time
from collections import Counter
from typing import Any

import httpx
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils import timezone

from gateway_project.console import LogFollower, deaths, remarkable
from gateway_project.demo.fill import DAYS, fill, is_filled
from gateway_project.first_run import Welcome, banner, prepare
from gateway_project.preflight import check_environment, hold_data_dir
from gateway_project.processes import log_file, programs, stop_seconds, supervise

POLL_SECONDS = 0.2
IMPATIENT_SECONDS = 60  # a start that takes longer says so
HOPELESS_DEATHS = 3  # of one process, before all were ready once: it will not come up by another try


class Command(BaseCommand):
    """Check the settings, bring the database up to date, start the four processes, say where they are."""

    help = "Starts everything: migrates, prepares a first run, runs gateway, web, ingest and worker until stopped."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take an option for containers, and one for `make demo`."""
        parser.add_argument("--logs", action="store_true", help="print every log line of the four processes")
        parser.add_argument(
            "--demo", action="store_true", help="at first, fill the installation with made-up clients and their usage"
        )

    def handle(self, *args: Any, logs: bool, demo: bool, **options: Any) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP, then stop all and return."""
        self.stopping = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        os.umask(0o077)  # what the processes write is for this user alone
        check_environment()
        lock = hold_data_dir()
        self._say("Preparing the database ...")
        call_command("migrate", verbosity=0, interactive=False)
        welcome = self._demo() if demo else prepare()
        self.programs = programs()
        self.followers = [LogFollower(program.name, log_file(program.name)) for program in self.programs]
        self.supervisor_log = LogFollower("supervisor", log_file("supervisor"))
        self.show_all = logs
        self._say("Starting gateway, web, ingest and worker ...")
        supervisor = supervise(self.programs)
        try:
            if self._became_ready(supervisor, welcome):
                while not self.stopping and supervisor.poll() is None:
                    self._relay_logs()
                    time.sleep(POLL_SECONDS)
        finally:
            self._say("Stopping ...")
            self._end(supervisor)
            lock.close()
        if not self.stopping:
            raise ImproperlyConfigured(f"The supervisor ended by itself; {log_file('supervisor')} may say why.")

    def _demo(self) -> Welcome | None:
        """Prepare as ever, where that is to be done with a dozen clients and what they used."""
        if is_filled():
            return prepare()
        self._say(f"Making {DAYS} days of usage ...")
        return fill(timezone.now()).welcome

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _became_ready(self, supervisor: "subprocess.Popen[bytes]", welcome: Welcome | None) -> bool:
        """Wait until a call would be answered, then print where; the secrets of a first run are printed in any case."""
        deadline: float | None = time.monotonic() + IMPATIENT_SECONDS
        died: Counter[str] = Counter()
        try:
            while not self.stopping and supervisor.poll() is None:
                died.update(self._relay_logs())
                hopeless = [name for name, times in died.items() if times >= HOPELESS_DEATHS]
                if hopeless:
                    raise ImproperlyConfigured(
                        f"{hopeless[0]} does not start; what it said last is above and in {log_file(hopeless[0])}."
                    )
                if _answers("/readyz") and _answers("/accounts/login/"):
                    return True
                if deadline and time.monotonic() > deadline:
                    self._say(
                        f"Not ready after {IMPATIENT_SECONDS} s, still trying; logs: {log_file('gateway').parent}"
                    )
                    deadline = None
                time.sleep(POLL_SECONDS)
            return False
        finally:
            self._relay_logs()
            self._say(banner(_address(), welcome))

    def _relay_logs(self) -> list[str]:
        """Print what the processes logged, as far as it is wanted here; return who died meanwhile."""
        for follower in self.followers:
            lines = list(follower.lines())
            for line in lines if self.show_all else remarkable(follower.name, lines):
                self._say(line)
        dead = []
        for name, how in deaths(self.supervisor_log.lines()):
            self._say(f"{name} ended by itself ({how}) and is started again.")
            dead.append(name)
        return dead

    def _end(self, supervisor: "subprocess.Popen[bytes]") -> None:
        supervisor.terminate()
        deadline = time.monotonic() + stop_seconds(self.programs)
        while supervisor.poll() is None and time.monotonic() < deadline:
            self._relay_logs()
            time.sleep(POLL_SECONDS)
        self._relay_logs()
        supervisor.kill()


def _address() -> str:
    return settings.PUBLIC_URL or _local_address()


def _local_address() -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.HOST, settings.HOST)  # noqa: S104 - recognised, not bound
    return f"http://{host}:{settings.PORT}"


def _answers(path: str) -> bool:
    try:
        return httpx.get(_local_address() + path, timeout=2).status_code < 400
    except httpx.HTTPError:
        return False
