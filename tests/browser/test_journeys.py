"""What operators do on their worst and their usual days, from the home page to its effect at the gateway; counted."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from keys.tokens import hint, well_formed
from tests.browser.axe import assert_usable
from tests.browser.conftest import make_owner, start_chromium, started
from tests.browser.operator import PASSWORD, Counting, Operator, sign_in
from tests.browser.test_frame import complaints
from tests.callers import Account, account
from tests.installation import Installation, until
from tests.stub.behaviour import Behaviour
from tests.stub.provider import StubProvider

OLD, NEW = {"input": 150_000, "output": 600_000}, {"input": 200_000, "output": 800_000}
"""Picodollars per token: 0.15 and 0.60 USD per 1M tokens, then 0.20 and 0.80."""

# Moves the clock of Python processes that find it on their path.
_CLOCK = """
import os, time
_shift, _time, _time_ns = int(os.environ["SHIFTED_BY_SECONDS"]), time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + _shift * 10**9
"""


@pytest.fixture
def owner(browser: webdriver.Chrome, office: Installation) -> Counting:
    """An owner on the home page."""
    one = Counting(browser, office.url)
    one.sits_at(1400)
    sign_in(one)
    return one


def leaked(office: Installation) -> Account:
    """A client whose key works, and is on a forum."""
    caller = account(office)
    until(lambda: caller.call().status == 200, 5, "a key that works")
    return caller


def refused_within_a_second(caller: Account) -> None:
    began = time.monotonic()
    until(lambda: caller.call().code == "key_revoked", 5, "the key is refused")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("known", ["the key", "its hint"])
def test_a_leaked_key_is_revoked(owner: Counting, office: Installation, known: str) -> None:
    caller = leaked(office)
    owner.opens("/admin/")
    owner.sets_out()
    owner.searches(caller.key if known == "the key" else hint(caller.key))
    assert hint(caller.key) in owner.sees
    owner.follows("Revoke")
    owner.clicks("#content-main [type=submit]")
    refused_within_a_second(caller)
    owner.has_arrived(f"leaked key, revoked by {known}", 5, 10)
    assert "is refused everywhere within a second" in owner.sees
    assert caller.key not in owner.browser.page_source
    assert complaints(owner.browser) == []


def test_a_leaked_key_is_replaced_at_once(owner: Counting, office: Installation) -> None:
    caller = leaked(office)
    owner.opens("/admin/")
    owner.sets_out()
    owner.searches(hint(caller.key)[-4:])
    owner.follows("Regenerate")
    owner.ticks("input[name=grace][value='0']")
    owner.clicks("#content-main [type=submit]")
    refused_within_a_second(caller)
    owner.has_arrived("leaked key, replaced at once", 6, 10)
    new = owner.browser.find_element(By.ID, "new-key").text
    assert well_formed(new)
    until(lambda: caller.call(key=new).status == 200, 2, "the new key works")


def test_a_client_over_its_budget_gets_more_today(owner: Counting, office: Installation) -> None:
    caller = account(office, "requests=2/day")
    until(lambda: caller.call().status == 200, 5, "its first call")
    until(lambda: caller.call().code == "insufficient_quota", 5, "its budget is used up")
    owner.opens("/admin/")
    owner.sets_out()
    assert caller.name in owner.sees
    assert "used up a limit" in owner.sees
    owner.takes_a_picture("journey-over-budget-home")
    owner.follows(caller.name)
    assert "2 requests a day" in owner.sees
    owner.takes_a_picture("journey-over-budget-client")
    owner.types("5", "limits-0-amount")
    owner.clicks("[name=_save]")
    until(lambda: caller.call().status == 200, 2, "the next call passes")
    owner.has_arrived("client over budget wants more today", 3, 15)
    owner.opens(f"/admin/clients/client/{caller.id}/change/")
    assert "5 requests a day" in owner.sees
    assert complaints(owner.browser) == []


def test_a_price_changes_on_the_1st(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with StubProvider() as stub, Installation(tmp_path / "data") as house:
        stub.script(*[Behaviour(input_tokens=1_000, output_tokens=100)] * 50)
        house.provider(stub.url, {"gpt-4o-mini": OLD})
        make_owner(house)
        caller = account(house)
        owner = Counting(browser, house.url)
        owner.sits_at(1400)
        with started(house):
            sign_in(owner)
            owner.sets_out()
            owner.clicks("a[href='/admin/pricing/model/']")
            owner.follows("gpt-4o-mini")
            owner.follows("New price…")
            owner.ticks("input[name=when][value=next_month]")
            owner.types("0.20", "input")
            owner.types("0.80", "output")
            owner.clicks("#content-main [type=submit]")
            owner.has_arrived("price change on the 1st", 7, 20)
            shown = owner.sees
            assert re.search(r"\b1 \w{3} \d{4}, 00:00 \w+ to come", shown), shown
            assert "in force" in shown
            assert "admin, entered by hand" in shown, "the history says who, and below it when"
            assert complaints(browser) == []
            assert cost_of_a_call(caller) == 1_000 * OLD["input"] + 100 * OLD["output"]

        # The 1st has come: the same installation on a machine whose clock says so
        (tmp_path / "sitecustomize.py").write_text(_CLOCK)
        house.env |= {"PYTHONPATH": str(tmp_path), "SHIFTED_BY_SECONDS": str(32 * 86_400)}
        house.start()
        assert cost_of_a_call(caller) == 1_000 * NEW["input"] + 100 * NEW["output"]


def cost_of_a_call(caller: Account) -> int:
    call = caller.call("gpt-4o-mini")
    assert call.status == 200, call.body
    return int(caller.records_of({call.id})[call.id]["cost"])


@pytest.fixture
def colleague(office: Installation, tmp_path: Path) -> Iterator[Counting]:
    """Somebody at a computer of their own."""
    with start_chromium(tmp_path / "colleague") as browser:
        one = Counting(browser, office.url)
        one.sits_at(1400)
        yield one


def test_a_new_colleague_in_finance_reads_all_but_keys(
    owner: Counting, colleague: Counting, office: Installation
) -> None:
    caller = leaked(office)
    owner.opens("/admin/")
    owner.sets_out()
    owner.clicks("a[href='/admin/auth/user/']")
    owner.clicks("a[href='/admin/auth/user/add/']")
    owner.types("Fiona", "first_name")
    owner.types("fiona@example.com", "email")
    owner.chooses("finance", "role")
    owner.clicks("[name=_save]")
    link = owner.browser.find_element(By.ID, "link").text
    owner.has_arrived("new colleague in finance, the owner's part", 6, 20)

    colleague.sets_out()
    colleague.opens(urlsplit(link).path)
    colleague.interactions += 1
    colleague.types(PASSWORD, "new_password1")
    colleague.types(PASSWORD, "new_password2")
    colleague.clicks("[type=submit]")
    colleague.types("fiona@example.com", "login")
    colleague.types(PASSWORD, "password")
    colleague.clicks("[type=submit]")
    assert "Today" in colleague.sees
    colleague.clicks("a[href='/admin/usage/usagerecord/']")
    assert caller.name in colleague.sees
    colleague.has_arrived("new colleague in finance, to the first look at usage", 8, 20)
    assert_usable(colleague.browser)
    colleague.takes_a_picture("journey-finance-usage")

    colleague.opens(f"/admin/clients/client/{caller.id}/change/")
    assert caller.name in colleague.sees
    assert not colleague.browser.find_elements(By.CSS_SELECTOR, "[name=_save]")
    assert hint(caller.key) not in colleague.browser.page_source
    colleague.takes_a_picture("journey-finance-client")
    wrong = _dead_ends(colleague)
    assert not wrong, wrong
    assert complaints(colleague.browser) == []

    for page in ("keys/apikey/", "keys/apikey/add/", "auth/user/", "onboard/", "clients/auditentry/"):
        assert _asks(colleague, f"/admin/{page}") in {403, 404}, page


def _dead_ends(person: Operator) -> list[str]:
    """Links on pages that the person comes by, three clicks deep, that lead to a refusal; one of each kind is tried."""
    seen: set[str] = set()
    pages, wrong = ["/admin/"], []
    for _ in range(3):
        links = set()
        for page in pages:
            person.opens(page)
            for link in person.browser.find_elements(By.CSS_SELECTOR, "a[href]"):
                path = urlsplit(urljoin(page, str(link.get_dom_attribute("href")))).path
                if path.startswith("/admin/") and "logout" not in path:
                    links.add(path)
        pages = []
        for path in sorted(links):
            kind = re.sub(r"[0-9a-f-]{36}|[0-9]+", "#", path)
            if kind not in seen:
                seen.add(kind)
                status = _asks(person, path)
                pages.append(path)
                if status >= 400:
                    wrong.append(f"{path}: {status}")
    return wrong


def _asks(person: Operator, path: str) -> int:
    """The status that the person's browser would get there."""
    cookies = {cookie["name"]: cookie["value"] for cookie in person.browser.get_cookies()}
    agent = {"user-agent": person.browser.execute_script("return navigator.userAgent")}
    return httpx.get(person.address + path, cookies=cookies, headers=agent, timeout=20).status_code
