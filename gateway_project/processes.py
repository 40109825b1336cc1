"""The four processes of an installation, and the supervisor that keeps them up (supervisord)."""

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from django.conf import settings

from gateway_project.lifeline import end_with_parent

# One log file is kept at most this many bytes long, with this many older ones beside it.
LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3


@dataclass(frozen=True, slots=True)
class Program:
    """One process: how it is started, and how many seconds it may take to stop before it is killed."""

    name: str
    command: tuple[str, ...]
    stop_seconds: int


def programs() -> list[Program]:
    """Return the four, in the order they are started; they are stopped in the opposite one.

    So the gateway stops first, while `web` still answers, and `ingest` last, with the gateway's last lines at hand.
    """
    manage = (sys.executable, str(settings.BASE_DIR / "manage.py"))
    granian = (
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
        *("--port", str(settings.WEB_PORT), "--workers", "1", "--blocking-threads", "4"),
        *("--respawn-failed-workers", "--workers-kill-timeout", "10"),
        *("--log-config", str(_run_dir() / "granian-logging.json"), "gateway_project.web:application"),
    )
    celery = (
        *(sys.executable, "-m", "celery", "--quiet", "-A", "gateway_project", "worker", "--beat"),
        *("--schedule", str(_run_dir() / "beat"), "--pool", "threads", "--concurrency", "1"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    return [
        Program("ingest", (*manage, "ingest"), 30),
        Program("worker", celery, 30),
        Program("web", granian, 15),
        Program("gateway", (*manage, "gateway"), settings.DRAIN_SECONDS + 15),
    ]


def supervise(chosen: Sequence[Program]) -> "subprocess.Popen[bytes]":
    """Start supervisord over `chosen` and return it. On SIGTERM, or when this process dies, it stops them all."""
    # LOGGING is plain text where this process has a terminal; granian writes to a file.
    json_logging = {**settings.LOGGING, "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}}}
    (_run_dir() / "granian-logging.json").write_bytes(orjson.dumps(json_logging))
    config = _run_dir() / "supervisord.conf"
    config.write_text(supervisor_config(chosen))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and a file of ours
        [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(config)],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches `start` alone, which then stops things in order
        preexec_fn=end_with_parent,  # noqa: PLW1509 - `start` has no threads
    )


def stop_seconds(chosen: Sequence[Program]) -> int:
    """Return the seconds within which supervisord has stopped them all, one after the other, or killed them."""
    return sum(program.stop_seconds for program in chosen) + 10


def log_file(name: str) -> Path:
    """Return where the output of the process `name` goes."""
    return settings.DATA_DIR / "logs" / f"{name}.log"


def supervisor_config(chosen: Sequence[Program]) -> str:
    """Return supervisord's configuration for `chosen`."""
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            logfile=str(log_file("supervisor")),
            logfile_maxbytes=str(LOG_BYTES),
            logfile_backups=str(LOG_BACKUPS),
            pidfile=str(_run_dir() / "supervisord.pid"),
            childlogdir=str(settings.DATA_DIR / "logs"),
            minfds="256",
            **({"user": getpass.getuser()} if os.geteuid() == 0 else {}),
        )
    ]
    settings_module = os.environ["DJANGO_SETTINGS_MODULE"]
    for order, program in enumerate(chosen):
        sections.append(
            _section(
                f"program:{program.name}",
                command=shlex.join((sys.executable, "-m", "gateway_project.lifeline", *program.command)),
                directory=str(settings.BASE_DIR),
                environment=f'DJANGO_SETTINGS_MODULE="{settings_module}",PYTHONUNBUFFERED="1",PYTHONWARNINGS="ignore",'
                'CELERY_SKIP_CHECKS="1"',  # they import every page
                priority=str(order),
                autorestart="true",
                startsecs="2",
                startretries="1000000",  # never gives up; each retry waits one second longer than the last
                stopwaitsecs=str(program.stop_seconds),
                stopasgroup="false",
                killasgroup="true",
                redirect_stderr="true",
                stdout_logfile=str(log_file(program.name)),
                stdout_logfile_maxbytes=str(LOG_BYTES),
                stdout_logfile_backups=str(LOG_BACKUPS),
            )
        )
    return "\n".join(sections)


def _section(name: str, **options: str) -> str:
    # supervisord expands %(...)s in every value, so a percent sign of a path is doubled
    return f"[{name}]\n" + "".join(f"{option} = {value.replace('%', '%%')}\n" for option, value in options.items())


def _run_dir() -> Path:
    return settings.DATA_DIR / "run"
