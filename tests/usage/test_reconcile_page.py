"""The reconciliation page: what was loaded beside ours, its CSV without loading it again, and nothing kept."""

import csv
import io
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from clients.access import Role
from tests.conftest import browser_of
from tests.usage.test_pages import text
from tests.usage.test_reconcile import Books, both, cell
from usage import reconcile_page

pytestmark = pytest.mark.django_db
URL = "/admin/reconciliation/"


@pytest.fixture
def books() -> Books:
    return Books()


def loaded(books: Books, **files: bytes) -> dict[str, Any]:
    return {name: SimpleUploadedFile(f"{name}.json", content) for name, content in files.items()} | {
        "providers": [books.openai.pk]
    }


def test_finance_compares_and_takes_the_csv(books: Books) -> None:
    books.call()
    books.call("o1")
    usage, costs = both(cell(cost=6 * 10**9))
    browser = browser_of(Role.FINANCE)
    assert "nothing of them is kept" in text(browser.get(URL))
    shown = text(browser.post(URL, loaded(books, usage=usage, costs=costs)))
    assert "2 of 2 days and models differ" in shown
    assert "Price" in shown
    assert "+0.001" in shown
    assert "Missing there" in shown
    found = re.search(r'name="compared" value="([^"]+)"', shown)
    assert found
    answer = browser.post(URL, {"compared": found[1]})
    assert answer["Content-Disposition"].startswith('attachment; filename="reconciliation-2026-11-20-to-2026-11-20')
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[attr-defined]
    assert [(row["model"], row["put_down_to"]) for row in rows] == [("gpt-4o-mini", "price"), ("o1", "missing there")]
    assert rows[0]["difference_cost_usd"] == "0.001"


def test_what_agrees_says_so(books: Books) -> None:
    books.call()
    shown = text(browser_of(Role.OWNER).post(URL, loaded(books, usage=both(cell())[0])))
    assert "all of it agrees" in shown
    assert "What the differences are put down to" not in shown


def test_what_is_wrong_is_told_and_names_run_nothing(books: Books) -> None:
    browser = browser_of(Role.OWNER)
    answer = browser.post(URL, loaded(books, usage=b"PK\x03\x04"))
    assert answer.status_code == 400
    assert "workbook" in answer.content.decode()
    answer = browser.post(URL, {"providers": [books.openai.pk]})
    assert answer.status_code == 400
    assert "Choose a file" in answer.content.decode()
    answer = browser.post(URL, loaded(books, usage=b"x" * (20 * 2**20 + 1)))
    assert "larger than 20 MB" in answer.content.decode()
    answer = browser.post(URL, loaded(books, usage=both(cell())[0]) | {"providers": [999]})
    assert answer.status_code == 400
    shown = text(browser.post(URL, loaded(books, usage=both(cell(), "<script>alert(1)</script>")[0])))
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown


def test_what_a_page_carries_is_only_its_own(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = browser_of(Role.OWNER)
    shown = text(browser.post(URL, loaded(books, usage=both(cell())[0])))
    found = re.search(r'name="compared" value="([^"]+)"', shown)
    assert found
    for forged in (found[1][:-1], "x", ""):
        answer = browser.post(URL, {"compared": forged})
        assert answer.status_code == 400
        assert "choose the files again" in answer.content.decode()
    monkeypatch.setattr(reconcile_page, "CARRIED", 10)
    assert "CSV, all of it" not in text(browser.post(URL, loaded(books, usage=both(cell())[0])))


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
def test_others_do_not(books: Books, role: Role) -> None:
    browser = browser_of(role)
    assert browser.get(URL).status_code == 403
    assert browser.post(URL, loaded(books, usage=both(cell())[0])).status_code == 403
    assert "Reconciliation" not in browser.get("/admin/").content.decode()
