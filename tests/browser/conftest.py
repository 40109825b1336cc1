import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from django.contrib.auth import get_user_model
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.browser.operator import PASSWORD, Operator
from tests.installation import ROOT, Installation, until

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


@contextmanager
def start_chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A Chromium that nobody has used before. Where there is none, the test is skipped; in CI it fails."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver are missing: .ci/run installs them")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})  # what the console says
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with start_chromium(tmp_path / "profile") as chrome:
        yield chrome


@pytest.fixture
def operator(browser: webdriver.Chrome, live_server: LiveServer) -> Operator:
    get_user_model().objects.create_superuser("admin", "admin@example.com", PASSWORD)
    return Operator(browser, live_server.url)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A whole installation, as `make run` starts it, with an owner `admin` and a plan; a module's tests share it."""
    with Installation(tmp_path_factory.mktemp("office") / "data") as house:
        make_owner(house)
        house.python(
            "from clients.models import Plan; plan = Plan.objects.create(name='Basic', markup_bp=2500)\n"
            "plan.limits.create(metric='requests', amount=100, cycle='day')"
        )
        with started(house):
            yield house


def make_owner(house: Installation) -> None:
    """Somebody who may sign in as `admin`."""
    house.python(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.create_superuser('admin', 'admin@example.com', {PASSWORD!r})"
    )


@contextmanager
def started(house: Installation) -> Iterator[None]:
    """All processes of an installation, under their supervisor."""
    with (house.data_dir / "start.log").open("ab") as output:
        whole = subprocess.Popen(
            [sys.executable, "manage.py", "start"], cwd=ROOT, env=house.env, stdout=output, stderr=output
        )
    try:
        until(lambda: _answers(f"{house.url}/readyz") and _answers(f"{house.url}/accounts/login/"), 60, "ready")
        yield
    finally:
        whole.terminate()
        whole.wait(90)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
