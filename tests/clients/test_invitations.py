"""Inviting a person: a link, mailed and shown once, with which the person sets a password; once, within 72 hours."""

import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.core.exceptions import ValidationError
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients import invitations
from clients.access import Role, role_of, set_role
from clients.audit import entries_about
from clients.models import AuditEntry
from pricing import audit
from tests.conftest import sign_in_freshly

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"
NEW = {"first_name": "Ana", "last_name": "Ruiz", "email": "ana@example.com", "username": "", "role": "operator"}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def path_in(words: str) -> str:
    found = re.search(r"/accounts/invitation/[^/\s<]+/", words)
    assert found, words
    return found[0]


def add(browser: Browser, **changed: str) -> Any:
    return browser.post(reverse("admin:auth_user_add"), NEW | changed, follow=True)


def set_password(path: str, password: str = PASSWORD, browser: Browser | None = None) -> Any:
    return (browser or Browser()).post(path, {"new_password1": password, "new_password2": password})


def signs_in(login: str, password: str = PASSWORD) -> bool:
    browser = Browser()
    browser.post("/accounts/login/", {"login": login, "password": password})
    return "_auth_user_id" in browser.session


@pytest.fixture
def ana() -> User:
    person = User.objects.create_user("ana", "ana@example.com")
    set_role(person, Role.OPERATOR)
    return person


def path_of(token: str) -> str:
    return reverse("invitation", args=[token])


def test_an_owner_adds_a_person_who_sets_the_password_and_signs_in(admin_client: Browser) -> None:
    shown = add(admin_client)
    path = path_in(text(shown))
    ana = User.objects.get(email="ana@example.com")
    assert (ana.username, ana.get_full_name(), role_of(ana)) == ("ana@example.com", "Ana Ruiz", Role.OPERATOR)
    assert not ana.has_usable_password()
    [message] = mail.outbox
    assert (message.to, path_in(str(message.body))) == (["ana@example.com"], path)
    assert "on its way to ana@example.com" in text(shown)
    assert path not in text(admin_client.get(shown.request["PATH_INFO"]))  # shown once
    listed = text(admin_client.get(reverse("admin:auth_user_changelist")))
    assert "invited" in listed
    answer = set_password(path)
    assert answer["Location"] == reverse("account_login")
    assert signs_in("ana@example.com")
    assert "invited" not in text(admin_client.get(reverse("admin:auth_user_changelist")))


def test_looking_at_the_link_does_not_use_it_up_and_setting_the_password_does(ana: User) -> None:
    path = path_of(invitations.invite(ana))
    for _ in range(3):  # scanners of mails, previews of chats
        looked = Browser().get(path)
        assert looked.status_code == 200
        assert "no-store" in looked["Cache-Control"]
        assert Browser().head(path).status_code == 200
    assert set_password(path).status_code == 302
    for late in (Browser().get(path), set_password(path, "another " + PASSWORD)):
        assert late.status_code == 404
        assert "ana" not in text(late)
    assert signs_in("ana")


def test_a_weak_or_mistyped_password_is_told_and_the_link_goes_on_working(ana: User) -> None:
    path = path_of(invitations.invite(ana))
    assert "too short" in text(set_password(path, "abc"))
    mistyped = Browser().post(path, {"new_password1": PASSWORD, "new_password2": "other"})
    assert "match" in text(mistyped)
    assert set_password(path).status_code == 302


def test_the_rule_refuses_a_weak_password_by_itself(ana: User) -> None:
    token = invitations.invite(ana)
    with pytest.raises(ValidationError):
        invitations.accept(token, "abc")
    assert invitations.invited_by(token) == ana


def test_a_link_works_for_72_hours(ana: User) -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False):
        path = path_of(invitations.invite(ana))
    with time_machine.travel(start + timedelta(hours=72), tick=False):
        assert Browser().get(path).status_code == 200
    with time_machine.travel(start + timedelta(hours=72, seconds=2), tick=False):
        assert Browser().get(path).status_code == 404
        assert set_password(path).status_code == 404
    ana.refresh_from_db()
    assert not ana.has_usable_password()


def test_sent_again_only_the_new_link_works(admin_client: Browser, ana: User) -> None:
    old = path_of(invitations.invite(ana))
    page = reverse("admin:auth_user_invitation", args=[ana.pk])
    assert "Send the invitation again" in text(admin_client.get(page))
    new = path_in(text(admin_client.post(page, follow=True)))
    assert new != old
    assert path_in(str(mail.outbox[0].body)) == new
    assert set_password(old).status_code == 404
    assert set_password(new).status_code == 302


def test_a_link_of_somebody_who_has_left_is_dead(ana: User) -> None:
    token = invitations.invite(ana)
    User.objects.filter(pk=ana.pk).update(is_active=False)
    assert set_password(path_of(token)).status_code == 404
    ana.refresh_from_db()
    with pytest.raises(ValidationError, match="needs no invitation"):
        invitations.invite(ana)


def test_a_password_given_meanwhile_ends_the_link(ana: User) -> None:
    token = invitations.invite(ana)
    ana.refresh_from_db()
    ana.set_password(PASSWORD)
    ana.save()
    assert set_password(path_of(token), "another " + PASSWORD).status_code == 404
    assert signs_in("ana")


def test_who_has_come_in_cannot_be_invited_out_of_the_password(admin_client: Browser, admin_user: User) -> None:
    answer = admin_client.post(reverse("admin:auth_user_invitation", args=[admin_user.pk]), follow=True)
    assert "needs no invitation" in text(answer)
    admin_user.refresh_from_db()
    assert admin_user.has_usable_password()
    assert mail.outbox == []


@pytest.mark.parametrize("token", ["1", "1-", "-", "x-y", "9" * 40 + "-a-b", "²-a-b", "0-a-b", "1-a-b"])
def test_what_is_no_link_of_ours_is_a_404(ana: User, token: str) -> None:
    assert Browser().get(path_of(token)).status_code == 404
    assert set_password(path_of(token)).status_code == 404


def test_a_link_of_a_forgotten_password_is_no_invitation(ana: User) -> None:
    assert invitations.invited_by(f"{ana.pk}-{default_token_generator.make_token(ana)}") is None


def test_without_a_mail_server_the_page_says_so(admin_client: Browser, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    shown = add(admin_client)
    assert "EMAIL_URL is not set" in text(shown)
    assert set_password(path_in(text(shown))).status_code == 302


def test_a_mail_server_that_is_down_loses_no_invitation(admin_client: Browser, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    shown = add(admin_client)
    assert "did not take the mail" in text(shown)
    assert set_password(path_in(text(shown))).status_code == 302


def test_names_can_neither_write_headers_nor_turn_the_mail_around(admin_client: Browser) -> None:
    name = "<b>Ana</b>\r\nBcc: all@example.com\u202e"
    shown = add(admin_client, first_name=name)
    [message] = mail.outbox
    raw = message.message().as_bytes()
    assert re.findall(rb"(?im)^(?:to|bcc|cc):.*$", raw) == [b"To: ana@example.com"]
    assert message.alternatives == []  # type: ignore[attr-defined]
    assert "\u202e" not in message.body
    assert "Hello <b>Ana</b> Bcc: all@example.com Ruiz," in message.body
    assert "<b>Ana</b>" not in text(shown)
    assert "<b>Ana</b>" not in text(Browser().get(path_in(text(shown))))


@pytest.mark.parametrize("email", ["", "no address", "ana@example.com\r\nBcc: all@example.com", "ADMIN@example.com"])
def test_an_address_that_is_missing_wrong_or_taken_adds_nobody(admin_client: Browser, email: str) -> None:
    assert "errors" in text(add(admin_client, email=email, username="ana"))
    assert not User.objects.filter(username="ana").exists()
    assert mail.outbox == []


def test_it_asks_for_a_fresh_sign_in(admin_user: User, ana: User) -> None:
    browser = Browser()
    browser.force_login(admin_user)
    page = reverse("admin:auth_user_invitation", args=[ana.pk])
    for answer in (browser.get(page), browser.post(page), browser.post(reverse("admin:auth_user_add"), NEW)):
        assert "/reauthenticate/" in answer["Location"]
    assert mail.outbox == []


def test_the_link_waits_for_nobody_else(admin_client: Browser, admin_user: User, ana: User) -> None:
    other = User.objects.create_user("ben", "ben@example.com")
    admin_client.post(reverse("admin:auth_user_invitation", args=[ana.pk]))
    second = Browser()
    second.force_login(admin_user)
    sign_in_freshly(second)
    for browser, person in ((second, ana), (admin_client, other)):
        shown = text(browser.get(reverse("admin:auth_user_invitation", args=[person.pk])))
        assert "/accounts/invitation/" not in shown


def test_the_log_tells_who_invited_and_that_it_was_accepted_and_holds_no_link(admin_client: Browser) -> None:
    path = path_in(text(add(admin_client)))
    ana = User.objects.get(email="ana@example.com")
    set_password(path)
    told = [(entry.by, entry.event) for entry in entries_about(ana) if entry.event]
    assert told == [("ana@example.com", "accepted the invitation of"), ("admin", "invited")]
    log = str(list(AuditEntry.objects.values()))
    assert path.split("/")[3] not in log
    assert audit.HIDDEN in log


def test_whoever_shares_the_browser_is_signed_out(admin_client: Browser, ana: User) -> None:
    set_password(path_of(invitations.invite(ana)), browser=admin_client)
    assert "_auth_user_id" not in admin_client.session
