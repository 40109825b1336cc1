"""Second factors in a real browser: a passkey that signs in by itself, and an app asked for after the password."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.axe import assert_usable
from tests.browser.operator import PASSWORD, Operator, sign_in
from tests.browser.test_frame import complaints

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_code_used_before() -> None:
    cache.clear()


@pytest.fixture
def with_device(operator: Operator) -> Iterator[Operator]:
    """An operator whose computer keeps passkeys, and opens them for a fingerprint that is always right."""
    browser = operator.browser
    browser.execute_cdp_cmd("WebAuthn.enable", {})
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    browser.execute_cdp_cmd("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield operator
    browser.execute_cdp_cmd("WebAuthn.disable", {})


def is_at(operator: Operator, path: str) -> bool:
    return urlsplit(operator.browser.current_url).path == path


def signs_out(operator: Operator) -> None:
    operator.opens("/accounts/logout/")
    operator.clicks("#content-main [type=submit]")
    operator.opens("/admin/")
    assert is_at(operator, "/accounts/login/")


def confirms(operator: Operator) -> None:
    """Give the password again where the page asks for it."""
    if is_at(operator, "/accounts/reauthenticate/"):
        operator.types(PASSWORD, "password")
        operator.clicks("form:has([name=password]) button")


def test_a_passkey_signs_in_without_a_password(with_device: Operator) -> None:
    operator = with_device
    sign_in(operator)
    operator.opens("/accounts/2fa/webauthn/add/")
    confirms(operator)
    operator.takes_a_picture("passkey-add")
    assert_usable(operator.browser)
    operator.types("Laptop", "name")
    operator.browser.find_element(By.NAME, "passwordless").click()
    operator.clicks("#mfa_webauthn_add")
    assert Authenticator.objects.get(type="webauthn").wrap().name == "Laptop"
    operator.opens("/accounts/2fa/webauthn/")
    operator.takes_a_picture("passkeys")
    assert "Laptop" in operator.sees
    assert_usable(operator.browser)

    signs_out(operator)
    operator.takes_a_picture("sign-in-with-passkey")
    assert_usable(operator.browser)
    operator.browser.find_element(By.ID, "passkey_login").click()
    WebDriverWait(operator.browser, 10).until(lambda _: is_at(operator, "/admin/"))
    assert "Is anything wrong?" in operator.sees
    assert complaints(operator.browser) == []


def test_an_app_is_asked_for_after_the_password(operator: Operator) -> None:
    sign_in(operator)
    operator.opens("/accounts/2fa/totp/activate/")
    confirms(operator)
    secret = operator.browser.find_element(By.ID, "authenticator_secret").get_attribute("value")
    operator.takes_a_picture("app-activate")
    assert_usable(operator.browser)
    operator.types(code(str(secret)), "code")
    operator.clicks("form:has([name=code]) button")
    assert Authenticator.objects.filter(type="totp").exists()
    operator.takes_a_picture("app-activated")

    signs_out(operator)
    cache.clear()  # the same code is not taken twice
    sign_in(operator)
    assert is_at(operator, "/accounts/2fa/authenticate/")
    operator.takes_a_picture("app-asked")
    assert_usable(operator.browser)
    operator.opens("/admin/")
    assert is_at(operator, "/accounts/2fa/authenticate/"), "the password alone opens nothing"
    wrong = f"{(int(code(str(secret))) + 1) % 10**6:06}"
    operator.types(wrong, "code")
    operator.clicks("form:has([name=code]) button")
    assert "Incorrect code" in operator.sees
    operator.types(code(str(secret)), "code")
    operator.clicks("form:has([name=code]) button")
    assert is_at(operator, "/admin/")
    assert complaints(operator.browser) == []


def code(secret: str) -> str:
    """What the app shows now."""
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
