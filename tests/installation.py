"""A whole installation for tests: its own DATA_DIR, real `gateway` and `ingest` processes, and ways to look inside."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
OURS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "PUBLIC_URL", "ALLOWED_HOSTS", "OPENAI_API_KEY")

# Runs inside Django, in a process with the installation's environment: takes Python source lines by the length, gives
# back what the source left in `result`.
_DJANGO_SIDE = """
import json, os, sys, traceback, django
os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
django.setup()
while header := sys.stdin.readline():
    source = sys.stdin.read(int(header))
    scope = {}
    try:
        exec(source, scope)
        answer = {"result": scope.get("result")}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer, default=str), flush=True)
"""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 15.0, what: str = "condition") -> Any:
    """Wait until `condition` gives something true, and return that; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} not met within {seconds} s"
        time.sleep(0.02)


@cache
def _migrated() -> Path:
    """A DATA_DIR with an empty, migrated database, made once per test process and copied for each installation."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-template-"))
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=_environment(folder), check=True)
    return folder


def _environment(data_dir: Path, **changed: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    return env | {"DATA_DIR": str(data_dir), "ALLOW_PRIVATE_PROVIDERS": "1"} | changed


class Installation:
    """One DATA_DIR and its processes. Use as a context manager; everything it started ends with it."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        shutil.copytree(_migrated(), data_dir, dirs_exist_ok=True)
        self.data_dir = data_dir
        self.port = free_port()
        self.env = _environment(data_dir, PORT=str(self.port), WEB_PORT=str(free_port()), **environment)
        self.gateway: subprocess.Popen[bytes] | None = None
        self.ingest: subprocess.Popen[bytes] | None = None
        self._django: subprocess.Popen[str] | None = None
        self.sandbox()

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *args: object) -> None:
        for process in (self.gateway, self.ingest, self._django):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://127.0.0.1:{self.port}"

    # --- inside Django ---

    def python(self, source: str) -> Any:
        """Run `source` in Django and return what it leaves in `result` (by way of JSON)."""
        if self._django is None:
            self._django = subprocess.Popen(
                [sys.executable, "-c", _DJANGO_SIDE],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._django.stdin is not None
        assert self._django.stdout is not None
        self._django.stdin.write(f"{len(source)}\n{source}")
        self._django.stdin.flush()
        answer = json.loads(self._django.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def manage(self, *arguments: str) -> str:
        """Run manage.py as a person would; returns its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sandbox(self) -> None:
        """Install the sandbox provider."""
        self.python("from pricing.catalogue import install_sandbox; install_sandbox()")

    def provider(
        self,
        base_url: str,
        models: dict[str, dict[str, int] | None],
        *,
        name: str = "stub",
        credential: str = "sk-provider-canary-0123456789",
        upstream_names: dict[str, str] | None = None,
        **timeouts: int,
    ) -> int:
        """A provider with models; each has rates in picodollars per token, or None: free."""
        return int(
            self.python(
                f"""
from datetime import UTC, datetime
from pricing.models import Model, Price, Provider
provider = Provider(name={name!r}, kind="openai", base_url={base_url!r}, **{timeouts!r})
provider.set_credential({credential!r})
provider.full_clean()
provider.save()
for model_name, rates in {models!r}.items():
    upstream = {(upstream_names or {})!r}.get(model_name, "")
    model = Model.objects.create(name=model_name, provider=provider, free=rates is None, upstream_name=upstream)
    if rates:
        Price.objects.create(model=model, effective_from=datetime(2026, 1, 1, tzinfo=UTC), **rates)
result = provider.id
"""
            )
        )

    def client(self, name: str, *limits: str, **profile: Any) -> int:
        """A client with limits such as "requests=100/day"; returns its id."""
        return int(
            self.python(
                f"""
from clients.onboarding import create_client
result = create_client({name!r}, limits={list(limits)!r}, **{profile!r}).id
"""
            )
        )

    def key(self, client: str, **options: Any) -> str:
        """A new key of the client; returns its text."""
        return str(
            self.python(
                f"""
from clients.models import Client
from keys.lifecycle import issue
result = issue(Client.objects.get(name={client!r}), **{options!r})[1]
"""
            )
        )

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run SQL straight on the database file."""
        with sqlite3.connect(self.data_dir / "gateway.sqlite3", timeout=20) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters).fetchall()]

    def records(self) -> list[dict[str, Any]]:
        """All usage records, oldest first, with names of columns."""
        return self.sql("SELECT * FROM usage_usagerecord ORDER BY admitted_at")

    # --- processes ---

    def start(self, *, ingest: bool = True) -> "Installation":
        """Start gateway (and ingest), and wait until the gateway is ready."""
        self.start_gateway()
        if ingest:
            self.start_ingest()
        return self

    def start_gateway(self, *, wait: bool = True) -> "subprocess.Popen[bytes]":
        """Start the gateway process."""
        with (self.data_dir / "gateway.log").open("ab") as output:
            self.gateway = subprocess.Popen(
                [sys.executable, "manage.py", "gateway"], cwd=ROOT, env=self.env, stdout=output, stderr=output
            )
        if wait:
            until(self.is_ready, 30, "gateway ready")
        return self.gateway

    def is_ready(self) -> bool:
        """Whether /readyz says yes."""
        assert self.gateway is not None
        assert self.gateway.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def start_ingest(self) -> None:
        """Start the ingest process."""
        with (self.data_dir / "ingest.log").open("ab") as output:
            self.ingest = subprocess.Popen(
                [sys.executable, "manage.py", "ingest"], cwd=ROOT, env=self.env, stdout=output, stderr=output
            )

    def stop_gateway(self, signum: int = signal.SIGTERM, seconds: float = 60) -> int:
        """End the gateway with a signal; returns its exit status."""
        assert self.gateway is not None
        self.gateway.send_signal(signum)
        return self.gateway.wait(seconds)

    def log(self) -> str:
        """What the gateway has printed."""
        return (self.data_dir / "gateway.log").read_text()

    def recorded(self, count: int, seconds: float = 20) -> list[dict[str, Any]]:
        """Wait until at least `count` records are there, and return all."""
        return list(until(lambda: len(rows := self.records()) >= count and rows, seconds, f"{count} records"))

    def metric(self, name: str) -> float:
        """Sum of a metric over all its labels."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)
