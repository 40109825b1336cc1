"""What a person does with a browser, for the tests here."""

import os
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

PASSWORD = "correct horse battery staple"


class Operator:
    """What a person does with a browser, in a person's words."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def sits_at(self, width: int, height: int = 900) -> None:
        """Look at pages on a screen of that size: the window of headless Chromium is never narrower than 500."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

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


class Counting(Operator):
    """An operator on a journey, whose every entry and click is counted and whose time is taken."""

    interactions = 0
    began = 0.0

    def sets_out(self) -> None:
        """Count from here on."""
        self.interactions, self.began = 0, time.monotonic()

    def has_arrived(self, journey: str, most_interactions: int, most_seconds: float) -> None:
        """Tell what the journey took, and fail where that is too much."""
        seconds = time.monotonic() - self.began
        print(f"journey {journey}: {self.interactions} interactions, {seconds:.1f} s")
        assert self.interactions <= most_interactions, journey
        assert seconds < most_seconds, journey

    def types(self, text: str, field: str) -> None:
        self.interactions += 1
        super().types(text, field)

    def chooses(self, value: str, field: str) -> None:
        self.interactions += 1
        super().chooses(value, field)

    def ticks(self, selector: str) -> None:
        self.interactions += 1
        box = self.browser.find_element(By.CSS_SELECTOR, selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()

    def clicks(self, selector: str) -> None:
        self.interactions += 1
        super().clicks(selector)

    def follows(self, text: str) -> None:
        self.interactions += 1
        super().follows(text)

    def searches(self, text: str) -> None:
        """Open the search by keyboard, type, and follow the first that is found."""
        self.interactions += 3
        self.browser.find_element(By.TAG_NAME, "body").send_keys(Keys.CONTROL, "k")
        box = self.browser.find_element(By.ID, "search-input-command")
        WebDriverWait(self.browser, 10).until(lambda _: box.is_displayed())
        box.send_keys(text)
        found = WebDriverWait(self.browser, 10).until(
            lambda browser: [
                link for link in browser.find_elements(By.CSS_SELECTOR, "#command-results a") if link.is_displayed()
            ]
        )[0]
        self._leaves_by(found)

    def sends_a_test_call(self) -> None:
        self.interactions += 1
        self.browser.find_element(By.CSS_SELECTOR, "form[hx-post] [type=submit]").click()
        WebDriverWait(self.browser, 30).until(lambda browser: browser.find_element(By.ID, "outcome").text.strip() != "")


def sign_in(operator: Operator) -> None:
    operator.opens("/admin/")
    operator.takes_a_picture("sign-in")
    operator.types("admin", "login")
    operator.types(PASSWORD, "password")
    operator.clicks("[type=submit]")
