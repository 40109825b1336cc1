"""A workflow takes a client on from a form: one POST, one client, however often it is sent."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser

from clients.access import Role, set_role
from clients.access_tokens import make
from clients.models import Client
from keys.models import APIKey
from keys.tokens import digest

pytestmark = pytest.mark.django_db
BODY = {"name": "Acme", "limits": ["requests=100/day"], "key_name": "n8n"}


def send(role: Role, body: Any, scopes: tuple[str, ...] = ("clients:write", "keys:write"), once: str = "form-1") -> Any:
    user, _ = User.objects.get_or_create(username="ana")
    set_role(user, role)
    _, plain = make(user, "n8n", scopes)
    headers = {"authorization": f"Bearer {plain}", "idempotency-key": once}
    return Browser().post("/api/onboard/", body, content_type="application/json", headers=headers)


def test_a_client_is_taken_on_once_and_its_key_is_told_once() -> None:
    User.objects.create_superuser("boss")
    first = send(Role.OPERATOR, BODY)
    assert first.status_code == 201
    assert APIKey.objects.get().digest == digest(first.json()["key"]["text"])
    assert Client.objects.get().owner == User.objects.get(username="ana")
    again = send(Role.OPERATOR, BODY)
    assert (again.status_code, again.json()["key"]["text"]) == (200, None)
    assert Client.objects.count() == APIKey.objects.count() == 1


def test_a_repeat_tells_nothing_of_a_client_that_became_somebody_elses() -> None:
    User.objects.create_superuser("boss")
    assert send(Role.OPERATOR, BODY).status_code == 201
    Client.objects.update(owner=User.objects.get(username="boss"))
    again = send(Role.OPERATOR, BODY)
    assert again.status_code == 404
    assert "Acme" not in again.content.decode()


@pytest.mark.parametrize(
    "body",
    [BODY | {"owner": 1}, BODY | {"status": "active"}, BODY | {"limits": ["x"]}, {}, BODY | {"plan": "none"}, []],
)
def test_what_is_not_fit_makes_nothing(body: Any) -> None:
    answer = send(Role.OPERATOR, body)
    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert not Client.objects.exists()


def test_it_takes_the_role_both_scopes_and_a_key_for_repeats() -> None:
    assert send(Role.VIEWER, BODY).status_code == 403
    assert send(Role.OPERATOR, BODY, ("clients:write",)).status_code == 403
    assert send(Role.OPERATOR, BODY, once="").status_code == 400
    assert not Client.objects.exists()
