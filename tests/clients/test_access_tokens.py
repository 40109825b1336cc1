"""Tokens for the REST API: shown once, kept as a digest, over when they or their person are."""

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from clients import access_tokens
from clients.access import Role, set_role
from clients.models import AccessToken, AuditEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    user = User.objects.create_user("ana")
    set_role(user, Role.OPERATOR)
    return user


def test_a_token_is_found_by_its_text_of_which_only_a_digest_is_kept(person: User) -> None:
    token, plain = access_tokens.make(person, " n8n ", ["clients:write", "clients:read"])
    assert plain.startswith("llm_api_")
    assert (token.name, token.scopes) == ("n8n", "clients:read clients:write")
    assert token.expires_at - token.created_at == timedelta(days=90)
    found = access_tokens.find(plain)
    assert found == token and found.user == person
    assert found.allows("clients:write") and not found.allows("keys:write") and not found.allows("clients")
    row = AccessToken.objects.values().get()
    assert plain not in str(row) and len(row["digest"]) == 32


@pytest.mark.parametrize("text", ["", "llm_api_", "llm_api_" + "x" * 43, "llm_api_" + "é" * 43, "x" * 10_000])
def test_what_is_no_token_finds_nothing(person: User, text: str) -> None:
    access_tokens.make(person, "n8n", ["clients:read"])
    assert access_tokens.find(text) is None


def test_a_token_is_over_when_it_is_revoked_or_expired_or_its_person_is_put_out(person: User) -> None:
    token, plain = access_tokens.make(person, "n8n", ["clients:read"])
    User.objects.filter(pk=person.pk).update(is_active=False)
    assert access_tokens.find(plain) is None
    User.objects.filter(pk=person.pk).update(is_active=True)
    assert access_tokens.find(plain) == token
    access_tokens.revoke(token)
    assert access_tokens.find(plain) is None
    with pytest.raises(ValidationError, match="already"):
        access_tokens.revoke(token)
    old, plain = access_tokens.make(person, "old", ["clients:read"])
    past = timezone.now() - timedelta(days=2)
    AccessToken.objects.filter(pk=old.pk).update(created_at=past, expires_at=past + timedelta(days=1))
    assert access_tokens.find(plain) is None


@pytest.mark.parametrize(
    ("name", "scopes", "lasts"),
    [
        ("", ["clients:read"], timedelta(days=1)),
        ("a\nb", ["clients:read"], timedelta(days=1)),
        ("x" * 101, ["clients:read"], timedelta(days=1)),
        ("n8n", [], timedelta(days=1)),
        ("n8n", ["clients:read", "everything"], timedelta(days=1)),
        ("n8n", ["clients:read"], timedelta()),
        ("n8n", ["clients:read"], timedelta(days=366)),
    ],
)
def test_what_is_not_fit_makes_no_token(person: User, name: str, scopes: list[str], lasts: timedelta) -> None:
    with pytest.raises(ValidationError):
        access_tokens.make(person, name, scopes, lasts)
    assert not AccessToken.objects.exists()


def test_its_use_is_noted_once_a_minute_and_is_no_change(person: User) -> None:
    token, plain = access_tokens.make(person, "n8n", ["clients:read"])
    entries = AuditEntry.objects.get_for_object(token)
    assert entries.count() == 1 and "digest" not in entries.get().changes
    access_tokens.find(plain)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    access_tokens.find(plain)
    token.refresh_from_db()
    assert token.last_used_at == first and entries.count() == 1


def test_the_shell_makes_tokens_and_ends_them(person: User) -> None:
    out = StringIO()
    call_command("createtoken", "ana", "--name", "n8n", "--scope", "clients:read", "--days", "30", stdout=out)
    token = access_tokens.find(out.getvalue().strip())
    assert token is not None
    assert (token.user, token.scopes) == (person, "clients:read")
    call_command("revoketoken", "ana", "n8n", stdout=out)
    assert access_tokens.find(out.getvalue().split()[0]) is None
    for wrong in (["revoketoken", "ana", "n8n"], ["createtoken", "bob", "--name", "n8n", "--scope", "clients:read"]):
        with pytest.raises(CommandError):
            call_command(*wrong, stdout=out)
    with pytest.raises(CommandError, match="365 days"):
        call_command("createtoken", "ana", "--name", "x", "--scope", "clients:read", "--days", "366", stdout=out)
