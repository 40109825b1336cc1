"""What stands on the machine while it is measured: stubs, nginx, the bare relay, the gateway and its neighbours."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.cases import ANSWER
from bench.processes import ROOT, DidNotStart, Processes, Running, free_port, program, python, start_nginx

# On the machine's real load and provider would be elsewhere: they must not wait for what is measured.
ELSEWHERE_NICE = -10


@dataclass(slots=True)
class Drain:
    """What `ingest --once` did with a backlog; the start of the process is told apart."""

    records: int = 0
    seconds: float = 0.0
    cpu: float = 0.0


class House:
    """Starts the parts when asked. `left` is the core of what is measured, `right` that of load and stubs."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        cores = sorted(os.sched_getaffinity(0))
        self.left, self.right = cores[0], cores[-1]
        self.both = {self.left, self.right}
        self.nginx = program("nginx") is not None
        self.wrk = program("wrk")
        self.drained = Drain()
        self._ingest_start: tuple[float, float] | None = None
        self.env = {
            "DATA_DIR": str(folder / "data"),
            "ALLOW_PRIVATE_PROVIDERS": "1",
            "ALLOWED_HOSTS": "127.0.0.1",
            "WEB_PORT": str(free_port()),
            "DRAIN_SECONDS": "2",
        }
        self.stream_stub = self._stub("stream-stub")
        if self.nginx:
            self.stub = start_nginx(processes, "json-stub", cores={self.right}, answer=ANSWER, nice=ELSEWHERE_NICE)
        else:
            self.stub = self.stream_stub
        ports = ["--stub", str(self.stub.port), "--stream-stub", str(self.stream_stub.port)]
        done = subprocess.run(
            python("-m", "bench.prepare", *ports),
            env=os.environ | self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        made = json.loads(done.stdout)
        self.key, self.spent_key, self.wrong_key = made["key"], made["spent_key"], made["wrong_key"]
        self.session: str = made["session"]

    def _stub(self, name: str) -> Running:
        command = python("-m", "tests.stub.provider", "--port", "0")
        return self.processes.start(name, command, cores={self.right}, port_from_output=True, nice=ELSEWHERE_NICE)

    def proxy(self) -> Running:
        """Nginx that passes everything on to the stub."""
        return start_nginx(self.processes, "nginx-proxy", cores={self.left}, upstream=self.stub.port)

    def relay(self, upstream: Running, name: str) -> Running:
        """The bare relay towards a stub."""
        command = python("-m", "bench.relay", "--upstream", str(upstream.port))
        return self.processes.start(name, command, cores={self.left}, port_from_output=True)

    def gateway(self, *, both_cores: bool = False) -> Running:
        """The gateway, everything on, ready to serve."""
        port = free_port()
        cores = self.both if both_cores else {self.left}
        command = python("manage.py", "gateway")
        process = self.processes.start("gateway", command, cores=cores, env=self.env | {"PORT": str(port)}, port=port)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return process
            time.sleep(0.1)
        raise DidNotStart("the gateway was not ready within 60 s")

    def web(self) -> Running:
        """The back office, as the supervisor runs it."""
        port = int(self.env["WEB_PORT"])
        command = python("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port))
        command += ["--workers", "1", "--blocking-threads", "4", "gateway_project.web:application"]
        return self.processes.start("web", command, cores=self.both, env=self.env, port=port)

    def ingest(self, *, cores: set[int]) -> Running:
        """The ingest process, running on."""
        return self.processes.start("ingest", python("manage.py", "ingest"), cores=cores, env=self.env)

    def drain(self) -> Drain:
        """Move the journal's backlog into records, on the load's core; the process's own start is not counted."""
        if self._ingest_start is None:
            self._run_ingest()  # what was there
            _, seconds, cpu = self._run_ingest()
            self._ingest_start = seconds, cpu
            return Drain()
        records, seconds, cpu = self._run_ingest()
        one = Drain(records, max(0.0, seconds - self._ingest_start[0]), max(0.0, cpu - self._ingest_start[1]))
        self.drained.records += one.records
        self.drained.seconds += one.seconds
        self.drained.cpu += one.cpu
        return one

    def _run_ingest(self) -> tuple[int, float, float]:
        before, began = _children_cpu(), time.monotonic()
        done = subprocess.run(
            python("manage.py", "ingest", "--once"),
            env=os.environ | self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        return int(done.stdout), time.monotonic() - began, _children_cpu() - before


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
