"""A link that shows a key once: after a click, to the first, for a while, and not longer than the key lives."""

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients.access import Role, set_role
from clients.onboarding import create_client
from keys import handover, notices
from keys.lifecycle import issue, regenerate, revoke
from keys.models import APIKey, Handover

pytestmark = pytest.mark.django_db


@pytest.fixture
def made() -> tuple[APIKey, str, str]:
    """A key, its text, and the path of its link."""
    key, plain = issue(create_client("Acme"), "n8n")
    _, token = handover.make(key, plain, None)
    return key, plain, reverse("handover", args=[token])


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_it_shows_the_key_after_a_click_and_once(made: tuple[APIKey, str, str]) -> None:
    _, plain, path = made
    browser, other = Browser(HTTP_USER_AGENT="Firefox", HTTP_X_FORWARDED_FOR="6.6.6.6, 203.0.113.9"), Browser()
    for _ in range(2):  # a preview of a chat, then the person
        looked = browser.get(path)
        assert looked.status_code == 200
        assert plain not in text(looked)
        assert "Acme" in text(looked)
    opened = browser.post(path)
    assert plain in text(opened)
    assert "no-store" in opened["Cache-Control"]
    for late in (browser.post(path), other.post(path), other.get(path)):
        assert late.status_code == 404
        assert plain not in text(late)
        assert "Acme" not in text(late)
    link = Handover.objects.get()
    assert (link.opened_address, link.opened_user_agent, link.ciphertext) == ("203.0.113.9", "Firefox", "")


def test_what_is_stored_gives_no_key_away(made: tuple[APIKey, str, str]) -> None:
    from pricing.credentials import decrypt

    _, plain, path = made
    link = Handover.objects.get()
    token = path.split("/")[-2]
    assert plain not in decrypt(link.ciphertext), "ENCRYPTION_KEYS alone are not enough"
    assert token.encode() not in bytes(link.digest)


@pytest.mark.parametrize("end", ["revoked", "regenerated", "withdrawn", "expired", "key expired"])
def test_it_dies_with_the_key_and_after_its_time(made: tuple[APIKey, str, str], end: str) -> None:
    key, plain, path = made
    when = timezone.now()
    match end:
        case "revoked":
            revoke(key)
        case "regenerated":
            regenerate(key, timedelta(hours=1))
        case "withdrawn":
            handover.withdraw(key.pk)
        case "expired":
            when += timedelta(hours=73)
        case "key expired":
            APIKey.objects.filter(pk=key.pk).update(expires_at=when + timedelta(hours=1))
            when += timedelta(hours=2)
    with time_machine.travel(when):
        assert Browser().get(path).status_code == 404
        answer = Browser().post(path)
        assert answer.status_code == 404
        assert plain not in text(answer)
        if end in ("revoked", "regenerated", "withdrawn"):
            assert Handover.objects.get().ciphertext == ""
        else:
            assert (handover.erase_expired(), handover.erase_expired()) == (1, 0)
            assert Handover.objects.get().ciphertext == ""


def test_a_new_link_ends_the_one_before(made: tuple[APIKey, str, str]) -> None:
    key, plain, path = made
    _, token = handover.make(key, plain, None)
    assert Browser().get(path).status_code == 404
    assert plain in text(Browser().post(reverse("handover", args=[token])))


def test_a_key_that_does_not_work_is_not_handed_over(made: tuple[APIKey, str, str]) -> None:
    key, plain, _ = made
    revoke(key)
    with pytest.raises(ValidationError, match="does not work any more"):
        handover.make(key, plain, None)


def test_a_wrong_link_says_the_same_as_a_dead_one(made: tuple[APIKey, str, str]) -> None:
    _, _, path = made
    Browser().post(path)
    wrong = Browser().get(reverse("handover", args=["x" * 43]))
    assert (wrong.status_code, text(wrong)) == (404, text(Browser().get(path)))


def test_the_team_makes_a_link_sees_its_fate_and_gets_a_mail(admin_client: Browser) -> None:
    User.objects.update(email="admin@agency.example")
    key, plain = issue(create_client("Acme"), "n8n")
    url = reverse("admin:keys_apikey_handover", args=[key.pk])
    assert admin_client.post(url, {"key": "llm_gw_wrong"}).status_code == 404
    link = re.search(r"http://testserver(/keys/[^/]+/)", text(admin_client.post(url, {"key": plain})))
    assert link is not None
    page = reverse("admin:keys_apikey_change", args=[key.pk])
    assert "not opened yet" in text(admin_client.get(page))
    Browser(HTTP_USER_AGENT="Firefox", REMOTE_ADDR="203.0.113.9").post(link[1])
    shown = text(admin_client.get(page))
    assert "opened on" in shown
    assert "from 203.0.113.9, Firefox" in shown
    assert (notices.mail_opened(), notices.mail_opened()) == (1, 0)
    assert mail.outbox[0].to == ["admin@agency.example"]
    assert "203.0.113.9" in mail.outbox[0].body
    assert plain not in mail.outbox[0].body


def test_a_link_is_withdrawn_by_a_click(admin_client: Browser, made: tuple[APIKey, str, str]) -> None:
    key, _, path = made
    admin_client.post(reverse("admin:keys_apikey_withdraw", args=[key.pk]))
    assert Browser().post(path).status_code == 404


def test_keys_that_expire_are_mailed_once_to_those_who_can_renew_them() -> None:
    people = {}
    for name, role in (("ann", Role.OPERATOR), ("ben", Role.OPERATOR), ("fin", Role.FINANCE), ("own", Role.OWNER)):
        people[name] = User.objects.create_user(name, f"{name}@agency.example")
        set_role(people[name], role)
    client = create_client("Acme", owner=people["ann"])
    issue(client, "soon", timedelta(days=5))
    issue(client, "later", timedelta(days=50))
    old, _ = issue(client, "replaced", timedelta(days=5))
    regenerate(old, timedelta(days=2))
    APIKey.objects.filter(replaces=old).update(expires_at=None)
    assert (notices.mail_expiring(), notices.mail_expiring()) == (1, 0)
    assert sorted(mail.outbox[0].to) == ["ann@agency.example", "own@agency.example"]
    assert "soon" in mail.outbox[0].body
    with time_machine.travel(timezone.now() + timedelta(days=4, hours=12)):
        assert (notices.mail_expiring(), notices.mail_expiring()) == (1, 0)


def test_nobody_hands_over_a_key_of_a_foreign_client() -> None:
    key, plain = issue(create_client("Acme"))
    url = reverse("admin:keys_apikey_handover", args=[key.pk])
    for name, role, status in (("ann", Role.OPERATOR, 404), ("fin", Role.FINANCE, 403), ("vic", Role.VIEWER, 403)):
        person = User.objects.create_user(name)
        set_role(person, role)
        browser = Browser()
        browser.force_login(User.objects.get(pk=person.pk))
        assert browser.post(url, {"key": plain}).status_code == status
    assert not Handover.objects.exists()


def test_an_open_link_survives_a_change_of_the_encryption_key(
    made: tuple[APIKey, str, str], settings: Settings
) -> None:
    _, plain, path = made
    new = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    call_command("reencrypt", stdout=StringIO())
    settings.ENCRYPTION_KEYS = [new]
    assert plain in text(Browser().post(path))
