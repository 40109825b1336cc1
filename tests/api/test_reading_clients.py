"""Clients through the REST API: one's own, with a token that has the scope, and nothing else."""

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser

from clients.access import Role, set_role
from clients.access_tokens import make, revoke
from clients.onboarding import create_client

pytestmark = pytest.mark.django_db


def person(name: str, role: Role) -> User:
    user = User.objects.create_user(name)
    set_role(user, role)
    return user


def test_an_operator_reads_his_own_clients() -> None:
    ana = person("ana", Role.OPERATOR)
    own = create_client("Own", ["requests=100/day"], owner=ana)
    foreign = create_client("Foreign", owner=person("ben", Role.OPERATOR))
    _, plain = make(ana, "n8n", ["clients:read"])
    bearer = {"authorization": f"Bearer {plain}"}
    listed = Browser().get("/api/clients/", headers=bearer).json()
    assert [(row["name"], row["limits"]) for row in listed["results"]] == [("Own", ["100 requests a day"])]
    assert Browser().get(f"/api/clients/{own.pk}/", headers=bearer).json()["name"] == "Own"
    answer = Browser().get(f"/api/clients/{foreign.pk}/", headers=bearer)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert Browser().post("/api/clients/", {"name": "x"}, headers=bearer).status_code in {403, 405}


def test_without_a_token_that_works_and_the_scope_nothing_is_read() -> None:
    ana = person("ana", Role.VIEWER)
    browser = Browser()
    browser.force_login(ana)
    assert browser.get("/api/clients/").status_code == 401
    token, plain = make(ana, "n8n", ["clients:read"])
    bearer = {"authorization": f"Bearer {plain}"}
    assert Browser().get("/api/clients/", headers=bearer).status_code == 200
    revoke(token)
    assert Browser().get("/api/clients/", headers=bearer).status_code == 401
    _, plain = make(ana, "n8n", ["usage:read"])
    answer = Browser().get("/api/clients/", headers={"authorization": f"Bearer {plain}"})
    assert (answer.status_code, answer.json()["detail"]) == (403, "This token does not have the scope clients:read.")
