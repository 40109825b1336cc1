"""A workflow takes a client on from a form: one POST, one client, however often it is sent."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.utils import timezone

from clients.access import Role, set_role
from clients.access_tokens import make
from clients.idempotency import KEPT, forget
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


def test_a_repeat_that_asks_for_something_else_is_refused() -> None:
    assert send(Role.OPERATOR, BODY).status_code == 201
    other = send(Role.OPERATOR, BODY | {"limits": ["requests=999/day"]})
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["detail"]
    assert str(Client.objects.get().limits.get()) == "100 requests a day"


def test_what_was_refused_may_be_mended_and_sent_again_with_the_same_key() -> None:
    assert send(Role.OPERATOR, BODY | {"limits": ["x"]}).status_code == 400
    assert send(Role.OPERATOR, BODY).status_code == 201


def test_two_people_may_send_the_same_idempotency_key() -> None:
    assert send(Role.OPERATOR, BODY).status_code == 201
    _, plain = make(User.objects.create_superuser("boss"), "n8n", ("clients:write", "keys:write"))
    headers = {"authorization": f"Bearer {plain}", "idempotency-key": "form-1"}
    answer = Browser().post("/api/onboard/", BODY | {"name": "Other"}, content_type="application/json", headers=headers)
    assert answer.status_code == 201


def test_a_key_that_is_asked_for_twice_is_issued_once() -> None:
    assert send(Role.OPERATOR, BODY).status_code == 201
    _, plain = make(User.objects.get(username="ana"), "n8n", ("keys:write",))
    headers = {"authorization": f"Bearer {plain}", "idempotency-key": "staging-1"}
    body = {"client": Client.objects.get().pk, "name": "staging"}
    issued = [
        Browser().post("/api/keys/", asked, content_type="application/json", headers=headers)
        for asked in (body, body, body | {"name": "another"}, body | {"hand_over": True})
    ]
    assert [answer.status_code for answer in issued] == [201, 200, 422, 422]
    assert issued[0].json()["text"].startswith("llm_gw_")
    assert issued[1].json()["text"] is None
    assert issued[1].json()["key"] == issued[0].json()["key"]
    assert APIKey.objects.filter(name="staging").count() == 1
    assert not APIKey.objects.filter(name="another").exists()


def test_idempotency_keys_are_forgotten_after_a_week() -> None:
    assert send(Role.OPERATOR, BODY).status_code == 201
    assert forget(timezone.now() + KEPT - timedelta(minutes=1)) == 0
    assert forget(timezone.now() + KEPT + timedelta(minutes=1)) == 1
    assert send(Role.OPERATOR, BODY).status_code == 400  # a client of that name is there
