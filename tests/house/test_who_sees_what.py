"""Every page of the back office, asked for by everybody, for what is theirs and what is not.

A page that this list does not know fails the test: say here who may see it.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model as Row
from django.test import Client as Browser
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.models import AuditEntry, Client, Plan
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.models import Model, Price, Provider
from pricing.price_list import Step, new_price
from tests.conftest import sign_in_freshly
from usage import test_call
from usage.closing import close, drafts
from usage.models import Alert, AlertRules, ExportSchedule, Receiver, Rerating, Terms, UsageRecord

pytestmark = pytest.mark.django_db

LONG_AGO, NOT_YET = date(2025, 1, 1), date(2099, 1, 1)
LONG_AGO_AT = datetime(2025, 1, 2, tzinfo=UTC)
PEOPLE = ("owner", "operator", "operator of all", "finance", "viewer", "without a role", "stranger")
OUT = {"without a role", "stranger"}
OPERATORS = {"operator", "operator of all"}
ALL = set(PEOPLE) - OUT


@dataclass(frozen=True)
class Kind:
    """Who reads and changes a kind of object, and which of its standard pages nobody has."""

    reads: set[str]
    writes: set[str]
    whose: str = ""  # "client": foreign to operators without a grant; "provider": foreign to all operators
    nobody: set[str] = field(default_factory=set)


KINDS = {
    "clients_client": Kind(ALL, {"owner"} | OPERATORS, "client"),
    "keys_apikey": Kind({"owner"} | OPERATORS, {"owner"} | OPERATORS, "client", {"delete"}),
    "usage_usagerecord": Kind(ALL, set(), "client"),
    "pricing_provider": Kind({"owner", "finance"} | OPERATORS, {"owner"} | OPERATORS, "provider"),
    "pricing_model": Kind(ALL, {"owner"} | OPERATORS, "provider"),
    "clients_plan": Kind(ALL, {"owner"}),
    "auth_user": Kind({"owner"}, {"owner"}, nobody={"delete"}),
    "clients_auditentry": Kind({"owner"} | OPERATORS, set(), "client"),
    "usage_exportschedule": Kind({"owner", "finance"}, {"owner", "finance"}),
    "usage_alert": Kind(ALL, set(), "client"),
    "usage_receiver": Kind({"owner"} | OPERATORS, {"owner"} | OPERATORS, "provider"),
    "usage_alertrules": Kind({"owner"} | OPERATORS, {"owner"}, nobody={"add", "delete"}),
    "usage_terms": Kind(ALL, {"owner", "finance"}, "client"),
    "usage_statement": Kind(ALL, set(), "client"),
    "usage_rerating": Kind({"owner", "finance"}, {"owner"}, nobody={"delete"}),
}
# Further pages of one object, or of one kind: who may do what they do.
OBJECT_PAGES = {
    "onboard": ("clients_client", "add"),
    "costs": ("usage_usagerecord", "view"),
    "analytics": ("usage_usagerecord", "view"),
    "reconcile": ("usage_exportschedule", "view"),
    "closing": ("usage_exportschedule", "view"),
    "usage_statement_pdf": ("usage_statement", "view"),
    "usage_statement_csv": ("usage_statement", "view"),
    "usage_exportschedule_run": ("usage_exportschedule", "change"),
    "usage_rerating_apply": ("usage_rerating", "add"),
    "usage_rerating_withdraw": ("usage_rerating", "add"),
    "usage_receiver_test": ("usage_receiver", "change"),
    "usage_receiver_secret": ("usage_receiver", "change"),
    "client_usage_link": ("clients_client", "change"),
    "clients_client_import": ("clients_client", "add"),
    "clients_client_plan": ("clients_client", "change"),
    "clients_client_suspend": ("clients_client", "change"),
    "clients_client_status": ("clients_client", "change"),
    "keys_apikey_regenerate": ("keys_apikey", "change"),
    "keys_apikey_revoke": ("keys_apikey", "change"),
    "keys_apikey_show_once": ("keys_apikey", "view"),
    "keys_apikey_withdraw": ("keys_apikey", "change"),
    "auth_user_invitation": ("auth_user", "change"),
    "auth_user_end_sessions": ("auth_user", "change"),
    "auth_user_password_change": ("auth_user", "change"),
    "clients_auditentry_export": ("clients_auditentry", "view"),
    "pricing_provider_connection": ("pricing_provider", "change"),
    "pricing_provider_import": ("pricing_provider", "change"),
    "pricing_provider_test": ("pricing_provider", "change"),
    "pricing_provider_test_new": ("pricing_provider", "add"),
    "pricing_model_price": ("pricing_model", "change"),
    "pricing_model_catalogue": ("pricing_model", "change"),
    "pricing_model_withdraw": ("pricing_model", "change"),
}
POSTED = {
    "auth_user_end_sessions",
    "usage_exportschedule_run",
    "usage_receiver_test",
    "usage_rerating_apply",
    "usage_rerating_withdraw",
    "pricing_provider_test",
    "pricing_provider_test_new",
    "pricing_model_catalogue",
    "pricing_model_withdraw",
}
"""Pages that do something, and show nothing."""
# Pages of no object: everybody with a role gets them, scoped where they hold anything.
SITE_PAGES = {
    "index",
    "search",
    "settings",
    "time_zone",
    "tokens",
    "jsi18n",
    "autocomplete",
    "password_change",
    "password_change_done",
    "app_list",
}
SIGN_IN_PAGES = {"login", "logout"}
TESTED_ALONE = {"usage_exportschedule_file", "tokens_revoke", "test_call", "keys_apikey_handover", "settings_test_mail"}
STANDARD = {"changelist": "view", "add": "add", "change": "view", "history": "view", "delete": "delete"}


def admin_url_names() -> Iterator[str | None]:
    def walk(patterns: list[Any]) -> Iterator[URLPattern]:
        for pattern in patterns:
            yield from walk(pattern.url_patterns) if isinstance(pattern, URLResolver) else [pattern]

    for pattern in walk(admin.site.get_urls()):
        if pattern.name is None:  # Django's old addresses, and its 404 for the rest
            assert str(pattern.pattern) in {"(?P<url>.*)$", "<path:object_id>/"}, pattern
        else:
            yield pattern.name


NAMES = sorted(set(admin_url_names()))


def kind_of(name: str) -> tuple[str, str] | None:
    if name in OBJECT_PAGES:
        return OBJECT_PAGES[name]
    kind, _, page = name.rpartition("_")
    return (kind, STANDARD[page]) if kind in KINDS and page in STANDARD else None


def test_every_page_is_known() -> None:
    unknown = {name for name in NAMES if kind_of(name) is None} - SITE_PAGES - SIGN_IN_PAGES - TESTED_ALONE
    assert not unknown, f"say in {__name__} who may see {unknown}"


class Agency:
    """Two operators with a client, a key, a call, a provider and a model each, and a reader of every role."""

    def __init__(self) -> None:
        self.people = {name: User.objects.create_user(name.replace(" ", "-")) for name in PEOPLE if name != "stranger"}
        for name, role in (("owner", Role.OWNER), ("finance", Role.FINANCE), ("viewer", Role.VIEWER)):
            set_role(self.people[name], role)
        set_role(self.people["operator"], Role.OPERATOR)
        set_role(self.people["operator of all"], Role.OPERATOR, all_clients=True)
        User.objects.filter(username="without-a-role").update(is_staff=True)
        self.other = User.objects.create_user("other")
        set_role(self.other, Role.OPERATOR)

    def objects_of(self, owner: User) -> dict[str, Row]:
        client = create_client(f"Client of {owner}", owner=owner)
        Client.objects.filter(pk=client.pk).update(created_at=LONG_AGO_AT)
        client.refresh_from_db()
        # an address that is refused before anything is dialled
        provider = Provider.objects.create(name=f"Provider of {owner}", base_url="https://127.0.0.1/v1", owner=owner)
        model = Model.objects.create(name=f"model-of-{owner.pk}", provider=provider)
        new_price(model, [Step(1, 1)], timezone.now() + timedelta(days=1), owner)
        key, self.plain = issue(client, f"Key of {owner}")
        plan, _ = Plan.objects.get_or_create(name="Basic")
        now = timezone.now()
        counts = {f.name: 0 for f in UsageRecord._meta.fields if f.name.endswith(("_tokens", "_us", "cost", "charge"))}
        record = UsageRecord.objects.create(
            **counts | {"first_byte_us": None},
            request_id=uuid.uuid4(),
            client=client,
            key=key,
            provider=provider,
            model=model,
            admitted_at=now,
            settled_at=now,
            outcome="ok",
            status=200,
            stream=False,
            estimated=False,
            session_opened=False,
        )
        return {
            "clients_client": client,
            "keys_apikey": key,
            "usage_usagerecord": record,
            "pricing_provider": provider,
            "pricing_model": model,
            "clients_plan": plan,
            "auth_user": owner,
            "usage_exportschedule": ExportSchedule.objects.get_or_create(name="Monthly")[0],
            "usage_alert": Alert.objects.create(
                kind="client.silent", mark=f"{client.pk}", client=client, title="Silent"
            ),
            "usage_receiver": Receiver.objects.create(
                name=f"Team {client.pk}", addresses="a@b.example", owner=provider.owner
            ),
            "usage_alertrules": AlertRules.objects.get_or_create(pk=1)[0],
            "usage_rerating": Rerating.objects.create(
                model=model, start=LONG_AGO_AT, end=LONG_AGO_AT + timedelta(days=1), reason="Typing error"
            ),
            "usage_terms": Terms.objects.create(client=client, since=NOT_YET),
            "usage_statement": close(drafts([client], LONG_AGO, now)[0], None, now),
            "clients_auditentry": AuditEntry.objects.get_for_object(key).get(),
        }

    def browser_of(self, person: str) -> Browser:
        browser = Browser()
        if person != "stranger":
            browser.force_login(User.objects.get(pk=self.people[person].pk))
            sign_in_freshly(browser)
        return browser


def foreign(person: str, kind: Kind) -> bool:
    return (kind.whose == "client" and person == "operator") or (kind.whose == "provider" and person in OPERATORS)


def address(name: str, row: Row) -> str:
    if name == "pricing_model_withdraw":
        return reverse(f"admin:{name}", args=[row.pk, Price.objects.get(model=row.pk).pk])
    if name in ("clients_client_plan", "clients_client_suspend"):
        return f"{reverse(f'admin:{name}')}?ids={row.pk}"
    if name == "clients_client_status":
        return reverse(f"admin:{name}", args=[row.pk, "suspended"])
    try:
        return reverse(f"admin:{name}")
    except NoReverseMatch:
        return reverse(f"admin:{name}", args=[row.pk])


def expected(person: str, name: str, *, own: bool, about_a_row: bool) -> set[int]:
    kind_name, act = kind_of(name) or ("", "")
    kind = KINDS[kind_name]
    if person in OUT:
        return {302}
    if person not in kind.reads:
        return {403, 404} if about_a_row else {403}
    if about_a_row and not own and foreign(person, kind):
        return {404}
    if name.endswith("_history") and person not in KINDS["clients_auditentry"].reads:
        return {403}
    may = act == "view" or (person in kind.writes and act not in kind.nobody)
    return {200, 302} if may else {403}


def state() -> list[Any]:
    models = (Client, Plan, Provider, Model, Price, UsageRecord, User)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("name", [name for name in NAMES if kind_of(name)])
def test_a_page_shows_everybody_what_is_theirs(name: str, person: str) -> None:
    agency = Agency()
    everyone = agency.objects_of(agency.other)
    theirs = agency.objects_of(agency.people[person]) if person in OPERATORS else everyone
    browser = agency.browser_of(person)
    kind, _ = kind_of(name) or ("", "")
    for rows, own in [(theirs, True), *([(everyone, False)] if person in OPERATORS else [])]:
        url = address(name, rows[kind])
        about_a_row = str(rows[kind].pk) in re.split("[/=]", url)
        allowed = expected(person, name, own=own, about_a_row=about_a_row)
        answer = browser.post(url) if name in POSTED else browser.get(url)
        assert answer.status_code in allowed, (url, own)
        if person in OUT:
            assert answer.headers["location"].startswith("/admin/login/")
        if 404 in allowed or 403 in allowed:
            before = state()
            sent = browser.post(url, {"post": "yes", "grace": "0", "name": "changed", "action": "delete_selected"})
            assert sent.status_code in allowed | {405}, (url, own)
            assert state() == before
    one_row_only = kind == "usage_alertrules"  # its list goes straight to the row
    if person in KINDS[kind].reads and name.endswith("_changelist") and not one_row_only:
        listed = {row.pk for row in answer.context["cl"].queryset}
        assert (everyone[kind].pk in listed) is (not foreign(person, KINDS[kind]))


@pytest.mark.parametrize("person", PEOPLE)
def test_a_test_call_is_made_with_keys_of_ones_own_clients(person: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(test_call, "make", lambda key, model: made.append(key) or test_call.Outcome(True, "hello"))
    agency = Agency()
    browser = agency.browser_of(person)
    agency.objects_of(agency.other)
    answer = browser.post(reverse("admin:test_call"), {"key": agency.plain, "model": "sandbox"})
    allowed = {"owner", "operator of all"}
    assert answer.status_code == (
        302 if person in OUT else 200 if person in allowed else 404 if person == "operator" else 403
    )
    assert made == ([agency.plain] if person in allowed else [])
    assert person in OUT or browser.get(reverse("admin:test_call")).status_code in {403, 405}


@pytest.mark.parametrize("person", sorted(OPERATORS))
def test_forms_sent_by_hand_move_nothing_across(person: str) -> None:
    agency = Agency()
    foreign_rows = agency.objects_of(agency.other)
    own = agency.objects_of(agency.people[person])
    browser = agency.browser_of(person)
    browser.post(
        reverse("admin:pricing_model_add"), {"name": "smuggled", "provider": foreign_rows["pricing_provider"].pk}
    )
    assert not Model.objects.filter(name="smuggled").exists()
    formsets = {
        f"{prefix}-{name}": 0
        for prefix in ("limits", "keys", "own_prices")
        for name in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    client = own["clients_client"]
    sent = {
        "name": "Renamed",
        "status": "active",
        "time_zone": "UTC",
        "cycle_start_day": 1,
        "brake_action": "slow",
        "markup_bp": "0",
        "owner": agency.other.pk,
        "seen_version": client.version,
    }
    answer = browser.post(reverse("admin:clients_client_change", args=[client.pk]), sent | formsets)
    assert answer.status_code == 302
    client.refresh_from_db()
    assert (client.name, client.owner) == ("Renamed", agency.people[person])
    onboarding = sent | {"limits-TOTAL_FORMS": 0, "limits-INITIAL_FORMS": 0, "token": str(uuid.uuid4()), "name": "New"}
    browser.post(reverse("admin:onboard"), onboarding)
    assert Client.objects.get(name="New").owner == agency.people[person]
    if person == "operator":
        smuggled = {"client": foreign_rows["clients_client"].pk, "name": "smuggled"}
        no_limits = {"limits-TOTAL_FORMS": 0, "limits-INITIAL_FORMS": 0}
        browser.post(reverse("admin:keys_apikey_add"), smuggled | no_limits)
        assert foreign_rows["clients_client"].keys.filter(name="smuggled").count() == 0


@pytest.mark.parametrize("person", sorted(ALL))
def test_search_choices_and_filters_hold_nothing_foreign(person: str) -> None:
    agency = Agency()
    rows = agency.objects_of(agency.other)
    browser = agency.browser_of(person)
    pages = [reverse("admin:search") + f"?extended=1&s={word}" for word in ("other", str(rows["usage_usagerecord"].pk))]
    pages += [reverse("admin:search") + "?s=other"]
    pages += [reverse(f"admin:{kind}_changelist") for kind, about in KINDS.items() if person in about.reads]
    pages += [reverse(f"admin:{kind}_add") for kind, about in KINDS.items() if person in about.writes]
    for page in pages:
        answer = browser.get(page)
        assert answer.status_code in {200, 302, 403}
        text = answer.content.decode()
        if person == "operator":
            assert "Client of other" not in text, page
            assert str(rows["usage_usagerecord"].pk) not in text.replace(page, ""), page
        if person in OPERATORS:
            assert "Provider of other" not in text, page
        if person in {"finance", "viewer"}:
            assert rows["keys_apikey"].hint not in text, page


@pytest.mark.parametrize("person", ["finance", "viewer"])
def test_readers_meet_no_hint_of_a_key(person: str) -> None:
    agency = Agency()
    rows = agency.objects_of(agency.other)
    provider = rows["pricing_provider"]
    provider.set_credential("sk-0123456789abcdefghWXYZ")
    provider.save()
    browser = agency.browser_of(person)
    for kind, about in KINDS.items():
        if person in about.reads:
            text = browser.get(reverse(f"admin:{kind}_change", args=[rows[kind].pk])).content.decode()
            assert rows["keys_apikey"].hint not in text
            assert "WXYZ" not in text
    guess = reverse("admin:pricing_provider_changelist") + "?credential_hint__startswith=W"
    assert browser.get(guess, follow=True).status_code in {400, 403}


def test_models_of_which_nobody_said_who_sees_them_are_not_registered() -> None:
    from django.contrib.auth.models import Group
    from django.contrib.sessions.models import Session
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured, match="who sees"):
        admin.site.register(Session)
    assert not admin.site.is_registered(Group)
