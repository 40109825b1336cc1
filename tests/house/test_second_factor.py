"""A second factor: an app or a passkey, recovery codes; asked for at sign-in, and of everybody where it is required."""

from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from cryptography.fernet import Fernet
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client as Browser
from pytest_django import Settings

from pricing.credentials import decrypt

PASSWORD = "correct horse battery staple"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_earlier_guesses() -> None:
    cache.clear()


@pytest.fixture
def browser() -> Browser:
    get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)
    browser = Browser()
    sign_in(browser)
    return browser


def sign_in(browser: Browser) -> str:
    answer = browser.post("/accounts/login/", {"login": "admin", "password": PASSWORD})
    return str(answer.headers["location"])


def code(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def set_up(browser: Browser) -> str:
    assert browser.get("/accounts/2fa/totp/activate/").headers["location"].startswith("/accounts/reauthenticate/")
    assert browser.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302
    secret: str = browser.get("/accounts/2fa/totp/activate/").context["form"].secret
    assert browser.post("/accounts/2fa/totp/activate/", {"code": code(secret)}).status_code == 302
    return secret


def test_an_app_is_set_up_and_its_secret_kept_encrypted(browser: Browser) -> None:
    secret = set_up(browser)
    stored = Authenticator.objects.get(type="totp").data["secret"]
    assert secret not in stored
    assert decrypt(stored) == secret
    assert Authenticator.objects.filter(type="recovery_codes").exists()


def test_who_has_a_second_factor_is_asked_for_it(browser: Browser) -> None:
    secret = set_up(browser)
    cache.clear()  # a code is taken once
    other = Browser()
    assert sign_in(other).startswith("/accounts/2fa/authenticate/")
    assert other.get("/admin/").status_code == 302
    assert "Incorrect code" in other.post("/accounts/2fa/authenticate/", {"code": "000000"}).content.decode()
    assert other.post("/accounts/2fa/authenticate/", {"code": code(secret)}).status_code == 302
    assert other.get("/admin/").status_code == 200


def test_a_passkey_can_be_added_and_sessions_are_listed(browser: Browser) -> None:
    set_up(browser)
    assert browser.get("/accounts/2fa/webauthn/add/").status_code == 200
    assert "127.0.0.1" in browser.get("/accounts/sessions/").content.decode()


def test_where_it_is_required_nobody_works_without_one(browser: Browser, settings: Settings) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    assert browser.get("/admin/clients/client/").headers["location"] == "/accounts/2fa/"
    set_up(browser)
    assert browser.get("/admin/clients/client/").status_code == 200


def test_it_survives_a_change_of_the_encryption_key(browser: Browser, settings: Settings) -> None:
    secret = set_up(browser)
    new = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    call_command("reencrypt", stdout=StringIO())
    settings.ENCRYPTION_KEYS = [new]
    cache.clear()
    other = Browser()
    sign_in(other)
    assert other.post("/accounts/2fa/authenticate/", {"code": code(secret)}).status_code == 302
    assert len(browser.get("/accounts/2fa/recovery-codes/").context["unused_codes"]) == 10
