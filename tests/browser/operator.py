"""What a person does with a browser, for the tests here."""

import os
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

PASSWORD = "correct horse battery staple"


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


def sign_in(operator: Operator) -> None:
    operator.opens("/admin/")
    operator.takes_a_picture("sign-in")
    operator.types("admin", "login")
    operator.types(PASSWORD, "password")
    operator.clicks("[type=submit]")
