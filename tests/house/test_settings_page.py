"""The settings page: what owners change takes effect, everybody with a role sees how the installation does."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients import invitations
from clients.access import Role, set_role
from clients.agency import Agency, agency, change_agency
from clients.models import AuditEntry
from clients.onboarding import create_client
from gateway_project import health, tasks
from keys import handover
from keys.lifecycle import issue
from pricing.models import Model, Provider
from tests.conftest import sign_in_freshly
from usage import heartbeats
from usage.heartbeats import Heartbeat
from usage.ingest import Ingest

pytestmark = pytest.mark.django_db


def text(answer: Any) -> str:
    return str(answer.content.decode())


def page() -> str:
    return reverse("admin:settings")


def browser_of(role: Role | None) -> Browser:
    person = User.objects.create_user(role or "stranger", f"{role}@example.com")
    if role:
        set_role(person, role)
    browser = Browser()
    browser.force_login(person)
    return browser


def test_the_name_is_on_what_clients_and_colleagues_see(admin_client: Browser) -> None:
    answer = admin_client.post(page(), {"name": "  Bright & Bold <b>Automations</b> "})
    assert answer["Location"] == page()
    assert agency().name == "Bright & Bold <b>Automations</b>"
    shown = "Bright &amp; Bold &lt;b&gt;Automations&lt;/b&gt;"
    key, plain = issue(create_client("Dental Clinic"), "n8n")
    _, token = handover.make(key, plain, None)
    assert shown in text(Browser().get(reverse("handover", args=[token])))
    ana = User.objects.create_user("ana", "ana@example.com")
    invitation = invitations.invite(ana)
    assert shown in text(Browser().get(reverse("invitation", args=[invitation])))
    invitations.mail(ana, "https://example.com/", None)
    assert "back office of Bright & Bold <b>Automations</b>." in mail.outbox[0].body


@pytest.mark.parametrize("name", ["x" * 101, "two\nlines", "turned\u202earound"])
def test_a_name_that_would_break_a_mail_or_a_page_is_refused(admin_client: Browser, name: str) -> None:
    assert "errorlist" in text(admin_client.post(page(), {"name": name})) or "errors" in text(
        admin_client.post(page(), {"name": name})
    )
    assert agency().name == ""


def test_a_second_factor_required_here_is_asked_of_everyone(admin_client: Browser) -> None:
    viewer = browser_of(Role.VIEWER)
    assert viewer.get("/admin/").status_code == 200
    admin_client.post(page(), {"name": "", "second_factor_required": "on"})
    for browser in (viewer, admin_client):
        assert browser.get("/admin/")["Location"] == "/accounts/2fa/"
    change_agency(second_factor_required=False)
    assert viewer.get("/admin/").status_code == 200


def test_what_the_environment_demands_cannot_be_switched_off_here(admin_client: Browser, settings: Settings) -> None:
    change_agency(second_factor_required=True)
    settings.REQUIRE_SECOND_FACTOR = True
    assert admin_client.get(page())["Location"] == "/accounts/2fa/"
    change_agency(second_factor_required=False)
    assert admin_client.get(page())["Location"] == "/accounts/2fa/"


def test_the_second_factor_is_changed_after_a_fresh_sign_in_only(admin_user: User) -> None:
    browser = Browser()
    browser.force_login(admin_user)
    answer = browser.post(page(), {"name": "", "second_factor_required": "on"})
    assert "/reauthenticate/" in answer["Location"]
    assert not agency().second_factor_required
    assert browser.post(page(), {"name": "Bright"})["Location"] == page()
    assert agency().name == "Bright"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.FINANCE, Role.VIEWER])
def test_others_than_owners_read_it_and_change_nothing(role: Role) -> None:
    provider = Provider(name="OpenAI", base_url="https://api.openai.com/v1")
    provider.set_credential("sk-0123456789abcdefghWXYZ")
    provider.save()
    browser = browser_of(role)
    shown = text(browser.get(page()))
    assert "Is everything running?" in shown
    assert "WXYZ" not in shown
    assert ("https://api.openai.com/v1" in shown) is (role != Role.VIEWER)
    sign_in_freshly(browser)
    assert browser.post(page(), {"name": "Mine"}).status_code == 403
    assert browser.post(reverse("admin:settings_test_mail")).status_code == 403
    assert not Agency.objects.exists()
    assert mail.outbox == []


def test_strangers_are_led_to_the_sign_in() -> None:
    for browser in (Browser(), browser_of(None)):
        for answer in (browser.get(page()), browser.post(page()), browser.post(reverse("admin:settings_test_mail"))):
            assert answer["Location"].startswith("/admin/login/")


def test_changes_are_in_the_audit_log(admin_client: Browser) -> None:
    admin_client.post(page(), {"name": "Bright"})
    admin_client.post(page(), {"name": "Bright", "second_factor_required": "on"})
    told = [(entry.by, entry.what, entry.changes) for entry in AuditEntry.objects.filter(content_type__model="agency")]
    assert [who for who, _, _ in told] == ["admin"] * 3  # made, named, locked
    assert told[0][1] == "changed settings of the agency"
    assert told[0][2] == {"second_factor_required": [False, True]}


def test_there_is_one_row() -> None:
    change_agency(name="Bright")
    with pytest.raises(IntegrityError), transaction.atomic():
        Agency.objects.bulk_create([Agency(id=2)])


def test_providers_are_shown_with_address_last_four_timeouts_and_models(admin_client: Browser) -> None:
    provider = Provider(name="OpenAI", base_url="https://api.openai.com/v1", connect_timeout=7)
    provider.set_credential("sk-0123456789abcdefghWXYZ")
    provider.save()
    Model.objects.create(name="a", provider=provider)
    Model.objects.create(name="b", provider=provider, enabled=False)
    shown = text(admin_client.get(page()))
    for words in ("https://api.openai.com/v1", "…WXYZ", "7 s to connect", "1 of 2 on"):
        assert words in shown
    assert "0123456789" not in shown
    assert reverse("admin:pricing_provider_connection", args=[provider.pk]) in shown


def test_a_test_mail_reaches_whoever_asks(admin_client: Browser, admin_user: User) -> None:
    shown = text(admin_client.post(reverse("admin:settings_test_mail"), follow=True))
    assert [message.to for message in mail.outbox] == [[admin_user.email]]
    assert f"took a mail to {admin_user.email}" in shown
    assert admin_client.get(reverse("admin:settings_test_mail")).status_code == 405


def test_what_keeps_a_test_mail_from_going_out_is_said(admin_client: Browser, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_HOST_PASSWORD = "127.0.0.1", 1, "geheim"
    shown = text(admin_client.post(reverse("admin:settings_test_mail"), follow=True))
    assert "did not take the mail (ConnectionRefusedError)" in shown
    assert "127.0.0.1:1" in shown
    assert "geheim" not in shown
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    assert "No mail is sent" in text(admin_client.get(page()))
    User.objects.update(email="")
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert "no e-mail address" in text(admin_client.post(reverse("admin:settings_test_mail"), follow=True))


def test_the_database_url_and_secrets_are_not_shown(admin_client: Browser, settings: Settings) -> None:
    settings.REDIS_URL = "redis://:geheim@127.0.0.1:1/0"
    shown = text(admin_client.get(page()))
    assert "geheim" not in shown
    assert settings.SECRET_KEY not in shown
    assert all(key not in shown for key in settings.ENCRYPTION_KEYS)


def named(name: str) -> health.State:
    return next(state for state in health.processes(timezone.now()) if state.name == name)


def test_a_gateway_that_does_not_answer_is_told_with_what_to_do(admin_client: Browser, settings: Settings) -> None:
    settings.PORT = 1
    assert not named("gateway").well
    assert "Calls fail" in text(admin_client.get(page()))


def test_ingest_gives_a_sign_of_life_when_the_journal_is_in_the_database(tmp_path: Path) -> None:
    assert not named("ingest").well
    stop = threading.Event()
    ingest = Ingest(tmp_path)
    ingest.run_once = lambda: stop.set() or 0  # type: ignore[method-assign,func-returns-value]
    ingest.run_forever(stop)
    assert named("ingest").well
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
    late = named("ingest")
    assert not late.well
    assert "5 minutes ago" in late.told
    assert "nothing is lost" in late.to_do[0]


def test_the_worker_gives_signs_of_life_and_forgets_hosts_that_are_gone() -> None:
    gone = timezone.now() - heartbeats.FORGOTTEN_AFTER - timedelta(minutes=1)
    Heartbeat.objects.create(process=Heartbeat.Process.INGEST, host="old", seen_at=gone)
    tasks.show_life()
    assert [beat.process for beat in Heartbeat.objects.all()] == ["worker"]
    assert named("worker").well


def test_each_host_has_a_line_of_its_own() -> None:
    for host in ("one", "two"):
        Heartbeat.objects.create(process=Heartbeat.Process.INGEST, host=host, seen_at=timezone.now())
    assert named("ingest on one").well
    assert named("ingest on two").well
