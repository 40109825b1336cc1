"""A key handed over by a link, with a chat's preview between the operator and the client."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from clients.models import Client
from clients.onboarding import create_client
from keys.lifecycle import find
from keys.models import APIKey, Handover
from keys.tokens import well_formed
from tests.browser.axe import assert_usable
from tests.browser.conftest import start_chromium
from tests.browser.operator import Operator, sign_in

pytestmark = pytest.mark.django_db(transaction=True)
PREVIEW = {"user-agent": "WhatsApp/2.23 W", "accept": "*/*"}


@pytest.fixture
def clinic(operator: Operator, tmp_path: Path) -> Iterator[Operator]:
    """The client's own browser, in which nobody has signed in."""
    browser: webdriver.Chrome
    with start_chromium(tmp_path / "clinic") as browser:
        yield Operator(browser, operator.address)


def link_for_a_new_key(operator: Operator, client: Client) -> tuple[str, str]:
    """Issue a key and make a link for it; return the link's path and the key's text."""
    operator.opens(f"/admin/keys/apikey/add/?client={client.pk}")
    operator.clicks("#content-main [type=submit]")
    plain = operator.browser.find_element(By.ID, "new-key").text
    assert well_formed(plain)
    operator.clicks("form[action$='/handover/'] [type=submit]")
    operator.takes_a_picture("key-link-made")
    assert_usable(operator.browser)
    link = operator.browser.find_element(By.ID, "link").text
    assert link.startswith(f"{operator.address}/keys/")
    assert plain not in operator.browser.page_source
    return link.removeprefix(operator.address), plain


def test_it_shows_the_key_once_after_a_click_and_the_operator_sees_when_and_from_where(
    operator: Operator, clinic: Operator
) -> None:
    sign_in(operator)
    path, plain = link_for_a_new_key(operator, create_client("Dental Clinic"))
    page = f"/admin/keys/apikey/{find(plain).pk}/change/"
    operator.opens(page)
    assert "not opened yet" in operator.sees

    for look in (httpx.get, httpx.head):
        assert look(operator.address + path, headers=PREVIEW).status_code == 200
    clinic.opens(path)
    assert "Dental Clinic" in clinic.sees
    assert plain not in clinic.browser.page_source
    clinic.takes_a_picture("link-before")
    clinic.clicks("main [type=submit]")
    assert clinic.browser.find_element(By.ID, "new-key").text == plain
    clinic.takes_a_picture("link-opened")
    for width in (1200, 320):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        clinic.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        box = clinic.browser.find_element(By.CSS_SELECTOR, "p:has(> #new-key)")
        assert not clinic.browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
    assert_usable(clinic.browser)

    clinic.opens(path)
    assert plain not in clinic.browser.page_source
    assert "Dental Clinic" not in clinic.sees
    clinic.takes_a_picture("link-over")
    assert Handover.objects.get().ciphertext == ""
    operator.opens(page)
    assert "opened on" in operator.sees
    assert "from 127.0.0.1" in operator.sees
    assert "Chrome" in operator.sees
    errors = [entry for entry in clinic.browser.get_log("browser") if "404" not in entry["message"]]
    assert not errors


def test_it_dies_with_the_key(operator: Operator, clinic: Operator) -> None:
    sign_in(operator)
    path, plain = link_for_a_new_key(operator, create_client("Dental Clinic"))
    clinic.opens(path)
    operator.opens(f"/admin/keys/apikey/{APIKey.objects.get().pk}/revoke/")
    operator.types("sent to the wrong person", "reason")
    operator.clicks("#content-main [type=submit]")
    clinic.clicks("main [type=submit]")
    assert plain not in clinic.browser.page_source
    assert "Dental Clinic" not in clinic.sees
    assert Handover.objects.get().ciphertext == ""
