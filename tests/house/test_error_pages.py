"""What somebody sees where there is no page, where it is not theirs, or where it broke; and what pages are called."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.views.defaults import server_error

from clients.access import Role, set_role
from clients.onboarding import create_client
from keys.lifecycle import issue

pytestmark = pytest.mark.django_db


def said(answer: object, status: int) -> str:
    assert answer.status_code == status  # type: ignore[attr-defined]
    return " ".join(answer.content.decode().split())  # type: ignore[attr-defined]


def test_a_page_that_is_not_there_says_so_and_leads_home(admin_client: Browser) -> None:
    for path in ("/nowhere/", "/admin/clients/client/99999/change/", "/admin/clients/client/99999/status/suspended/"):
        text = said(admin_client.get(path), 404)
        assert "Nothing here" in text
        assert 'href="/admin/"' in text


def test_a_page_of_another_role_says_who_can_help() -> None:
    fiona = User.objects.create_user("fiona")
    set_role(fiona, Role.FINANCE)
    browser = Browser()
    browser.force_login(User.objects.get(pk=fiona.pk))
    assert "An owner can give you another one" in said(browser.get("/admin/keys/apikey/"), 403)


def test_an_old_form_says_what_to_do() -> None:
    browser = Browser(enforce_csrf_checks=True)
    text = said(browser.post("/accounts/login/", {"login": "admin", "password": "x"}), 403)
    assert "load the page again" in text


def test_what_broke_tells_where_it_is_told(rf: object) -> None:
    text = said(server_error(rf.get("/admin/")), 500)  # type: ignore[attr-defined]
    assert "The gateway’s calls go on" in text
    assert "Traceback" not in text


def test_pages_are_called_by_what_they_show_and_whose_it_is(admin_client: Browser) -> None:
    key, _ = issue(create_client("Dental Clinic"), "n8n")
    titles = {
        "/admin/": "Home",
        "/admin/clients/client/": "Clients",
        "/admin/keys/apikey/": "Keys",
        "/admin/usage/usagerecord/": "Usage",
        "/admin/pricing/model/": "Models & prices",
        "/admin/auth/user/": "Team",
        f"/admin/clients/client/{key.client_id}/change/": "Dental Clinic | Change client",
        f"/admin/keys/apikey/{key.pk}/change/": f"{key}, key of Dental Clinic",
        f"/admin/keys/apikey/{key.pk}/revoke/": f"Revoke {key} of Dental Clinic",
        f"/admin/keys/apikey/{key.pk}/regenerate/": f"Regenerate {key} of Dental Clinic",
    }
    for path, title in titles.items():
        found = re.search(r"<title>(.*?)</title>", admin_client.get(path).content.decode(), re.DOTALL)
        assert found, path
        assert " ".join(found[1].split()).replace("&amp;", "&") == f"{title} | LLM gateway", path
