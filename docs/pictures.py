"""`make pictures`: the pictures of the documentation, taken of the demo as it is today."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.conftest import start_chromium
from tests.browser.operator import Operator
from tests.installation import free_port

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
WIDTH = 1280


def start_demo(folder: Path) -> tuple["subprocess.Popen[str]", str, str]:
    """Start the demo in `folder`; return it, its address and the operator's password, once it answers."""
    environment = {**os.environ, "DATA_DIR": str(folder), "PORT": str(free_port()), "WEB_PORT": str(free_port())}
    command = [sys.executable, "manage.py", "start", "--demo"]
    demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    said = []
    for line in demo.stdout or ():
        said.append(line)
        if password := re.match(r" +password +(\S+)$", line):
            return demo, f"http://127.0.0.1:{environment['PORT']}", password[1]
    raise SystemExit(f"The demo did not start:\n{''.join(said)}")


def picture(browser: WebDriver, name: str, height: int) -> None:
    """Save the upper `height` pixels of the page, with no cursor in a field."""
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # type: ignore[attr-defined]  # of Chromium
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    browser.save_screenshot(str(FOLDER / f"{name}.png"))


def take(operator: Operator) -> None:
    """Walk through the pages as an operator would."""
    browser = operator.browser
    pages = {
        "home": ("/admin/", 860),
        "keys": ("/admin/keys/apikey/", 700),
        "usage": ("/admin/usage/usagerecord/", 700),
    }
    for name, (path, height) in pages.items():
        operator.opens(path)
        picture(browser, name, height)
    operator.opens("/admin/clients/client/")
    operator.follows("Bright Smile Dental")
    picture(browser, "client", 1000)
    operator.opens("/admin/onboard/")
    operator.types("Bloom Flowers", "name")
    operator.clicks("#content-main [type=submit]")
    picture(browser, "key", 900)


def main() -> None:
    """Start the demo, sign in, take them all, stop it."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo, address, password = start_demo(Path(folder) / "data")
        try:
            with start_chromium(Path(folder) / "profile") as browser:
                operator = Operator(browser, address)
                operator.opens("/admin/")
                operator.types("admin", "login")
                operator.types(password, "password")
                operator.clicks("[type=submit]")
                take(operator)
        finally:
            demo.terminate()
            demo.wait()


if __name__ == "__main__":
    main()
