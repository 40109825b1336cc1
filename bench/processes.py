"""The processes under test: started pinned, measured from /proc, ended by pid, whatever happens to the benchmark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None)


class DidNotStart(RuntimeError):
    """A process under test ended, or did not answer, at its start."""


@dataclass(slots=True)
class Running:
    """A process of ours."""

    name: str
    popen: subprocess.Popen[bytes]
    port: int = 0

    def _threads(self) -> Iterator[Path]:
        pids = [self.popen.pid]
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").glob("*"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    pids += [int(child) for child in (task / "children").read_text().split()]
                    yield task

    def cpu_seconds(self) -> float:
        """CPU time so far of all its threads and live children, from the scheduler's nanoseconds."""
        total = 0
        for task in self._threads():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Resident bytes of the process itself."""
        return int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]) * PAGE

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after ten seconds."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Processes:
    """All processes that this benchmark started; a context manager that ends every one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Running] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in reversed(self.running):
            process.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: set[int],
        env: dict[str, str] | None = None,
        port: int = 0,
        port_from_output: bool = False,
        nice: int = 0,
        seconds: float = 30,
    ) -> Running:
        """Start a command on those cores; wait until its port (given, or printed as its first line) accepts."""
        parent = os.getpid()

        def prepare() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, cores)
            if nice:
                with contextlib.suppress(PermissionError):
                    os.setpriority(os.PRIO_PROCESS, 0, nice)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        log = (self.folder / f"{name}.log").open("ab")
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if port_from_output else log,
            stderr=log,
            start_new_session=True,  # Ctrl-C comes to us alone, and we end them
            preexec_fn=prepare,  # noqa: PLW1509 - started before this process has threads
        )
        log.close()
        process = Running(name, popen, port)
        self.running.append(process)
        if port_from_output:
            assert popen.stdout is not None
            process.port = int(popen.stdout.readline() or 0)
        if process.port:
            self._await_port(process, time.monotonic() + seconds)
        return process

    def _await_port(self, process: Running, deadline: float) -> None:
        while time.monotonic() < deadline:
            if process.popen.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", process.port), 1):
                return
            time.sleep(0.05)
        log = (self.folder / f"{process.name}.log").read_text(errors="replace")
        raise DidNotStart(f"{process.name} did not start; its last words:\n{log[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def program(name: str) -> str | None:
    """Where a program is, also in the folders that only root has on its path."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def start_nginx(
    processes: Processes, name: str, *, cores: set[int], answer: str = "", upstream: int = 0, nice: int = 0
) -> Running:
    """One nginx process that answers every request with `answer`, or passes it on to the port `upstream`."""
    path = program("nginx")
    assert path is not None, "ask program() first"
    port = free_port()
    folder = processes.folder / name
    folder.mkdir()
    if upstream:
        location = (
            "proxy_pass http://upstream; proxy_http_version 1.1; "
            'proxy_set_header Connection ""; proxy_set_header Authorization "Bearer sk-bench";'
        )
    else:
        location = f"default_type application/json; return 200 '{answer}';"
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
  upstream upstream {{ server 127.0.0.1:{upstream or 1}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }}
}}
"""
    )
    command = [path, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    return processes.start(name, command, cores=cores, port=port, nice=nice)


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]
