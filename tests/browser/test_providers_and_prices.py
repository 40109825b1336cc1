"""A provider from its key to models with prices, and a price that changes on the 1st; in a real browser."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from django.utils import timezone
from pytest_django import Settings
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from pricing.models import Model, Price, Provider
from pricing.price_list import first_of_next_month
from tests.browser.axe import assert_usable
from tests.browser.operator import Operator, sign_in
from tests.browser.test_frame import complaints
from tests.pricing.servers import Server, answer

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = "sk-canary-0123456789abcdefWXYZ"
LIST = json.dumps({"data": [{"id": name} for name in ("gpt-4o-mini", "my-llama", "my-mistral")]}).encode()


class _Manager(Operator):
    """An operator on one screen, who looks at every page that the journey comes by."""

    theme: str
    width: int

    def looks_at(self, name: str) -> None:
        self.takes_a_picture(f"{name}-{self.theme}-{self.width}")
        wider = self.browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
        assert not wider, f"{name} is wider than {self.width} pixels"
        assert_usable(self.browser)

    def tests_the_connection(self) -> str:
        """Press the button, wait for the words that come of it and return them."""
        self.browser.execute_script("document.getElementById('outcome').textContent = ''")
        self._button("Test connection").click()
        WebDriverWait(self.browser, 20).until(lambda browser: self._outcome() != "")
        return self._outcome()

    def ticks(self, selector: str) -> None:
        self._in_the_middle(self.browser.find_element(By.CSS_SELECTOR, selector)).click()

    def follows(self, text: str) -> None:
        self._in_the_middle(self.browser.find_element(By.PARTIAL_LINK_TEXT, text))
        super().follows(text)

    def clicks(self, selector: str) -> None:
        self._in_the_middle(self.browser.find_element(By.CSS_SELECTOR, selector))
        super().clicks(selector)

    def _in_the_middle(self, element: WebElement) -> WebElement:
        """Scroll as people do: the driver is content with what lies behind the bar of buttons."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    @property
    def ticked(self) -> int:
        return int(self.browser.find_element(By.ID, "ticked").text)

    def _outcome(self) -> str:
        return self.browser.find_element(By.ID, "outcome").text.strip()

    def _button(self, text: str) -> WebElement:
        return self.browser.find_element(By.XPATH, f"//button[contains(normalize-space(.), '{text}')]")


@pytest.fixture
def upstream(settings: Settings) -> Iterator[Server]:
    """A provider that lists its models at /v1/models and knows no other address."""
    settings.ALLOW_PRIVATE_PROVIDERS = True

    def talk(connection: socket.socket, closing: threading.Event) -> None:
        at_v1 = server.heads[-1].startswith("GET /v1/models ")
        (answer(200, LIST) if at_v1 else answer(404))(connection, closing)

    server = Server(talk)
    with server:
        yield server


@pytest.fixture(params=[("light", 1400), ("dark", 390)], ids=["light-wide", "dark-narrow"])
def manager(operator: Operator, request: pytest.FixtureRequest) -> _Manager:
    browser = operator.browser
    one = _Manager(browser, operator.address)
    one.theme, one.width = request.param
    size = {"width": one.width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    one.opens("/accounts/login/")
    browser.execute_script(f"localStorage.setItem('adminTheme', '\"{one.theme}\"')")
    sign_in(one)
    return one


def test_a_provider_from_its_key_to_priced_models(manager: _Manager, upstream: Server) -> None:
    manager.opens("/admin/pricing/provider/")
    manager.clicks("a[href$='/pricing/provider/add/']")
    manager.types("openai", "name")
    manager.types(upstream.url(path=""), "base_url")
    manager.types(CANARY, "new_credential")
    said = manager.tests_the_connection()
    assert "There is no list of models at" in said
    assert f"try {upstream.url()}." in said, "what to do is said with what is wrong"
    manager.looks_at("provider-new-wrong-path")
    manager.types(upstream.url(), "base_url")
    assert "Works: 3 models listed" in manager.tests_the_connection()
    assert f"authorization: bearer {CANARY.lower()}" in upstream.heads[-1].lower()
    manager.looks_at("provider-new-works")
    assert not Provider.objects.exists(), "a test saves nothing"

    manager.clicks("[name=_continue]")
    provider = Provider.objects.get(name="openai")
    assert provider.credential() == CANARY
    assert f"…{CANARY[-4:]}" in manager.sees
    assert CANARY not in manager.browser.page_source
    assert "Works: 3 models listed" in manager.tests_the_connection(), "with the key that is stored"
    manager.looks_at("provider-saved")

    manager.follows("Import models")
    assert "lists 3 models; 3 of them are not here yet" in manager.sees
    manager.browser.find_element(By.ID, "find-model").send_keys("MY-")
    manager.ticks("#tick-all")
    assert manager.ticked == 2, "what the search hides is not ticked"
    manager.browser.find_element(By.ID, "find-model").send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    manager.ticks("input[name=model][value=my-mistral]")
    manager.ticks("input[name=model][value=gpt-4o-mini]")
    assert manager.ticked == 2
    manager.looks_at("provider-import")
    manager.clicks("#content-main form [type=submit]")
    assert "2 models imported from openai" in manager.sees
    assert "switched off: my-llama" in manager.sees
    assert dict(Model.objects.values_list("name", "enabled")) == {"gpt-4o-mini": True, "my-llama": False}
    manager.looks_at("models-imported")
    assert complaints(manager.browser) == []


def test_a_price_changes_on_the_1st(manager: _Manager) -> None:
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    model = Model.objects.create(name="gpt-4o-mini", provider=provider)
    manager.opens(f"/admin/pricing/model/{model.pk}/change/")
    assert "calls are refused" in manager.sees
    manager.looks_at("model-without-price")

    manager.opens(f"/admin/pricing/model/{model.pk}/price/")
    manager.types("0.15", "input")
    manager.types("0.70", "output")
    manager.clicks("#content-main [type=submit]")
    assert "The catalogue says otherwise" in manager.sees
    manager.looks_at("model-unlike-the-catalogue")

    manager.follows("New price…")
    manager.ticks("input[name=when][value=next_month]")
    manager.types("", "input")
    manager.types("0.80", "output")
    manager.clicks("#content-main [type=submit]")
    assert Price.objects.count() == 1, "a price without an input rate is none"
    manager.looks_at("price-refused")
    manager.types("0.20", "input")
    manager.looks_at("price-from-the-1st")
    manager.clicks("#content-main [type=submit]")
    now = timezone.now()
    to_come = Price.objects.get(effective_from=first_of_next_month(now))
    assert (to_come.input, to_come.output, to_come.created_by.username) == (200_000, 800_000, "admin")
    assert (model.rate_card(now).rates(None, 0).output) == 700_000, "until then nothing changes"
    assert "to come" in manager.sees
    assert "admin, " in manager.sees
    manager.looks_at("model-with-a-price-to-come")

    manager.clicks("form[action$='/withdraw/'] [type=submit]")
    assert "The price in force goes on" in manager.sees
    assert Price.objects.get().output == 700_000
    manager.clicks("form[action$='/catalogue/'] [type=submit]")
    assert "The catalogue says otherwise" not in manager.sees
    manager.looks_at("model-like-the-catalogue")
    assert complaints(manager.browser) == []
