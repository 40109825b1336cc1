"""Operators sign in at /accounts/login/, over http on this machine and over https elsewhere; nobody signs up."""

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

PASSWORD = "correct horse battery staple"
HTTPS = {"HTTP_X_FORWARDED_PROTO": "https"}


@pytest.fixture(autouse=True)
def no_earlier_guesses() -> None:
    """Sign-in counts tries in the cache; those of other tests are not ours."""
    cache.clear()


@pytest.fixture
def operator(db: None) -> None:
    get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)


def sign_in(client: Client, login: str, password: str, **headers: str) -> int:
    return client.post("/accounts/login/", {"login": login, "password": password}, **headers).status_code


def test_the_admin_sends_strangers_to_the_one_sign_in(client: Client, db: None) -> None:
    assert client.get("/admin/").headers["location"].startswith("/admin/login/")
    assert client.get("/admin/login/?next=/admin/").headers["location"] == "/accounts/login/?next=%2Fadmin%2F"


@pytest.mark.parametrize("login", ["admin", "admin@example.com"])
def test_name_or_email(client: Client, operator: None, login: str) -> None:
    assert sign_in(client, login, PASSWORD) == 302
    assert client.get("/admin/").status_code == 200


def test_a_wrong_password_is_told_and_not_let_in(client: Client, operator: None) -> None:
    answer = client.post("/accounts/login/", {"login": "admin", "password": "wrong"})
    assert "not correct" in answer.content.decode()
    assert client.get("/admin/").status_code == 302


def test_guessing_is_slowed_down_per_caller_behind_the_gateway(client: Client, operator: None) -> None:
    guesser, colleague = "203.0.113.7", "203.0.113.8"
    for _ in range(10):
        client.post("/accounts/login/", {"login": "admin2", "password": "x"}, HTTP_X_FORWARDED_FOR=guesser)
    answer = client.post("/accounts/login/", {"login": "admin2", "password": "x"}, HTTP_X_FORWARDED_FOR=guesser)
    assert "Too many" in answer.content.decode()
    assert sign_in(client, "admin", PASSWORD, HTTP_X_FORWARDED_FOR=colleague) == 302


def test_sign_up_is_closed(client: Client, db: None) -> None:
    before = get_user_model().objects.count()
    form = {"username": "mallory", "email": "m@example.com", "password1": PASSWORD, "password2": PASSWORD}
    assert "made by an operator" in client.post("/accounts/signup/", form).content.decode()
    assert get_user_model().objects.count() == before


def test_signed_in_without_being_staff_is_no_way_into_the_admin(client: Client, db: None) -> None:
    get_user_model().objects.create_user("guest", "guest@example.com", PASSWORD)
    assert sign_in(client, "guest", PASSWORD) == 302
    assert client.get("/admin/login/?next=/admin/").status_code == 403


@pytest.mark.parametrize(("headers", "secure"), [({}, ""), (HTTPS, True)])
def test_cookies_are_secure_exactly_when_the_connection_is(
    client: Client, operator: None, headers: dict[str, str], secure: bool | str
) -> None:
    client.get("/accounts/login/", **headers)
    assert sign_in(client, "admin", PASSWORD, **headers) == 302
    assert {name: client.cookies[name]["secure"] for name in ("sessionid", "csrftoken")} == {
        "sessionid": secure,
        "csrftoken": secure,
    }
    assert client.cookies["sessionid"]["httponly"]
