"""What can be known to be wrong before anything is started. Each fault is one sentence that names the setting."""

import fcntl
import os
import socket
import tempfile
from typing import IO

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import OperationalError, connection

from pricing.addresses import check_base_url
from pricing.credentials import check_keys


def check_environment() -> None:
    """Raise ImproperlyConfigured with one sentence where this installation cannot start."""
    check_keys()
    _check_data_dir()
    _check_port("PORT", settings.HOST, settings.PORT)
    if settings.WEB_PORT == settings.PORT:
        raise ImproperlyConfigured("WEB_PORT must differ from PORT: the gateway relays from one to the other.")
    _check_port("WEB_PORT", "127.0.0.1", settings.WEB_PORT)
    if settings.OPENAI_API_KEY:
        _check_openai_base_url()
    _check_database()


def hold_data_dir() -> IO[str]:
    """Take DATA_DIR until the returned file is closed; raise ImproperlyConfigured where another start has it."""
    file = (settings.DATA_DIR / "run" / "start.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ImproperlyConfigured(
            f"DATA_DIR {settings.DATA_DIR} is in use by another start of the gateway."
        ) from error
    return file


def _check_data_dir() -> None:
    try:
        for folder in (settings.DATA_DIR, settings.JOURNAL_DIR, settings.DATA_DIR / "logs", settings.DATA_DIR / "run"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise ImproperlyConfigured(
            f"DATA_DIR {settings.DATA_DIR} cannot be written: {error.strerror} ({error.filename})."
        ) from error


def _check_port(name: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except socket.gaierror as error:
            raise ImproperlyConfigured(f"HOST {host!r} is no address of this machine.") from error
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name} {port} on {host} cannot be used: {os.strerror(error.errno or 0)}."
            ) from error


def _check_openai_base_url() -> None:
    try:
        check_base_url(settings.OPENAI_BASE_URL)
    except ValidationError as error:
        raise ImproperlyConfigured(f"OPENAI_BASE_URL cannot be used: {' '.join(error.messages)}") from error


def _check_database() -> None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        name = "DATA_DIR" if settings.EMBEDDED else "DATABASE_URL"
        raise ImproperlyConfigured(
            f"{name}: the database does not open: {str(error).strip().splitlines()[0]}"
        ) from error
