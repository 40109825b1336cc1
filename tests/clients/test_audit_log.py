"""The audit log: what is written to it, by whom, and that it stays."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client as Browser
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from clients import access
from clients.access import Role, set_role
from clients.audit import entries_about
from clients.models import AuditEntry, Client, Limit
from clients.onboarding import create_client
from gateway_project.celery import app
from gateway_project.middleware import name_the_actor
from keys import handover
from keys.lifecycle import allow_models, issue, regenerate, revoke
from keys.models import APIKey
from pricing import audit
from pricing.actors import Actor, Door, acting
from pricing.models import Price, Provider
from tests.installation import Installation

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"
LOGGED_OTHERWISE = {
    "keys.keyuse",  # counts calls, which have records
    "keys.allowedmodel",  # with its key, by keys.lifecycle.allow_models
    "clients.importdraft",  # what is made of it is
}


def changes_of(entry: AuditEntry) -> dict[str, tuple[str, str]]:
    return {change.field: (change.before, change.after) for change in entry.told_changes()}


def last_about(row: models.Model) -> AuditEntry:
    return entries_about(row)[0]


def everything() -> str:
    return str(list(AuditEntry.objects.values()))


# --- who ------------------------------------------------------------------------------------------------------------


def test_the_back_office_tells_who_what_when_from_where_before_and_after(admin_client: Browser) -> None:
    acme = create_client("Acme")
    start = timezone.now()
    page = reverse("admin:clients_client_status", args=[acme.pk, "suspended"])
    answer = admin_client.post(page, {"reason": "unpaid"}, headers={"x-forwarded-for": "203.0.113.9"})
    assert answer.status_code == 302
    entry = last_about(acme)
    assert (entry.by, entry.actor, entry.actor_email) == ("admin", User.objects.get(), "admin@example.com")
    assert (entry.door, entry.remote_addr) == (Door.ADMIN, "203.0.113.9")
    assert (entry.act, entry.kind, entry.object_repr, entry.client) == ("changed", "client", "Acme", acme)
    assert start <= entry.timestamp <= timezone.now()
    assert changes_of(entry) == {"Status": ("Active", "Suspended"), "Status reason": ("", "unpaid")}


def test_the_api_is_another_door_of_the_same_person(admin_user: User) -> None:
    acme = create_client("Acme")

    def view(request: HttpRequest) -> HttpResponse:
        request.user = admin_user  # as a token's check does, late
        acme.suspend()
        return HttpResponse()

    request = RequestFactory().post("/api/clients/")
    request.user = User()
    name_the_actor(view)(request)
    assert (last_about(acme).door, last_about(acme).actor) == (Door.API, admin_user)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),  # who put the first one there is not known
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("<script>", None),
    ],
)
def test_the_address_is_what_the_gateway_says(told: str, kept: str | None) -> None:
    seen: list[str | None] = []

    def view(request: HttpRequest) -> HttpResponse:
        from pricing.actors import present

        seen.append(present().address)
        return HttpResponse()

    request = RequestFactory().get("/admin/", headers={"x-forwarded-for": told})
    request.user = User()
    name_the_actor(view)(request)
    assert seen == [kept]


def test_a_command_is_named_with_whose_shell_it_was(install: Callable[..., Installation]) -> None:
    installation = install()
    client = installation.manage("createclient", "Acme", "--limit", "requests=5/day").strip()
    installation.manage("createkey", "--client", client)
    entries = installation.python(
        "from clients.models import AuditEntry\n"
        "result = [(e.door, e.by, e.act, e.kind) for e in AuditEntry.objects.order_by('id')]"
    )
    mine = [entry for entry in entries if entry[1].startswith("command create")]
    assert [(door, by.split(" (")[0], act, kind) for door, by, act, kind in mine] == [
        ("command", "command createclient", "created", "client"),
        ("command", "command createclient", "created", "limit"),
        ("command", "command createkey", "created", "key"),
    ]


def test_what_happens_by_itself_is_named_after_the_task() -> None:
    acme = create_client("Acme")

    @app.task(name="tests.expire_clients")  # type: ignore[untyped-decorator]  # Celery ships no types
    def expire_clients() -> None:
        acme.suspend("ran out")

    expire_clients.apply(throw=True)
    assert (last_about(acme).door, last_about(acme).by) == (Door.AUTOMATIC, "automatic: expire_clients")
    assert last_about(acme).actor is None


def test_sign_ins_are_on_record_and_failed_ones_without_what_was_typed(admin_user: User) -> None:
    admin_user.set_password(PASSWORD)
    admin_user.save()
    browser = Browser()
    for login, password in (("admin", "wrong-Tr0ub4dor"), (PASSWORD, "x"), ("admin", PASSWORD)):
        browser.post(reverse("account_login"), {"login": login, "password": password})
    browser.post(reverse("admin:logout"))
    acts = [(entry.act, entry.by, entry.object_repr) for entry in AuditEntry.objects.filter(action=3).order_by("id")]
    assert acts == [
        ("failed to sign in as", "nobody known", "admin"),
        ("failed to sign in as", "nobody known", "an unknown name"),
        ("signed in as", "admin", "admin"),
        ("signed out as", "admin", "admin"),
    ]
    assert PASSWORD not in everything()
    assert "Tr0ub4dor" not in everything()


# --- what -----------------------------------------------------------------------------------------------------------


def test_all_that_people_change_is_logged_and_no_way_to_write_it_escapes() -> None:
    changed_by_people = {label for label, rule in access.RULES.items() if rule.writes} - LOGGED_OTHERWISE
    assert changed_by_people <= {model._meta.label_lower for model in audit.tracked()} | {"clients.auditentry"}
    for model in set(audit.tracked()) - {User}:
        assert isinstance(model._default_manager.all(), audit.Audited), f"bulk writes of {model} would not be logged"


def test_writes_in_bulk_are_logged() -> None:
    first, second = create_client("A"), create_client("B")
    Client.objects.filter(name="A").suspend("unpaid")
    assert changes_of(last_about(first))["Status"] == ("Active", "Suspended")
    assert last_about(second).act == "created"
    Limit.objects.bulk_create([Limit(client=second, metric="tokens", amount=7, cycle="day")])
    assert (last_about(second).act, last_about(second).object_repr) == ("created", "7 tokens a day")
    first.phone = "1"
    Client.objects.bulk_update([first], ["phone"])
    assert changes_of(last_about(first)) == {"Phone": ("", "1")}
    Limit.objects.all().delete()
    assert (last_about(second).act, last_about(second).client) == ("deleted", second)


def test_what_is_rolled_back_was_not_done() -> None:
    acme = create_client("Acme")
    with transaction.atomic():
        acme.suspend()
        Client.objects.update(phone="1")
        transaction.set_rollback(True)
    assert [entry.act for entry in entries_about(acme)] == ["created"]


def test_a_save_that_changes_nothing_is_no_entry() -> None:
    acme = create_client("Acme")
    acme.save()
    assert entries_about(acme).count() == 1


def test_values_are_said_as_people_say_them(admin_user: User) -> None:
    acme = create_client("Acme", ["credits=25/month"], markup_bp=1250)
    made, limit = entries_about(acme).order_by("id")
    assert changes_of(made)["Markup"] == ("", "12.5 %")
    assert changes_of(limit) == {
        "Amount": ("", "25.00 USD"),
        "Cycle": ("", "a month"),
        "Metric": ("", "Credits (USD charged)"),
    }
    key, _ = issue(acme, expires_in=timedelta(days=30))
    with timezone.override("Asia/Kathmandu"):
        assert changes_of(last_about(key))["Expires at"][1].endswith("+0545")


def test_no_secret_is_ever_in_it(admin_client: Browser, admin_user: User) -> None:
    secrets: list[str] = []
    provider = Provider(name="P", base_url="https://example.com/v1")
    for plain in ("sk-0123456789abcdefghWXYZ", "sk-another-0123456789-QRST"):
        provider.set_credential(plain)
        provider.save()
        secrets += [plain, plain[-4:], provider.credential_encrypted]
    call_command("reencrypt")
    secrets.append(Provider.objects.get(pk=provider.pk).credential_encrypted)
    acme = create_client("Acme")
    key, text = issue(acme, "n8n")
    new, other = regenerate(key)
    revoke(new, "leaked")
    for each, plain in ((key, text), (new, other)):
        secrets += [plain, plain[7:], bytes(each.digest).hex(), str(bytes(each.digest))]
    answer = admin_client.post(
        reverse("admin:auth_user_add"),
        {"username": "ana", "email": "ana@example.com", "role": "operator"},
    )
    assert answer.status_code == 302
    ana = User.objects.get(username="ana")
    secrets += [PASSWORD, ana.password]
    ana.set_password("another " + PASSWORD)
    ana.save()
    secrets.append(ana.password)
    wanted = {"client": acme.pk, "name": "", "expires_in": "", "limits-TOTAL_FORMS": 0, "limits-INITIAL_FORMS": 0}
    issued = admin_client.post(reverse("admin:keys_apikey_add"), wanted)
    assert issued.status_code == 302, issued.content
    logged = everything()
    assert not [secret for secret in secrets if secret in logged]
    assert changes_of(last_about(provider)) == {"Credential encrypted": (audit.HIDDEN, audit.HIDDEN)}
    assert changes_of(AuditEntry.objects.get_for_object(ana)[0]) == {"Password": (audit.HIDDEN, audit.HIDDEN)}


def test_no_column_of_what_is_logged_looks_like_a_secret() -> None:
    """A new field named so has to be hidden or left out."""
    from auditlog.registry import auditlog

    suspicious = ("credential", "password", "secret", "token", "digest", "totp", "seed", "hash")
    for model in audit.tracked():
        fields = auditlog.get_model_fields(model)
        for name in set(fields["include_fields"]) - set(fields["mask_fields"]):
            assert not any(word in name for word in suspicious if name != "above_tokens"), f"{model}.{name}"


# --- that it stays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.save(),
        lambda entry: entry.delete(),
        lambda entry: AuditEntry.objects.update(by="nobody"),
        lambda entry: AuditEntry.objects.all().delete(),
        lambda entry: AuditEntry.objects.bulk_update([entry], ["by"]),
    ],
)
def test_an_entry_is_never_changed_or_deleted(change: Callable[[AuditEntry], None]) -> None:
    create_client("Acme")
    before = everything()
    with pytest.raises(TypeError, match="never changed or deleted"):
        change(AuditEntry.objects.all()[0])
    assert everything() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda: models.QuerySet(AuditEntry).update(by="nobody"),
        lambda: models.QuerySet(AuditEntry)._raw_delete("default"),
        lambda: connection.cursor().execute("UPDATE clients_auditentry SET changes = NULL"),
        lambda: connection.cursor().execute("DELETE FROM clients_auditentry WHERE id > 0"),
    ],
)
def test_the_database_refuses_it_too(change: Callable[[], None]) -> None:
    create_client("Acme")
    before = everything()
    with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
        change()
    assert everything() == before


def test_people_and_clients_go_and_their_entries_stay() -> None:
    ana = User.objects.create_user("ana", "ana@example.com")
    with acting(Actor(Door.ADMIN, user=ana)):
        acme = create_client("Acme", ["requests=5/day"])
        client_id = acme.pk
        acme.delete()
    person_id = ana.pk
    ana.delete()
    entries = AuditEntry.objects.filter(client_id=client_id).order_by("id")
    assert [entry.act for entry in entries] == ["created", "created", "deleted", "deleted"]
    assert {(entry.by, entry.actor_email, entry.actor_id) for entry in entries} == {
        ("ana", "ana@example.com", person_id)
    }


def test_old_entries_may_be_let_go_and_that_is_logged() -> None:
    audit.log_event(create_client("New"), "seen", object_repr="Old", timestamp=timezone.now() - timedelta(days=800))
    call_command("pruneaudit", "--older-than", "730d")
    assert "Old" not in everything()
    entry = AuditEntry.objects.all()[0]
    assert (entry.act, entry.object_repr.split(" from before ")[0]) == ("deleted", "1 entries")
    with pytest.raises(DatabaseError), transaction.atomic():
        models.QuerySet(AuditEntry).update(by="nobody")


def test_a_keys_models_and_its_link_are_on_record(admin_user: User) -> None:
    key, plain = issue(create_client("Acme"))
    provider = Provider.objects.create(name="P", kind="sandbox")
    one, two = (provider.models.create(name=name) for name in ("m1", "m2"))
    allow_models(key, [one, two])
    allow_models(key, [one, two])
    allow_models(key, [two])
    told = [changes_of(entry) for entry in AuditEntry.objects.filter(event="set the models of key")]
    assert told == [{"Models": ("m1, m2", "m2")}, {"Models": ("all", "m1, m2")}]
    link, token = handover.make(key, plain, admin_user)
    assert handover.open_once(token, "203.0.113.9", "curl/8")
    entry = last_about(key)
    assert (entry.act, entry.kind, entry.client) == ("changed", "hand-over link", key.client)
    assert changes_of(entry)["Opened address"] == ("", "203.0.113.9")
    assert changes_of(entry)["Ciphertext"] == (audit.HIDDEN, "")
    for secret in (plain, token, link.ciphertext, bytes(link.digest).hex()):
        assert secret not in everything()


def test_prices_are_in_the_history_of_their_model(admin_user: User) -> None:
    provider = Provider.objects.create(name="P", kind="sandbox")
    model = provider.models.create(name="m")
    Price.objects.create(model=model, input=75_000, output=1)
    price = last_about(model)
    assert (price.act, price.kind) == ("created", "price")
    assert changes_of(price)["Input"] == ("", "0.075 USD per 1M tokens")
    assert APIKey.objects.count() == 0
    set_role(admin_user, Role.OWNER)
    assert admin_user.membership.pk is not None
    assert last_about(admin_user).kind == "membership"
