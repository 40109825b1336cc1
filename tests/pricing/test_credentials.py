import io

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from pricing.credentials import UnreadableCredential, check_keys, decrypt, encrypt
from pricing.models import Provider

CANARY = "sk-canary-0123456789abcdefWXYZ"
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def with_credential(provider: Provider) -> Provider:
    provider.set_credential(CANARY)
    provider.save()
    return provider


def test_a_credential_is_encrypted_at_rest(provider: Provider) -> None:
    with_credential(provider)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM pricing_provider")
        stored = repr(cursor.fetchall())
    assert CANARY not in stored
    assert CANARY[-8:] not in stored
    assert Provider.objects.get().credential() == CANARY
    assert Provider.objects.get().credential_hint == "WXYZ"


def test_an_empty_credential_removes_it(provider: Provider) -> None:
    with_credential(provider).set_credential("")
    provider.save()
    assert Provider.objects.get().credential() == ""
    assert Provider.objects.get().credential_hint == ""


def test_of_a_short_credential_nothing_is_told(provider: Provider) -> None:
    provider.set_credential("ollama")
    assert provider.credential_hint == ""
    assert provider.credential() == "ollama"


def test_white_space_around_a_pasted_credential_is_dropped(provider: Provider) -> None:
    provider.set_credential(f" {CANARY}\n")
    assert provider.credential() == CANARY


@pytest.mark.parametrize("plain", ["sk-a\r\nx-evil: 1", "sk a", "sk-\x00", "sk-ü"])
def test_a_credential_that_would_break_a_header_is_refused(provider: Provider, plain: str) -> None:
    with pytest.raises(ValidationError):
        provider.set_credential(plain)


def test_a_new_first_key_encrypts_and_the_old_still_decrypts(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    token = encrypt(CANARY)
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert decrypt(token) == CANARY
    newer = encrypt(CANARY)
    settings.ENCRYPTION_KEYS = [NEW]
    assert decrypt(newer) == CANARY
    with pytest.raises(UnreadableCredential):
        decrypt(token)


def test_after_reencrypt_the_old_key_may_go(provider: Provider, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    with_credential(provider)
    Provider.objects.create(name="without", base_url="https://example.com")
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    out = io.StringIO()
    call_command("reencrypt", stdout=out)
    assert out.getvalue().startswith("1 ")
    settings.ENCRYPTION_KEYS = [NEW]
    assert Provider.objects.get(name="openai").credential() == CANARY


def test_reencrypt_is_all_or_nothing(provider: Provider, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    with_credential(provider)
    settings.ENCRYPTION_KEYS = [NEW]
    other = Provider(name="a-readable-one", base_url="https://example.com")
    with_credential(other)
    with pytest.raises(CommandError) as refused:
        call_command("reencrypt")
    assert "ENCRYPTION_KEYS" in str(refused.value)
    assert CANARY not in str(refused.value)
    other.refresh_from_db()
    assert other.credential() == CANARY


@pytest.mark.parametrize("keys", [[], ["short"], [NEW, ""], [NEW, "§"]])
def test_wrong_keys_stop_the_start_in_words(settings: Settings, keys: list[str]) -> None:
    settings.ENCRYPTION_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS") as refused:
        check_keys()
    assert NEW not in str(refused.value)


def test_good_keys_pass(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    check_keys()


@pytest.mark.parametrize(
    "address", ["https://evil.example/v1", "https://api.openai.com:8443/v1", "http://api.openai.com"]
)
def test_a_stored_credential_does_not_follow_to_another_server(
    provider: Provider, settings: Settings, address: str
) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    moved = with_credential(provider)
    moved.base_url = address
    with pytest.raises(ValidationError) as refused:
        moved.full_clean()
    assert "Enter the key together with the new address" in refused.value.message_dict["base_url"][0]
    moved.set_credential("sk-of-the-new-server")
    moved.full_clean()
    moved.set_credential("")
    moved.full_clean()


def test_a_stored_credential_stays_while_the_server_does(provider: Provider, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    moved = with_credential(provider)
    moved.base_url = "https://API.openai.com/v2"
    moved.full_clean()
