"""The analytics page in a real browser: from a month's total down to one call and back, live, and as a picture."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from clients.models import Client
from clients.onboarding import create_client
from tests.browser.axe import assert_usable
from tests.browser.operator import Operator, sign_in
from tests.browser.test_frame import complaints
from tests.usage.test_pages import call
from usage import due

pytestmark = pytest.mark.django_db(transaction=True)


def recorded(client: Client, **fields: object) -> None:
    one = call(client, **fields)
    one.save(force_insert=True)
    due.put_down([(one.pk, one.admitted_at)])


def test_from_a_months_total_to_one_call_and_back_by_links(operator: Operator) -> None:
    acme, beta = create_client("Acme"), create_client("Beta")
    yesterday = timezone.now() - timedelta(days=1)
    recorded(acme, charge=5 * 10**12, admitted_at=yesterday, workflow="nightly")
    recorded(beta, charge=10**12, admitted_at=yesterday)
    sign_in(operator)
    browser = operator.browser
    operator.opens("/admin/analytics/")
    operator.follows("30 days")
    assert "6.00" in operator.sees
    browser.find_element(By.CSS_SELECTOR, "#numbers-by_client summary").click()
    assert_usable(browser)
    operator.follows("Acme")
    assert f"client={acme.pk}" in browser.current_url
    assert "range=30d" in browser.current_url
    assert "5.00" in operator.sees
    operator.follows("The calls themselves")
    rows = browser.find_elements(By.CSS_SELECTOR, "#result_list tbody tr")
    assert len(rows) == 1
    browser.back()
    operator.clicks(".chips a")
    assert "6.00" in operator.sees
    assert "client=" not in browser.current_url
    assert complaints(browser) == []


def test_a_click_on_a_bar_leads_to_what_it_is_made_of(operator: Operator) -> None:
    acme = create_client("Acme")
    recorded(acme, charge=5 * 10**12, admitted_at=timezone.now())
    sign_in(operator)
    operator.opens("/admin/analytics/?range=7d")
    browser = operator.browser
    canvas = browser.find_element(By.CSS_SELECTOR, "canvas[data-chart=by_client]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser).move_to_element_with_offset(canvas, 20, 40).click().perform()
    WebDriverWait(browser, 10).until(lambda _: f"client={acme.pk}" in browser.current_url)


def test_a_call_shows_within_ten_seconds_and_what_is_open_stays_open(operator: Operator) -> None:
    acme = create_client("Acme")
    recorded(acme, charge=10**12, admitted_at=timezone.now())
    sign_in(operator)
    operator.opens("/admin/analytics/?range=24h")
    browser = operator.browser
    browser.find_element(By.CSS_SELECTOR, "#numbers-by_client summary").click()
    browser.execute_script("document.activeElement.blur()")
    assert "1.00" in operator.sees
    began = time.monotonic()
    recorded(acme, charge=41 * 10**12, admitted_at=timezone.now())
    WebDriverWait(browser, 20).until(lambda _: "42.00" in browser.find_element(By.ID, "dashboard").text)
    assert time.monotonic() - began < 10
    assert browser.find_element(By.ID, "numbers-by_client").get_attribute("open") is not None
    assert complaints(browser) == []


def test_a_chart_is_saved_as_a_picture(operator: Operator, tmp_path: Path) -> None:
    recorded(create_client("Acme"), charge=10**12, admitted_at=timezone.now())
    sign_in(operator)
    operator.opens("/admin/analytics/")
    browser = operator.browser
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element(By.CSS_SELECTOR, "button[data-png=over_time]").click()
    WebDriverWait(browser, 10).until(lambda _: (tmp_path / "over_time.png").exists())
    assert (tmp_path / "over_time.png").read_bytes().startswith(b"\x89PNG")
    assert complaints(browser) == []
