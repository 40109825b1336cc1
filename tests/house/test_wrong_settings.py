"""A wrong or missing setting stops the start with one sentence that names it."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Manage = Callable[..., "subprocess.CompletedProcess[str]"]


def assert_one_sentence_names(result: "subprocess.CompletedProcess[str]", name: str) -> None:
    assert result.returncode == 1, result.stdout + result.stderr
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("PORT", {"PORT": "eighty"}),
        ("PORT", {"PORT": "0"}),
        ("PORT", {"PORT": "70000"}),
        ("WEB_PORT", {"WEB_PORT": "-1"}),
        ("DEBUG", {"DEBUG": "flase"}),
        ("DATABASE_URL", {"DATABASE_URL": "nonsense", "SECRET_KEY": "x" * 60, "ENCRYPTION_KEYS": "x"}),
        ("DATABASE_URL", {"DATABASE_URL": "mysql://a@b/c", "SECRET_KEY": "x" * 60, "ENCRYPTION_KEYS": "x"}),
        ("DATABASE_URL", {"DATABASE_URL": "postgres://h:abc/x", "SECRET_KEY": "x" * 60, "ENCRYPTION_KEYS": "x"}),
        ("SECRET_KEY", {"DATABASE_URL": "postgresql://a@b/c", "ENCRYPTION_KEYS": "x"}),
        ("ENCRYPTION_KEYS", {"DATABASE_URL": "postgresql://a@b/c", "SECRET_KEY": "x" * 60}),
        ("REDIS_URL", {"REDIS_URL": "localhost:6379"}),
        ("DATA_DIR", {"DATA_DIR": "/dev/null/data"}),
        ("TIME_ZONE", {"TIME_ZONE": "Berlin"}),
        ("TIME_ZONE", {"TIME_ZONE": "../../etc/passwd"}),
        ("PUBLIC_URL", {"PUBLIC_URL": "gateway.example.com"}),
        ("TRUSTED_PROXIES", {"PUBLIC_URL": "https://gateway.example.com"}),
        ("TRUSTED_PROXIES", {"TRUSTED_PROXIES": "10.0.0.0/8,loadbalancer"}),
        ("MAX_BODY_BYTES", {"MAX_BODY_BYTES": "32MB"}),
        ("DRAIN_SECONDS", {"DRAIN_SECONDS": "1.5"}),
        ("LOG_LEVEL", {"LOG_LEVEL": "LOUD"}),
    ],
)
def test_settings_that_cannot_be_read(manage: Manage, name: str, environment: dict[str, str]) -> None:
    assert_one_sentence_names(manage("start", **environment), name)


def test_a_password_in_a_wrong_database_url_is_not_repeated(manage: Manage) -> None:
    result = manage("start", DATABASE_URL="mysql://user:hunter2@db/name", SECRET_KEY="x" * 60, ENCRYPTION_KEYS="x")
    assert "hunter2" not in result.stderr + result.stdout


def test_an_encryption_key_that_is_none(manage: Manage) -> None:
    result = manage("start", ENCRYPTION_KEYS="not-a-fernet-key")
    assert_one_sentence_names(result, "ENCRYPTION_KEYS")
    assert "not-a-fernet-key" not in result.stderr


@pytest.mark.parametrize("name", ["PORT", "WEB_PORT"])
def test_a_port_that_another_program_has(manage: Manage, name: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        result = manage("start", **{name: taken})
    assert_one_sentence_names(result, name)
    assert taken in result.stderr


def test_one_port_for_both(manage: Manage, fresh_env: dict[str, str]) -> None:
    assert_one_sentence_names(manage("start", WEB_PORT=fresh_env["PORT"]), "WEB_PORT")


def test_a_data_dir_that_is_taken_by_files(manage: Manage, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "logs").write_text("a file where a folder should be")
    assert_one_sentence_names(manage("start"), "DATA_DIR")


def test_a_database_that_does_not_answer(manage: Manage, tmp_path: Path) -> None:
    result = manage(
        "start",
        DATABASE_URL=f"postgresql://someone@/none?host={tmp_path}",
        SECRET_KEY="x" * 60,
        ENCRYPTION_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    )
    assert_one_sentence_names(result, "DATABASE_URL")


def test_an_openai_base_url_that_leads_inside(manage: Manage) -> None:
    result = manage("start", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="https://127.0.0.1/v1")
    assert_one_sentence_names(result, "OPENAI_BASE_URL")


def test_a_deployment_over_https_passes_djangos_own_check(manage: Manage) -> None:
    result = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        PUBLIC_URL="https://gateway.example.com",
        TRUSTED_PROXIES="127.0.0.1/32",
    )
    assert result.returncode == 0, result.stderr
