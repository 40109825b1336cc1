"""An operator signs in, makes a client with a limit, issues its key, sees it once, revokes it; in a real browser."""

import os
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from clients.models import Client
from keys.lifecycle import find
from keys.tokens import well_formed

PASSWORD = "correct horse battery staple"

pytestmark = pytest.mark.django_db(transaction=True)


class Operator:
    """What a person does with a browser, in a person's words."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def opens(self, path: str) -> None:
        self.browser.get(self.address + path)

    def types(self, text: str, field: str) -> None:
        box = self.browser.find_element(By.NAME, field)
        box.clear()
        box.send_keys(text)

    def chooses(self, value: str, field: str) -> None:
        Select(self.browser.find_element(By.NAME, field)).select_by_value(value)

    def clicks(self, selector: str) -> None:
        """Click what leads to another page, and wait until that page is whole."""
        self._leaves_by(self.browser.find_element(By.CSS_SELECTOR, selector))

    def follows(self, text: str) -> None:
        """Follow the link whose text holds `text`."""
        self._leaves_by(self.browser.find_element(By.PARTIAL_LINK_TEXT, text))

    def _leaves_by(self, element: WebElement) -> None:
        self.browser.execute_script("window.isOld = true")
        element.click()
        on_a_new_page = "return !window.isOld && document.readyState === 'complete'"
        WebDriverWait(self.browser, 20, ignored_exceptions=[WebDriverException]).until(
            lambda browser: browser.execute_script(on_a_new_page)
        )

    @property
    def sees(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def takes_a_picture(self, name: str) -> None:
        """Save the page for people to look at, where SCREENSHOTS names a folder."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.browser.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture
def operator(browser: webdriver.Chrome, live_server: LiveServer) -> Operator:
    get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)
    return Operator(browser, live_server.url)


def sign_in(operator: Operator) -> None:
    operator.opens("/admin/")
    operator.takes_a_picture("sign-in")
    operator.types("admin", "login")
    operator.types(PASSWORD, "password")
    operator.clicks("[type=submit]")


def test_a_client_from_nothing_to_a_revoked_key(operator: Operator) -> None:
    sign_in(operator)
    assert "Back office" in operator.sees
    operator.takes_a_picture("index")

    operator.opens("/admin/clients/client/add/")
    operator.types("Dental Clinic", "name")
    operator.chooses("credits", "limits-0-metric")
    operator.types("25.50", "limits-0-amount")
    operator.chooses("month", "limits-0-cycle")
    operator.takes_a_picture("client-add")
    operator.clicks("[name=_save]")
    client = Client.objects.get(name="Dental Clinic")
    limit = client.limits.get()
    assert (limit.metric, limit.amount, limit.cycle) == ("credits", 25_500_000_000_000, "month")
    operator.takes_a_picture("clients")

    operator.follows("Dental Clinic")
    operator.takes_a_picture("client")
    operator.clicks(".object-tools a[href*='/apikey/add/']")
    operator.types("their n8n", "name")
    operator.types("30d", "expires_in")
    operator.clicks("#content-main [type=submit]")
    operator.takes_a_picture("key-shown-once")
    key = operator.browser.find_element(By.ID, "new-key").text
    assert well_formed(key)
    assert find(key).client == client

    operator.browser.refresh()
    assert key not in operator.browser.page_source
    operator.browser.back()
    assert key not in operator.browser.page_source

    operator.opens(f"/admin/keys/apikey/{find(key).pk}/change/")
    operator.takes_a_picture("key")
    assert key not in operator.browser.page_source
    operator.clicks(".object-tools a[href$='/revoke/']")
    assert find(key).revoked_at is None
    operator.types("left the company", "reason")
    operator.clicks("#content-main [type=submit]")
    operator.takes_a_picture("key-revoked")
    assert find(key).revoked_at is not None
    assert "left the company" in operator.sees


def test_signing_out_closes_the_door(operator: Operator) -> None:
    sign_in(operator)
    operator.opens("/accounts/logout/")
    operator.takes_a_picture("sign-out")
    operator.clicks("#content-main [type=submit]")
    operator.opens("/admin/clients/client/")
    assert "/accounts/login/" in operator.browser.current_url
