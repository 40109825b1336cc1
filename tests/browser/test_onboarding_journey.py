"""From sign-in to a new client's first answered call: a whole installation, a real browser, counted."""

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser.axe import assert_usable
from tests.browser.operator import Counting, sign_in
from tests.browser.test_frame import complaints
from tests.installation import Installation, until

MOST_SECONDS = 60
MOST_INTERACTIONS = 12


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 390)])
def test_a_new_client_calls_within_a_minute(
    browser: webdriver.Chrome, office: Installation, theme: str, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    operator = Counting(browser, office.url)
    operator.opens("/accounts/login/")
    browser.execute_script(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
    operator.sets_out()
    sign_in(operator)
    operator.opens("/admin/clients/client/")
    operator.interactions += 1  # the link in the sidebar
    operator.clicks("a[href$='/clients/client/add/']")
    name = f"Dental Clinic, {theme}"  # both are taken on at one office
    operator.types(name, "name")
    operator.types("it@dental.example", "email")
    operator.chooses(str(office.sql("SELECT id FROM clients_plan")[0]["id"]), "plan")
    operator.chooses("90d", "expires_in")
    operator.takes_a_picture(f"journey-form-{theme}-{width}")
    operator.clicks("#content-main [type=submit]")
    operator.sends_a_test_call()
    operator.has_arrived("onboard", MOST_INTERACTIONS, MOST_SECONDS)
    operator.takes_a_picture(f"journey-called-top-{theme}-{width}")
    outcome = browser.find_element(By.ID, "outcome")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", outcome)
    operator.takes_a_picture(f"journey-called-{theme}-{width}")
    assert "The call works." in outcome.text
    assert "Cost " in outcome.text
    assert "charged " in outcome.text
    assert browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth") is False
    assert browser.execute_script("return document.documentElement.classList.contains('dark')") is (theme == "dark")
    assert_usable(browser)
    assert complaints(browser) == []
    made = "SELECT * FROM usage_usagerecord WHERE client_id = (SELECT id FROM clients_client WHERE name = ?)"
    (record,) = until(lambda: office.sql(made, name), 20, "its record")
    assert record["outcome"] == "ok"
