"""Providers in the back office: keys go in and never come out, connections are tested, models imported."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients.access import Role, set_role
from pricing.models import Model, Provider
from tests.pricing.servers import Server, answer

CANARY = "sk-canary-0123456789abcdefWXYZ"
PASSWORD = "correct horse battery staple"
LIST = json.dumps({"data": [{"id": name} for name in ("gpt-4o-mini", "my-llama", "here")]}).encode()


@pytest.fixture(autouse=True)
def local(settings: Settings) -> None:
    """No name server is asked, and sign-ins of earlier tests are no guesses."""
    cache.clear()
    settings.ALLOW_PRIVATE_PROVIDERS = True


def signed_in(name: str, role: Role) -> Browser:
    """A browser of somebody who has just signed in on the sign-in page."""
    set_role(User.objects.create_user(name, password=PASSWORD), role)
    browser = Browser()
    answered = browser.post(reverse("account_login"), {"login": name, "password": PASSWORD})
    assert answered.status_code == 302, answered.content.decode()[-2000:]
    return browser


@pytest.fixture
def browser(db: None) -> Browser:
    return signed_in("olga", Role.OWNER)


def add_form(**fields: Any) -> dict[str, Any]:
    return {
        "name": "local",
        "base_url": "http://127.0.0.1:11434/v1/",
        "connect_timeout": 5,
        "first_byte_timeout": 600,
        "idle_timeout": 300,
        "total_timeout": 1800,
    } | fields


def made(base_url: str = "http://127.0.0.1:11434/v1", key: str = CANARY, **fields: Any) -> Provider:
    provider = Provider(name="local", base_url=base_url, **fields)
    provider.set_credential(key)
    provider.save()
    return provider


def address(page: str, provider: Provider) -> str:
    return reverse(f"admin:pricing_provider_{page}", args=[provider.pk])


def text(answered: Any) -> str:
    assert answered.status_code == 200, answered.status_code
    return " ".join(answered.content.decode().split())


# --- keys ---


def test_a_key_goes_in_and_never_comes_out(browser: Browser) -> None:
    shown = text(browser.post(reverse("admin:pricing_provider_add"), add_form(new_credential=CANARY), follow=True))
    assert CANARY not in shown
    provider = Provider.objects.get()
    assert provider.credential() == CANARY
    assert provider.base_url == "http://127.0.0.1:11434/v1"
    pages = [reverse("admin:pricing_provider_changelist"), address("change", provider), address("connection", provider)]
    for page in pages:
        shown = text(browser.get(page))
        assert "…WXYZ" in shown
        assert CANARY not in shown
        assert provider.credential_encrypted not in shown
    assert CANARY not in text(browser.get(address("history", provider)))


def test_a_new_key_replaces_the_present_one_and_a_box_removes_it(browser: Browser) -> None:
    provider = made()
    url = address("connection", provider)
    browser.post(url, {"base_url": "http://127.0.0.1:11434/v2"})
    provider.refresh_from_db()
    assert (provider.credential(), provider.base_url) == (CANARY, "http://127.0.0.1:11434/v2")
    both = browser.post(url, {"base_url": provider.base_url, "new_credential": "sk-x", "remove_credential": "on"})
    assert "Either enter a new key" in text(both)
    browser.post(url, {"base_url": provider.base_url, "new_credential": "sk-new-0123456789-LAST"})
    provider.refresh_from_db()
    assert provider.credential() == "sk-new-0123456789-LAST"
    browser.post(url, {"base_url": provider.base_url, "remove_credential": "on"})
    provider.refresh_from_db()
    assert provider.credential() == ""


def test_the_settings_page_changes_neither_address_nor_key(browser: Browser) -> None:
    provider = made()
    form = add_form(base_url="http://evil.example", new_credential="sk-other", idle_timeout=60, enabled="on")
    assert browser.post(address("change", provider), form).status_code == 302
    provider.refresh_from_db()
    assert (provider.idle_timeout, provider.base_url, provider.credential()) == (
        60,
        "http://127.0.0.1:11434/v1",
        CANARY,
    )


def test_a_stored_key_does_not_follow_to_another_server(browser: Browser) -> None:
    provider = made()
    shown = text(browser.post(address("connection", provider), {"base_url": "https://evil.example/v1"}))
    assert "Enter the key together with the new address" in shown
    with Server(answer(200, LIST)) as thief:
        shown = text(browser.post(address("test", provider), {"base_url": thief.url()}, headers={"HX-Request": "true"}))
    assert "Enter the key together with the new address" in shown
    assert thief.connections == 0


def test_a_refused_form_does_not_echo_the_key(browser: Browser) -> None:
    url = reverse("admin:pricing_provider_add")
    refused = text(browser.post(url, add_form(base_url="gopher://x", new_credential=CANARY)))
    assert "must start with https://" in refused
    assert CANARY not in refused
    assert "one word" in text(browser.post(url, add_form(new_credential="sk a")))
    assert "at most 4000" in text(browser.post(url, add_form(new_credential="x" * 5000)))
    assert not Provider.objects.exists()


def test_a_private_address_is_refused_in_words(browser: Browser, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = False
    shown = text(browser.post(reverse("admin:pricing_provider_add"), add_form(base_url="https://169.254.169.254/v1")))
    assert "not a public address" in shown
    assert not Provider.objects.exists()


# --- a fresh sign-in ---


def test_address_and_key_ask_for_a_fresh_sign_in(browser: Browser) -> None:
    provider = made()
    url = address("connection", provider)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        asked = browser.get(url)
        assert asked.status_code == 302
        assert asked.headers["location"].startswith(reverse("account_reauthenticate"))
        again = browser.post(asked.headers["location"], {"password": PASSWORD})
        assert again.headers["location"] == url
        assert browser.get(url).status_code == 200


def test_a_key_sent_too_late_is_neither_taken_nor_kept(browser: Browser) -> None:
    provider = made()
    late = "sk-late-0123456789abcdef"
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        asked = browser.post(address("connection", provider), {"base_url": provider.base_url, "new_credential": late})
        assert asked.headers["location"].startswith(reverse("account_reauthenticate"))
        for session in Session.objects.all():
            assert late not in json.dumps(session.get_decoded())
        browser.post(asked.headers["location"], {"password": PASSWORD})
        assert "enter it once more" in text(browser.get(address("connection", provider)))
    provider.refresh_from_db()
    assert provider.credential() == CANARY


# --- test connection ---


def test_a_saved_connection_is_tested_in_words(browser: Browser) -> None:
    with Server(answer(200, LIST)) as server:
        provider = made(server.url())
        shown = text(browser.post(address("test", provider), headers={"HX-Request": "true"}))
        assert "Works: 3 models listed" in shown
        assert f"Bearer {CANARY}" in server.heads[0]
        assert "Works: 3 models listed" in text(browser.post(address("test", provider), follow=True))
    assert browser.get(address("test", provider)).status_code == 405


def test_a_connection_that_is_not_saved_is_tested_with_what_is_on_the_page(browser: Browser) -> None:
    sent = {"new_credential": "sk-typed"}
    with Server(answer(401)) as server:
        provider = made(server.url())
        for url in (reverse("admin:pricing_provider_test_new"), address("test", provider)):
            shown = text(browser.post(url, sent | {"base_url": server.url(path="/v2")}, headers={"HX-Request": "true"}))
            assert "The provider refuses the key." in shown
            assert "sk-typed" not in shown
        assert [head.split()[1] for head in server.heads] == ["/v2/models"] * 2
        assert all("Bearer sk-typed" in head for head in server.heads)
    provider.refresh_from_db()
    assert provider.credential() == CANARY


def test_what_a_provider_says_is_not_markup(browser: Browser) -> None:
    with Server(answer(302, b"", "location: https://x.example/<script>alert(1)</script>")) as server:
        provider = made(server.url())
        shown = text(browser.post(address("test", provider), headers={"HX-Request": "true"}))
    assert "sends us elsewhere" in shown
    assert "<script" not in shown


# --- import ---


def test_models_are_imported_from_the_providers_list(browser: Browser) -> None:
    with Server(answer(200, LIST)) as server:
        provider = Provider.objects.create(name="openai", base_url=server.url())
        Model.objects.create(name="alias", upstream_name="here", provider=provider)
        shown = text(browser.get(address("import", provider)))
    assert "lists 3 models; 2 of them are not here yet" in shown
    assert re.search(r'value="gpt-4o-mini".*?found.*?0\.15.*?0\.60', shown)
    assert re.search(r'value="my-llama".*?no price: not in the catalogue', shown)
    assert "here as alias" in shown
    assert 'value="here"' not in shown
    done = browser.post(address("import", provider), {"model": ["gpt-4o-mini", "my-llama"]}, follow=True)
    assert "2 models imported from openai" in text(done)
    assert "switched off: my-llama" in text(done)
    assert dict(Model.objects.values_list("name", "enabled")) == {"alias": True, "gpt-4o-mini": True, "my-llama": False}
    assert Model.objects.get(name="gpt-4o-mini").prices.first().created_by.username == "olga"
    twice = browser.post(address("import", provider), {"model": ["gpt-4o-mini"]}, follow=True)
    assert "1 were here already" in text(twice)


def test_a_list_that_cannot_be_had_is_told_on_the_page(browser: Browser) -> None:
    with Server(answer(404)) as server:
        shown = text(browser.get(address("import", made(server.url(path="/api")))))
    assert "There is no list of models at" in shown
    assert "Try again" in shown


def test_an_import_of_nothing_or_of_junk_says_so(browser: Browser) -> None:
    with Server(answer(200, LIST)) as server:
        provider = made(server.url())
        assert "Tick the models to import" in text(browser.post(address("import", provider)))
        assert "cannot be a model" in text(browser.post(address("import", provider), {"model": ["two words"]}))
    assert not Model.objects.exists()


# --- whose ---


def test_an_operators_provider_is_the_operators_whatever_names_others_took(db: None) -> None:
    made()
    browser = signed_in("ann", Role.OPERATOR)
    assert browser.post(reverse("admin:pricing_provider_add"), add_form()).status_code == 302
    assert Provider.objects.get(owner__username="ann").name == "local"
    assert "already a provider of that name" in text(browser.post(reverse("admin:pricing_provider_add"), add_form()))


def test_operators_read_shared_providers_and_change_nothing_of_them(db: None) -> None:
    provider = made()
    browser = signed_in("ann", Role.OPERATOR)
    shown = text(browser.get(address("change", provider)))
    assert "http://127.0.0.1:11434/v1" in shown
    assert "Test connection" not in shown
    assert "WXYZ" not in text(browser.get(reverse("admin:pricing_provider_changelist")))


def test_the_list_asks_the_database_as_often_for_many(browser: Browser, django_assert_max_num_queries: Any) -> None:
    owner = User.objects.get()
    for number in range(30):
        Model.objects.create(
            name=f"m{number}",
            provider=Provider.objects.create(name=f"p{number}", base_url="https://example.com", owner=owner),
        )
    with django_assert_max_num_queries(14):
        browser.get(reverse("admin:pricing_provider_changelist"))
