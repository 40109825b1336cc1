"""The page of one's own tokens: made after a fresh sign-in, shown once, ended at once; owners end everybody's."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.access_tokens import SCOPES, AccessToken, find, make
from tests.conftest import sign_in_freshly

pytestmark = pytest.mark.django_db
URL = "/admin/tokens/"
ASKED = {"name": "n8n", "scopes": ["clients:read"], "days": "90"}


def browser_of(name: str, role: Role) -> tuple[User, Browser]:
    user = User.objects.create_user(name, password="correct horse battery staple")
    set_role(user, role)
    browser = Browser()
    browser.force_login(user)
    sign_in_freshly(browser)
    return user, browser


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.FINANCE, Role.VIEWER])
def test_everybody_makes_tokens_of_their_own_which_are_shown_once(role: Role) -> None:
    user, browser = browser_of("ana", role)
    assert browser.post(URL, ASKED).headers["location"] == URL
    shown = browser.get(URL)
    assert shown.headers["cache-control"].startswith("max-age=0")
    plain = re.search("llm_api_[A-Za-z0-9_-]{43}", shown.content.decode())
    assert plain is not None
    token = find(plain[0])
    assert token is not None
    assert (token.user, token.scopes, token.name) == (user, "clients:read", "n8n")
    assert "llm_api_" not in browser.get(URL).content.decode()
    assert timedelta(days=89) < token.expires_at - timezone.now() <= timedelta(days=90)


def test_a_stale_sign_in_makes_none() -> None:
    _, browser = browser_of("ana", Role.OPERATOR)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert browser.post(URL, ASKED).headers["location"].startswith(reverse("account_reauthenticate"))
    assert not AccessToken.objects.exists()


def test_a_role_is_offered_what_it_can_use_and_no_more() -> None:
    _, browser = browser_of("vera", Role.VIEWER)
    page = browser.get(URL).content.decode()
    assert "usage:read" in page
    assert "keys:" not in page
    assert browser.post(URL, ASKED | {"scopes": ["keys:write"]}).status_code == 200
    assert browser.post(URL, ASKED | {"scopes": []}).status_code == 200
    assert browser.post(URL, ASKED | {"days": "4000"}).status_code == 200
    assert not AccessToken.objects.exists()


def test_ones_own_is_revoked_at_once_somebody_elses_by_owners_alone(admin_client: Browser) -> None:
    ana, browser = browser_of("ana", Role.OPERATOR)
    _, other = browser_of("ben", Role.OPERATOR)
    token, plain = make(ana, "Anas", SCOPES)
    revoke = reverse("admin:tokens_revoke", args=[token.pk])
    assert "Anas" not in other.get(URL).content.decode()
    assert other.post(revoke).status_code == 404
    assert browser.get(revoke).status_code == 405
    assert find(plain) is not None
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):  # a leaked one ends at once
        assert browser.post(revoke).status_code == 302
        assert find(plain) is None
    another, plain = make(ana, "Another", SCOPES)
    assert "Another" in admin_client.get(URL).content.decode()
    admin_client.post(reverse("admin:tokens_revoke", args=[another.pk]))
    assert find(plain) is None
