"""Keys in the admin: shown once, regenerated, revoked; by POST with a CSRF token only."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from clients.access import Role, set_role
from clients.models import AuditEntry, Client
from clients.onboarding import create_client
from keys.lifecycle import find, issue, regenerate, revoke
from keys.models import APIKey, KeyUse
from pricing.models import Model, Provider

NO_LIMITS = {"limits-TOTAL_FORMS": 0, "limits-INITIAL_FORMS": 0}


@pytest.fixture
def acme(db: None) -> Client:
    return create_client("Acme")


def page(name: str, key: APIKey | None = None) -> str:
    return reverse(f"admin:keys_apikey_{name}", args=[key.pk] if key else [])


def key_in(answer: HttpResponse) -> str:
    found = re.findall(r"llm_gw_[0-9A-Za-z]{40}", answer.content.decode())
    assert len(set(found)) == 1
    return str(found[0])


def test_a_new_key_is_shown_once(admin_client: Browser, acme: Client) -> None:
    made = admin_client.post(page("add"), {"client": acme.pk, "name": "n8n", "expires_in": "30d", **NO_LIMITS})
    key = APIKey.objects.get()
    assert made.status_code == 302
    assert made.url == page("show_once", key)
    waiting = str([session.get_decoded() for session in Session.objects.all()])

    assert admin_client.head(made.url).status_code == 405  # a look ahead does not use it up
    shown = admin_client.get(made.url)
    plain = key_in(shown)
    assert find(plain) == key
    assert "no-store" in shown["Cache-Control"]
    assert f"works until {key.expires_at:%-d %B %Y, %H:%M} UTC." in shown.content.decode()
    assert plain not in waiting

    again = admin_client.get(made.url)
    assert "shown again" in again.content.decode()
    for url in (made.url, page("change", key), page("changelist"), reverse("admin:index")):
        assert plain not in admin_client.get(url, follow=True).content.decode()
    assert plain not in str(LogEntry.objects.values())
    assert plain not in str([session.get_decoded() for session in Session.objects.all()])


def test_another_session_is_never_shown_the_key(admin_client: Browser, admin_user: User, acme: Client) -> None:
    made = admin_client.post(page("add"), {"client": acme.pk, "name": "", "expires_in": "", **NO_LIMITS})
    other = Browser()
    other.force_login(admin_user)
    assert "shown again" in other.get(made.url).content.decode()
    assert find(key_in(admin_client.get(made.url))) == APIKey.objects.get()


def errors_of(answer: HttpResponse) -> list[str]:
    """What is wrong with the form, as the page writes it; there is something."""
    errors = [escape(error) for messages in answer.context["form"].errors.values() for error in messages]
    assert errors
    return errors


@pytest.mark.parametrize(
    "wrong",
    [
        {"client": ""},
        {"client": "999"},
        {"expires_in": "soon"},
        {"expires_in": "0"},
        {"name": "x" * 201},
        {"name": "a\tb"},
    ],
)
def test_wrong_input_makes_no_key(admin_client: Browser, acme: Client, wrong: dict[str, str]) -> None:
    answer = admin_client.post(page("add"), {"client": acme.pk, "name": "", "expires_in": "", **NO_LIMITS, **wrong})
    assert answer.status_code == 200
    assert all(error in answer.content.decode() for error in errors_of(answer))
    assert not APIKey.objects.exists()


def test_an_archived_client_is_not_offered(admin_client: Browser, acme: Client) -> None:
    acme.archive()
    assert "Acme" not in admin_client.get(page("add")).content.decode()


@pytest.mark.parametrize(
    ("grace", "state"), [("0", "revoked"), ("1h", "replaced"), ("24h", "replaced"), ("7d", "replaced")]
)
def test_regenerating_shows_the_new_key_once(admin_client: Browser, acme: Client, grace: str, state: str) -> None:
    old, _ = issue(acme)
    assert "Whoever uses the old one" in admin_client.get(page("regenerate", old)).content.decode()
    made = admin_client.post(page("regenerate", old), {"grace": grace})
    plain = key_in(admin_client.get(made.url))
    old.refresh_from_db()
    assert find(plain) == old.replaced_by
    assert old.state(timezone.now()) == state
    assert "shown again" in admin_client.get(made.url).content.decode()

    twice = admin_client.post(page("regenerate", old), {"grace": grace})
    assert "already replaced" in twice.content.decode()
    assert APIKey.objects.count() == 2


@pytest.mark.parametrize("grace", ["", "365d", "-1h"])
def test_only_the_offered_graces_are_taken(admin_client: Browser, acme: Client, grace: str) -> None:
    old, _ = issue(acme)
    answer = admin_client.post(page("regenerate", old), {"grace": grace})
    assert all(error in answer.content.decode() for error in errors_of(answer))
    assert APIKey.objects.count() == 1


def test_revoking_asks_first_and_keeps_the_reason(admin_client: Browser, acme: Client) -> None:
    key, _ = issue(acme)
    assert "can not be undone" in admin_client.get(page("revoke", key)).content.decode()
    assert APIKey.objects.get().revoked_at is None
    done = admin_client.post(page("revoke", key), {"reason": "leaked"}, follow=True)
    assert "is revoked" in done.content.decode()
    key.refresh_from_db()
    assert (key.state(timezone.now()), key.revoked_reason) == ("revoked", "leaked")
    assert "already revoked" in admin_client.post(page("revoke", key), {"reason": ""}).content.decode()


def test_buttons_are_there_only_while_they_do_something(admin_client: Browser, acme: Client) -> None:
    def buttons(key: APIKey) -> list[bool]:
        text = admin_client.get(page("change", key)).content.decode()
        return [page("regenerate", key) in text, page("revoke", key) in text]

    old, _ = issue(acme)
    assert buttons(old) == [True, True]
    new, _ = regenerate(old, timedelta(hours=1))
    assert buttons(old) == [False, True]
    revoke(new)
    assert buttons(new) == [False, False]


@pytest.mark.parametrize("name", ["add", "regenerate", "revoke"])
def test_nothing_happens_without_a_csrf_token(admin_user: User, acme: Client, name: str) -> None:
    key, _ = issue(acme)
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(admin_user)
    url = page(name) if name == "add" else page(name, key)
    assert browser.post(url, {"client": acme.pk, "grace": "0", "reason": ""}).status_code == 403
    assert [(k.pk, k.revoked_at) for k in APIKey.objects.all()] == [(key.pk, None)]


@pytest.mark.parametrize("name", ["add", "regenerate", "revoke", "show_once", "delete"])
@pytest.mark.parametrize("role", [Role.FINANCE, Role.VIEWER])
def test_who_reads_only_has_no_keys(acme: Client, name: str, role: Role) -> None:
    key, _ = issue(acme)
    user = User.objects.create_user("reader")
    browser = Browser()
    url = page(name) if name == "add" else page(name, key)
    assert browser.get(url).status_code == 302  # to the sign-in
    set_role(user, role)
    # rights that Django once gave one by one are worth nothing without the role
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="keys"))
    browser.force_login(user)
    assert browser.get(url).status_code in {403, 404}
    assert browser.post(url, {"client": acme.pk, "grace": "0", "reason": ""}).status_code in {403, 404, 405}
    assert [(k.pk, k.revoked_at) for k in APIKey.objects.all()] == [(key.pk, None)]


def test_keys_are_listed_with_their_use(admin_client: Browser, acme: Client) -> None:
    key, _ = issue(acme, "<b>n8n</b>")
    KeyUse.objects.create(key=key, calls=1234, tokens=5_000_000, charge=1_250_000_000_000, last_used_at=timezone.now())
    of_client = reverse("admin:clients_client_change", args=[acme.pk])
    for url in (page("changelist"), page("change", key), of_client):
        text = admin_client.get(url).content.decode()
        for shown in ("1.25", "&lt;b&gt;n8n&lt;/b&gt;", *(() if url == of_client else ("1,234", "5,000,000"))):
            assert shown in text
        assert "<b>n8n</b>" not in text
    assert key.hint in admin_client.get(page("changelist") + "?state=working").content.decode()
    for state in ("expired", "revoked"):
        assert key.hint not in admin_client.get(page("changelist") + f"?state={state}").content.decode()


def test_keys_that_end_soon_or_are_not_used_are_found(admin_client: Browser, acme: Client) -> None:
    now = timezone.now()
    lasts = {"in 3 days": timedelta(days=3), "in 20 days": timedelta(days=20), "in 40 days": timedelta(days=40)}
    keys = {name: issue(acme, name, time)[0] for name, time in lasts.items()}
    revoke(issue(acme, "revoked", timedelta(days=3))[0])
    KeyUse.objects.create(key=keys["in 20 days"], calls=1, last_used_at=now - timedelta(days=2))
    KeyUse.objects.create(key=keys["in 40 days"], calls=1, last_used_at=now - timedelta(days=31))
    found = {
        "state=7": {"in 3 days"},
        "state=30": {"in 3 days", "in 20 days"},
        "state=working&used=never": {"in 3 days"},
        "state=working&used=30": {"in 3 days", "in 40 days"},
        "used=7": {"in 20 days"},
        "state=revoked": {"revoked"},
    }
    for query, names in found.items():
        listed = admin_client.get(f"{page('changelist')}?{query}").context["cl"].result_list
        assert {key.name for key in listed} == names, query


def test_only_the_name_of_a_key_can_be_edited(admin_client: Browser, acme: Client) -> None:
    key, _ = issue(acme)
    before = APIKey.objects.values().get()
    other = create_client("Other")
    sent = {"name": "new name", "client": other.pk, "digest": "x", "expires_at_0": "2030-01-01", "hint": "y"}
    sent |= {**formset("allowed_models"), **formset("limits")}
    assert admin_client.post(page("change", key), sent).status_code == 302
    assert APIKey.objects.values().get() == {**before, "name": "new name"}


def formset(prefix: str, *rows: dict[str, object], initial: int = 0) -> dict[str, object]:
    """An inline of a page as a browser sends it."""
    sent: dict[str, object] = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
    for place, row in enumerate(rows):
        sent |= {f"{prefix}-{place}-{name}": value for name, value in row.items()}
    return sent


def test_limits_and_models_are_set_on_the_page_of_a_key(admin_client: Browser, acme: Client) -> None:
    key, _ = issue(acme, "n8n")
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    mini, large = (Model.objects.create(name=name, provider=provider) for name in ("gpt-4o-mini", "gpt-5"))
    row: dict[str, object] = {"metric": "credits", "amount": "2.50", "cycle": "month", "key": key.pk}
    allowed: dict[str, object] = {"model": mini.pk, "key": key.pk}
    sent = {"name": "n8n", **formset("limits", row), **formset("allowed_models", allowed)}
    assert admin_client.post(page("change", key), sent).status_code == 302
    assert [str(limit) for limit in key.limits.all()] == ["2.50 USD a month"]
    assert list(key.models.all()) == [mini]

    kept: dict[str, object] = {"id": key.allowed_models.get().pk, "model": mini.pk, "key": key.pk, "DELETE": "on"}
    more: dict[str, object] = {"model": large.pk, "key": key.pk}
    changed = {"id": key.limits.get().pk, **row, "amount": "3"}
    sent = {
        "name": "n8n",
        **formset("limits", changed, initial=1),
        **formset("allowed_models", kept, more, initial=1),
    }
    assert admin_client.post(page("change", key), sent).status_code == 302
    assert [str(limit) for limit in key.limits.all()] == ["3.00 USD a month"]
    assert list(key.models.all()) == [large]
    on_record = AuditEntry.objects.filter(event="set the models of key").latest("pk")
    assert on_record.changes["models"] == ["gpt-4o-mini", "gpt-5"]

    twice = {**sent, **formset("limits", row, row), **formset("allowed_models")}
    refused = admin_client.post(page("change", key), twice)
    assert refused.status_code == 200
    assert [str(limit) for limit in key.limits.all()] == ["3.00 USD a month"]
    assert 'value="sessions"' not in admin_client.get(page("change", key)).content.decode()


def test_a_key_is_issued_with_models_and_limits_of_its_own(admin_client: Browser, acme: Client) -> None:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    mini = Model.objects.create(name="gpt-4o-mini", provider=provider)
    asked = admin_client.get(page("add")).content.decode()
    assert 'name="limits-0-amount"' in asked
    assert 'value="sessions"' not in asked
    sent = {"client": acme.pk, "name": "n8n", "expires_in": "", "models": [mini.pk]}
    rows: tuple[dict[str, object], ...] = (
        {"metric": "credits", "amount": "2.50", "cycle": "month"},
        {"metric": "requests", "amount": "100", "cycle": "day"},
        {"metric": "", "amount": "", "cycle": "month"},
    )
    assert admin_client.post(page("add"), {**sent, **formset("limits", *rows)}).status_code == 302
    key = APIKey.objects.get()
    assert [str(limit) for limit in key.limits.all()] == ["2.50 USD a month", "100 requests a day"]
    assert list(key.models.all()) == [mini]


@pytest.mark.parametrize(
    "rows",
    [
        [{"metric": "credits", "amount": "2,50", "cycle": "month"}],
        [{"metric": "requests", "amount": "none", "cycle": "day"}],
        [{"metric": "", "amount": "5", "cycle": "day"}],
        [{"metric": "sessions", "amount": "5", "cycle": "day"}],
        [{"metric": "requests", "amount": "5", "cycle": "day"}, {"metric": "requests", "amount": "6", "cycle": "day"}],
    ],
)
def test_a_limit_that_does_not_hold_makes_no_key(
    admin_client: Browser, acme: Client, rows: list[dict[str, object]]
) -> None:
    sent = {"client": acme.pk, "name": "n8n", "expires_in": "", **formset("limits", *rows)}
    answer = admin_client.post(page("add"), sent)
    assert answer.status_code == 200
    assert answer.context["form"].errors or any(answer.context["limits"].errors)
    assert not APIKey.objects.exists()
