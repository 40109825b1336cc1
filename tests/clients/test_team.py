"""The team's pages: addresses are one person's, invitations that ran out show, sessions of colleagues are ended."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients import invitations
from clients.access import Role, set_role
from clients.audit import entries_about

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


def text(answer: Any) -> str:
    return str(answer.content.decode())


@pytest.fixture
def ana() -> User:
    person = User.objects.create_user("ana", "ana@example.com")
    set_role(person, Role.OPERATOR)
    return person


def team(browser: Browser) -> str:
    return text(browser.get(reverse("admin:auth_user_changelist")))


def save(browser: Browser, person: User, **changed: str) -> Any:
    page = reverse("admin:auth_user_change", args=[person.pk])
    kept = {"username": person.username, "email": person.email, "role": "operator", "is_active": "on"}
    return browser.post(page, kept | changed)


@pytest.mark.parametrize("email", ["ben@example.com", "BEN@example.com", "ben.signs.in.by@example.com"])
def test_an_address_of_somebody_else_is_refused_with_whose_it_is(admin_client: Browser, ana: User, email: str) -> None:
    User.objects.create_user("ben", "ben@example.com")
    User.objects.create_user("ben.signs.in.by@example.com")
    answer = save(admin_client, ana, email=email)
    assert answer.status_code == 200
    assert "This address is ben" in text(answer)
    ana.refresh_from_db()
    assert ana.email == "ana@example.com"


def test_ones_own_address_and_none_are_taken(admin_client: Browser, ana: User) -> None:
    for email in ("ANA@example.com", "ana.ruiz@example.com", ""):
        assert save(admin_client, ana, email=email).status_code == 302
        ana.refresh_from_db()
        assert ana.email == email


def test_an_address_shared_from_before_does_not_stand_in_the_way(admin_client: Browser, ana: User) -> None:
    User.objects.create_user("ben", "ana@example.com")
    assert save(admin_client, ana, first_name="Ana").status_code == 302


def test_an_invitation_that_ran_out_shows_and_is_sent_again_from_the_list(admin_client: Browser, ana: User) -> None:
    start = timezone.now()
    with time_machine.travel(start - timedelta(hours=73)):
        token = invitations.invite(ana)
    assert "invitation expired" in team(admin_client)
    again = {"action": "invite_again", "_selected_action": [ana.pk]}
    shown = text(admin_client.post(reverse("admin:auth_user_changelist"), again, follow=True))
    assert "on its way to ana@example.com" in shown
    assert "invitation expired" not in shown
    assert [message.to for message in mail.outbox] == [["ana@example.com"]]
    assert invitations.invited_by(token) is None


def test_without_mail_no_link_dies_from_the_list(admin_client: Browser, ana: User, settings: Settings) -> None:
    token = invitations.invite(ana)
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    again = {"action": "invite_again", "_selected_action": [ana.pk]}
    shown = text(admin_client.post(reverse("admin:auth_user_changelist"), again, follow=True))
    assert "sends no mail" in shown
    assert invitations.invited_by(token) == ana


def test_who_has_come_in_is_not_invited_from_the_list(admin_client: Browser, admin_user: User) -> None:
    again = {"action": "invite_again", "_selected_action": [admin_user.pk]}
    shown = text(admin_client.post(reverse("admin:auth_user_changelist"), again, follow=True))
    assert "needs no invitation" in shown
    assert mail.outbox == []


def test_sending_again_asks_for_a_fresh_sign_in(admin_user: User, ana: User) -> None:
    browser = Browser()
    browser.force_login(admin_user)
    again = {"action": "invite_again", "_selected_action": [ana.pk]}
    assert "/reauthenticate/" in browser.post(reverse("admin:auth_user_changelist"), again)["Location"]
    assert mail.outbox == []


def test_an_owner_ends_the_sessions_of_a_colleague_and_of_nobody_else(admin_client: Browser, ana: User) -> None:
    ana.set_password(PASSWORD)
    ana.save()
    theirs = [Browser(), Browser()]
    for browser in theirs:
        browser.post("/accounts/login/", {"login": "ana", "password": PASSWORD})
        assert browser.get("/admin/").status_code == 200
    page = reverse("admin:auth_user_end_sessions", args=[ana.pk])
    assert page in text(admin_client.get(reverse("admin:auth_user_change", args=[ana.pk])))
    assert theirs[0].post(page).status_code == 404
    assert admin_client.get(page).status_code == 405
    assert "signed in at 2 places" in text(admin_client.post(page, follow=True))
    for browser in theirs:
        assert browser.get("/admin/")["Location"].startswith("/admin/login/")
    assert admin_client.get("/admin/").status_code == 200
    assert "ended the sessions of" in [entry.event for entry in entries_about(ana)]


def test_the_sign_in_leads_to_a_forgotten_password() -> None:
    assert reverse("account_reset_password") in text(Browser().get("/accounts/login/"))


def test_an_owner_sets_a_password_after_a_fresh_sign_in_only(
    admin_client: Browser, admin_user: User, ana: User
) -> None:
    ana.set_password("forgotten")
    ana.save()
    page = reverse("admin:auth_user_password_change", args=[ana.pk])
    assert page in text(admin_client.get(reverse("admin:auth_user_change", args=[ana.pk])))
    new = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    stale = Browser()
    stale.force_login(admin_user)
    for answer in (stale.get(page), stale.post(page, new)):
        assert "/reauthenticate/" in answer["Location"]
    ana.refresh_from_db()
    assert ana.check_password("forgotten")
    assert admin_client.post(page, new).status_code == 302
    ana.refresh_from_db()
    assert ana.check_password(PASSWORD)
