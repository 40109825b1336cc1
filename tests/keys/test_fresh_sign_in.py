"""Showing, regenerating and revoking a key ask for a fresh sign-in, of whoever may do it at all."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.onboarding import create_client
from keys.lifecycle import find, issue
from keys.models import APIKey

pytestmark = pytest.mark.django_db
LATE = timedelta(minutes=16)
PASSWORD = "password"  # of pytest-django's admin_user


def page(name: str, key: APIKey) -> str:
    return reverse(f"admin:keys_apikey_{name}", args=[key.pk])


def test_a_stale_sign_in_regenerates_no_key(admin_client: Browser) -> None:
    act, sent = "regenerate", {"grace": "0"}
    key, _ = issue(create_client("Acme"))
    url = page(act, key)
    with time_machine.travel(timezone.now() + LATE):
        for asked in (admin_client.get(url), admin_client.post(url, sent)):
            assert asked.status_code == 302
            assert asked["location"].startswith(reverse("account_reauthenticate"))
        key.refresh_from_db()
        assert (key.revoked_at, APIKey.objects.count()) == (None, 1)
        wrong = admin_client.post(asked["location"], {"password": "guess"})
        assert wrong.status_code == 200
        assert admin_client.get(url).status_code == 302

        back = admin_client.post(asked["location"], {"password": PASSWORD})
        assert back["location"] == url
        assert admin_client.get(url).status_code == 200
        admin_client.post(url, sent)
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_stale_sign_in_revokes_a_key_that_leaked_all_the_same(admin_client: Browser) -> None:
    key, _ = issue(create_client("Acme"))
    with time_machine.travel(timezone.now() + LATE):
        assert admin_client.post(page("revoke", key), {"reason": "leaked"})["location"] == page("change", key)
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_new_key_waits_for_the_fresh_sign_in_and_is_then_shown(admin_client: Browser) -> None:
    with time_machine.travel(timezone.now() + LATE):
        client = create_client("Acme")
        sent = {"client": client.pk, "name": "", "expires_in": "", "limits-TOTAL_FORMS": 0, "limits-INITIAL_FORMS": 0}
        made = admin_client.post(reverse("admin:keys_apikey_add"), sent)
        asked = admin_client.get(made["location"])
        assert asked["location"].startswith(reverse("account_reauthenticate"))
        back = admin_client.post(asked["location"], {"password": PASSWORD})
        shown = admin_client.get(back["location"])
        plain = str(shown.context["plain"])
        assert plain in shown.content.decode()
        assert find(plain) == APIKey.objects.get()


def test_without_the_right_or_the_key_nobody_is_asked_to_sign_in(admin_user: User) -> None:
    key, _ = issue(create_client("Acme", owner=admin_user))
    for name, role, status in (("ann", Role.OPERATOR, 404), ("vic", Role.VIEWER, 403)):
        person = User.objects.create_user(name)
        set_role(person, role)
        browser = Browser()
        browser.force_login(person)
        for act in ("regenerate", "revoke"):
            assert browser.get(page(act, key)).status_code == status
