"""Whether people with a screen reader, a keyboard or weak eyes can use a page: axe-core, run in the browser."""

from axe_core_python.base import AXE_SCRIPT
from selenium import webdriver

GRAVE = {"serious", "critical"}


def findings(browser: webdriver.Chrome) -> list[str]:
    """The serious and critical findings on the page that is open, one line each; wait for the page before."""
    # Not an inline script: the browser's own console may do what the page's policy forbids
    browser.execute_script(AXE_SCRIPT)
    result = browser.execute_async_script("const done = arguments[0]; axe.run(document).then(done, done)")
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {node['html'][:200]} {_why(node)}"
        for found in result["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


def assert_usable(browser: webdriver.Chrome) -> None:
    """Fail with what is wrong where axe has a serious or critical finding on the page that is open."""
    found = findings(browser)
    assert not found, "\n".join([browser.current_url, *found])


def _why(node: dict) -> str:
    return "; ".join(check["message"] for check in (*node["any"], *node["all"], *node["none"]))
