"""createkey, rotatekey and revokekey: what they print, and what they refuse."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import find, issue
from keys.models import APIKey
from keys.tokens import generate, well_formed


@pytest.fixture
def acme(db: None) -> Client:
    return create_client("Acme")


def run(*args: str) -> str:
    out = StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def test_createkey_prints_the_key_alone(acme: Client) -> None:
    for client in ("Acme", str(acme.pk)):
        printed = run("createkey", "--client", client, "--name", "n8n", "--expires", "30d")
        assert printed.endswith("\n")
        assert well_formed(printed[:-1])
        key = find(printed)
        assert (key.client, key.name) == (acme, "n8n")
        assert key.expires_at == key.created_at + timedelta(days=30)


def test_rotatekey_prints_the_new_key_alone(acme: Client) -> None:
    old, plain = issue(acme)
    printed = run("rotatekey", plain, "--grace", "24h")
    assert well_formed(printed[:-1])
    old.refresh_from_db()
    assert old.replaced_by == find(printed)
    assert old.state(timezone.now()) == "replaced"


def test_rotatekey_without_grace_ends_the_old_key(acme: Client) -> None:
    old, _ = issue(acme)
    run("rotatekey", old.hint)
    old.refresh_from_db()
    assert old.state(timezone.now()) == "revoked"


def test_revokekey_revokes(acme: Client) -> None:
    key, plain = issue(acme)
    printed = run("revokekey", key.hint, "--reason", "leaked")
    assert printed == f"{key.hint} of Acme is revoked.\n"
    assert plain not in printed
    key.refresh_from_db()
    assert (key.state(timezone.now()), key.revoked_reason) == ("revoked", "leaked")


@pytest.mark.parametrize(
    ("args", "about"),
    [
        (["createkey", "--client", "Nobody"], "no client 'Nobody'"),
        (["createkey", "--client", "Acme", "--expires", "soon"], "30d"),
        (["createkey", "--client", "Acme", "--expires", "0"], "longer than nothing"),
        (["createkey", "--client", "Acme", "--name", "a\nb"], "Control characters"),
        (["rotatekey", generate()], "no such key"),
        (["rotatekey", "HINT", "--grace", "-1h"], "90m"),
        (["revokekey", "llm_gw_nonsense"], "neither a whole key"),
        (["revokekey", "HINT", "--reason", "x" * 201], "revoked_reason"),
    ],
)
def test_errors_are_one_line(acme: Client, args: list[str], about: str) -> None:
    key, _ = issue(acme)
    command = [key.hint if arg == "HINT" else arg for arg in args]
    # As the shell would: options with values that begin with a dash need the equals sign
    command = [*command[:2], "--grace=-1h"] if "--grace" in command else command
    with pytest.raises(CommandError, match=about) as refusal:
        run(*command)
    assert "\n" not in str(refusal.value)
    assert list(APIKey.objects.values_list("pk", "revoked_at", "replaced_by")) == [(key.pk, None, None)]
