"""From sign-in to a new client's first answered call: a whole installation, a real browser, counted."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.axe import assert_usable
from tests.browser.operator import PASSWORD, Operator, sign_in
from tests.browser.test_frame import complaints
from tests.installation import ROOT, Installation, until

MOST_SECONDS = 60
MOST_INTERACTIONS = 12


class Counting(Operator):
    """An operator whose every entry and click is counted."""

    interactions = 0

    def types(self, text: str, field: str) -> None:
        self.interactions += 1
        super().types(text, field)

    def chooses(self, value: str, field: str) -> None:
        self.interactions += 1
        super().chooses(value, field)

    def clicks(self, selector: str) -> None:
        self.interactions += 1
        super().clicks(selector)

    def sends_a_test_call(self) -> None:
        self.interactions += 1
        self.browser.find_element(By.CSS_SELECTOR, "form[hx-post] [type=submit]").click()
        WebDriverWait(self.browser, 30).until(lambda browser: browser.find_element(By.ID, "outcome").text.strip() != "")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path / "data") as house:
        house.python(
            "from django.contrib.auth import get_user_model; from clients.models import Plan\n"
            f"get_user_model().objects.create_superuser('admin', 'admin@example.com', {PASSWORD!r})\n"
            "plan = Plan.objects.create(name='Basic', markup_bp=2500)\n"
            "plan.limits.create(metric='requests', amount=100, cycle='day'); result = plan.pk"
        )
        with (house.data_dir / "start.log").open("ab") as output:
            whole = subprocess.Popen(
                [sys.executable, "manage.py", "start"], cwd=ROOT, env=house.env, stdout=output, stderr=output
            )
        try:
            until(lambda: _answers(f"{house.url}/readyz") and _answers(f"{house.url}/accounts/login/"), 60, "ready")
            yield house
        finally:
            whole.terminate()
            whole.wait(90)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 390)])
def test_a_new_client_calls_within_a_minute(
    browser: webdriver.Chrome, installation: Installation, theme: str, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    operator = Counting(browser, installation.url)
    operator.opens("/accounts/login/")
    browser.execute_script(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
    began = time.monotonic()
    sign_in(operator)
    operator.opens("/admin/clients/client/")
    operator.interactions += 1  # the link in the sidebar
    operator.clicks("a[href$='/clients/client/add/']")
    operator.types("Dental Clinic", "name")
    operator.types("it@dental.example", "email")
    operator.chooses(str(installation.sql("SELECT id FROM clients_plan")[0]["id"]), "plan")
    operator.chooses("90d", "expires_in")
    operator.takes_a_picture(f"journey-form-{theme}-{width}")
    operator.clicks("#content-main [type=submit]")
    operator.sends_a_test_call()
    seconds = time.monotonic() - began
    operator.takes_a_picture(f"journey-called-top-{theme}-{width}")
    outcome = browser.find_element(By.ID, "outcome")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", outcome)
    operator.takes_a_picture(f"journey-called-{theme}-{width}")
    assert "The call works." in outcome.text
    assert "Cost " in outcome.text
    assert "charged " in outcome.text
    assert operator.interactions <= MOST_INTERACTIONS
    assert seconds < MOST_SECONDS
    assert browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth") is False
    assert browser.execute_script("return document.documentElement.classList.contains('dark')") is (theme == "dark")
    assert_usable(browser)
    assert complaints(browser) == []
    record = installation.recorded(1)[0]
    client = installation.sql("SELECT id FROM clients_client WHERE name = 'Dental Clinic'")[0]
    assert record["client_id"] == client["id"]
