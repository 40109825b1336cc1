"""An operator signs in, makes a client with a limit, issues its key, sees it once, revokes it; in a real browser."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from clients.models import Client
from keys.lifecycle import find
from keys.tokens import well_formed
from tests.browser.axe import assert_usable
from tests.browser.operator import Operator, sign_in

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_client_from_nothing_to_a_revoked_key(operator: Operator) -> None:
    sign_in(operator)
    assert "Back office" in operator.sees
    operator.takes_a_picture("index")

    operator.opens("/admin/clients/client/")
    operator.clicks("a[href$='/clients/client/add/']")
    operator.types("Dental Clinic", "name")
    operator.chooses("credits", "limits-0-metric")
    operator.types("25.50", "limits-0-amount")
    operator.chooses("30d", "expires_in")
    operator.takes_a_picture("client-new-filled")
    operator.clicks("#content-main [type=submit]")
    client = Client.objects.get(name="Dental Clinic")
    limit = client.limits.get()
    assert (limit.metric, limit.amount, limit.cycle) == ("credits", 25_500_000_000_000, "month")
    operator.takes_a_picture("key-shown-once")
    assert_usable(operator.browser)
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
    operator.follows("Revoke")
    assert find(key).revoked_at is None
    operator.types("left the company", "reason")
    operator.clicks("#content-main [type=submit]")
    operator.takes_a_picture("key-revoked")
    assert find(key).revoked_at is not None
    assert "left the company" in operator.sees


def test_each_copy_button_copies_what_stands_above_it(operator: Operator) -> None:
    browser = operator.browser
    allowed = {"origin": operator.address, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", allowed)
    sign_in(operator)
    operator.opens("/admin/onboard/")
    operator.types("Dental Clinic", "name")
    operator.clicks("#content-main [type=submit]")
    buttons = browser.find_elements(By.CSS_SELECTOR, "[data-copy]")
    assert len(buttons) == 4
    for button in buttons:
        text = str(browser.find_element(By.ID, str(button.get_attribute("data-copy"))).get_property("textContent"))
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        WebDriverWait(browser, 5).until(lambda _, button=button: button.text == "Copied")
        assert browser.execute_script("return navigator.clipboard.readText()") == text.strip()
    key = browser.find_element(By.ID, "new-key").text
    assert well_formed(key)

    browser.execute_cdp_cmd("Browser.resetPermissions", {})
    browser.execute_script("Clipboard.prototype.writeText = () => Promise.reject(new Error('no https'))")
    button = browser.find_element(By.CSS_SELECTOR, "[data-copy=new-key]")
    WebDriverWait(browser, 5).until(lambda _: button.text == "Copy the key")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    WebDriverWait(browser, 5).until(lambda _: button.text == "Press Ctrl+C")
    assert browser.execute_script("return getSelection().toString()") == key


def test_signing_out_closes_the_door(operator: Operator) -> None:
    sign_in(operator)
    operator.opens("/accounts/logout/")
    operator.takes_a_picture("sign-out")
    operator.clicks("#content-main [type=submit]")
    operator.opens("/admin/clients/client/")
    assert "/accounts/login/" in operator.browser.current_url
