"""Every address of the REST API: closed without a token, without the scope, and for what is somebody else's."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.access_tokens import SCOPES, make, revoke
from clients.models import Plan
from clients.onboarding import create_client
from gateway_project.urls import api
from keys.lifecycle import issue
from pricing.models import Model, Provider
from tests.usage.test_pages import call
from usage.closing import close, drafts

pytestmark = pytest.mark.django_db

OPEN = {"api_schema", "api_docs"}
LONG_AGO = date(2025, 1, 1)
SCOPE_OF = {
    ("api_clients", "get"): "clients:read",
    ("api_client", "get"): "clients:read",
    ("api_client", "patch"): "clients:write",
    ("api_client_limits", "get"): "clients:read",
    ("api_client_limits", "put"): "clients:write",
    ("api_client_prices", "get"): "clients:read",
    ("api_client_prices", "put"): "clients:write",
    ("api_client_plan", "post"): "clients:write",
    ("api_client_suspend", "post"): "clients:write",
    ("api_client_activate", "post"): "clients:write",
    ("api_client_archive", "post"): "clients:write",
    ("api_onboard", "post"): "clients:write",
    ("api_plans", "get"): "clients:read",
    ("api_plans", "post"): "clients:write",
    ("api_plan", "patch"): "clients:write",
    ("api_keys", "get"): "keys:read",
    ("api_keys", "post"): "keys:write",
    ("api_key", "get"): "keys:read",
    ("api_key_regenerate", "post"): "keys:write",
    ("api_key_revoke", "post"): "keys:write",
    ("api_models", "get"): "prices:read",
    ("api_model", "get"): "prices:read",
    ("api_model", "patch"): "prices:write",
    ("api_model_prices", "get"): "prices:read",
    ("api_model_prices", "post"): "prices:write",
    ("api_providers", "get"): "prices:read",
    ("api_usage", "get"): "usage:read",
    ("api_usage_record", "get"): "usage:read",
    ("api_usage_summary", "get"): "usage:read",
    ("api_costs", "get"): "usage:read",
    ("api_health", "get"): "usage:read",
    ("api_statements", "get"): "usage:read",
    ("api_statement", "get"): "usage:read",
    ("api_statement_pdf", "get"): "usage:read",
    ("api_closing", "get"): "usage:read",
    ("api_closing", "post"): "statements:write",
}
BY = {("api_closing", "get"): "fina", ("api_closing", "post"): "fina"}
BY |= {("api_plans", "post"): "olga", ("api_plan", "patch"): "olga"}
"""What an operator does not do, and who does."""
WRITES = [act for act in SCOPE_OF if act[1] != "get"]


class Agency:
    """Two operators, each with a client, a key, a call, and a model at a provider of theirs; three of other roles."""

    def __init__(self) -> None:
        self.people = {}
        self.rows: dict[str, dict[str, Any]] = {}
        roles = {"ana": Role.OPERATOR, "ben": Role.OPERATOR, "vera": Role.VIEWER, "fina": Role.FINANCE}
        for name, role in {**roles, "olga": Role.OWNER}.items():
            self.people[name] = User.objects.create_user(name)
            set_role(self.people[name], role)
        for name in ("ana", "ben"):
            owner = self.people[name]
            client = create_client(f"Of {name}", owner=owner)
            client.created_at = datetime(2025, 1, 1, tzinfo=UTC)
            provider = Provider.objects.create(name=f"At {name}", base_url="https://127.0.0.1/v1", owner=owner)
            model = Model.objects.create(name=f"model-{name}", provider=provider)
            key, _ = issue(client, "n8n")
            record = call(client, key=key)
            record.save(force_insert=True)
            statement = close(drafts([client], LONG_AGO, timezone.now())[0], None, timezone.now())
            self.rows[name] = {"client": client.pk, "key": key.pk, "model": model.pk, "usage": record.pk}
            plan = Plan.objects.get_or_create(name="Basic")[0]
            self.rows[name] |= {"statement": statement.number, "closing": "2025-02", "plan": plan.pk}

    def url(self, name: str, whose: str) -> str:
        kind = name.removeprefix("api_").split("_")[0]
        try:
            return reverse(name)
        except Exception:
            return reverse(name, args=[self.rows[whose][kind]])

    def bearer(self, person: str, *scopes: str) -> dict[str, str]:
        return {"authorization": f"Bearer {make(self.people[person], 'n8n', scopes)[1]}"}


def send(method: str, url: str, headers: dict[str, str]) -> Any:
    body = {} if method == "get" else {"data": "{}", "content_type": "application/json"}
    return getattr(Browser(), method)(url, headers=headers, **body)


def methods() -> Iterator[tuple[str, str]]:
    for pattern in api:
        view = pattern.callback.view_class
        for method in ("get", "post", "put", "patch", "delete"):
            if pattern.name not in OPEN and hasattr(view, method):
                yield pattern.name, method


def test_every_address_is_known() -> None:
    assert set(methods()) == set(SCOPE_OF), f"say in {__name__} which scope each address asks for"


@pytest.mark.parametrize(("name", "method"), sorted(SCOPE_OF))
def test_nothing_is_done_without_a_token_or_without_its_scope(name: str, method: str) -> None:
    agency = Agency()
    url = agency.url(name, "ana")
    scope = SCOPE_OF[name, method]
    person = BY.get((name, method), "ana")
    browser = Browser()
    browser.force_login(agency.people[person])
    assert getattr(browser, method)(url).status_code == 401  # a session of the back office is none here
    assert send(method, url, {"authorization": "Bearer llm_api_" + "x" * 43}).status_code == 401
    others = agency.bearer(person, *(one for one in SCOPES if one != scope))
    refused = send(method, url, others)
    assert refused.status_code == 403
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert scope in refused.json()["detail"]
    allowed = send(method, url, agency.bearer(person, *SCOPES))
    assert allowed.status_code in {200, 201, 400}


@pytest.mark.parametrize(("name", "method"), sorted(SCOPE_OF))
def test_what_is_somebody_elses_is_not_found(name: str, method: str) -> None:
    agency = Agency()
    url = agency.url(name, "ben")
    answer = send(method, url, agency.bearer("ana", *SCOPES))
    if url != agency.url(name, "ana"):
        assert answer.status_code == 404
    elif answer.status_code == 200 and hasattr(answer, "content"):
        assert "ben" not in answer.content.decode()


@pytest.mark.parametrize(("name", "method"), sorted(WRITES))
def test_a_token_does_no_more_than_the_role_of_its_person(name: str, method: str) -> None:
    agency = Agency()
    answer = send(method, agency.url(name, "ana"), agency.bearer("vera", *SCOPES))
    assert answer.status_code in {403, 404}


def test_a_token_ends_with_its_person_and_when_it_is_revoked() -> None:
    agency = Agency()
    ana = agency.people["ana"]
    token, plain = make(ana, "n8n", SCOPES)
    bearer = {"authorization": f"Bearer {plain}"}
    url = reverse("api_clients")
    assert Browser().get(url, headers=bearer).status_code == 200
    ana.is_active = False
    ana.save()
    assert Browser().get(url, headers=bearer).status_code == 401
    ana.is_active = True
    ana.save()
    assert Browser().get(url, headers=bearer).status_code == 200
    revoke(token)
    assert Browser().get(url, headers=bearer).status_code == 401


def test_who_guesses_tokens_is_slowed_down_and_a_right_one_is_served() -> None:
    agency = Agency()
    url = reverse("api_clients")
    wrong = {"authorization": "Bearer llm_api_" + "x" * 43}
    answers = [Browser().get(url, headers=wrong) for _ in range(22)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert Browser().get(url, headers=agency.bearer("ana", *SCOPES)).status_code == 200


def test_the_schema_and_its_page_are_there_for_everybody_and_say_nothing_of_anybody() -> None:
    Agency()
    schema = Browser().get(reverse("api_schema"), headers={"accept": "application/json"}).json()
    assert len(schema["paths"]) == len(api) - len(OPEN)
    assert schema["paths"]["/api/onboard/"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    page = Browser().get(reverse("api_docs")).content.decode()
    assert "https://" not in page
    assert "<script>" not in page
