"""The cost report as a page: the same sums as its file, of what the reader may see."""

import csv
import io
from datetime import UTC, datetime

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client as Browser

from clients.access import Role, set_role
from clients.onboarding import create_client
from tests.usage.test_pages import call, text
from usage import due

pytestmark = pytest.mark.django_db
URL = "/admin/costs/"
NOW = datetime(2026, 11, 26, 14, 37, tzinfo=UTC)
RANGE = "first=2026-11-01&to=2026-11-26&zone=UTC"


@pytest.fixture(autouse=True)
def _now() -> object:
    with time_machine.travel(NOW, tick=False):
        yield


def test_the_page_says_this_months_sums_and_its_file_is_that_of_the_command(
    admin_client: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = create_client("=Acme")
    for charge in (10**12 + 1, 2 * 10**12):
        call(acme, charge=charge, cost=10**12, workflow="nightly").save(force_insert=True)
    call(create_client("Beta"), charge=5 * 10**12, admitted_at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)).save(
        force_insert=True
    )
    due.put_all_down()
    page = text(admin_client.get(URL))
    assert ">3.00<" in page
    assert "Beta" not in page.partition('id="report"')[2]
    answer = admin_client.get(f"{URL}?{RANGE}&by=client&by=workflow&csv=1")
    written = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    [row] = csv.DictReader(io.StringIO(written))
    assert (row["client"], row["workflow"], row["charge_usd"]) == ("'=Acme", "nightly", "3.000000000001")
    call_command("exportcosts", "--from=2026-11-01", "--to=2026-11-26", "--zone=UTC", "--group-by=client,workflow")
    assert capsys.readouterr().out.splitlines() == written.splitlines()
    comma = admin_client.get(f"{URL}?{RANGE}&by=client&csv=1&bom=on&decimal_comma=on")
    written = b"".join(comma.streaming_content).decode()  # type: ignore[attr-defined]
    assert written.startswith("\ufeff")
    assert "3,000000000001" in written


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("first=2026-11-26&to=2026-11-01&zone=UTC", "ends before it begins"),
        ("first=2010-11-26&to=2026-11-01&zone=UTC", "longer than five years"),
        ("first=2027-11-26&to=2027-11-27&zone=UTC", "in the future"),
        (f"{RANGE}&by=colour", "not one of the available choices"),
        ("first=x&to=2026-11-26&zone=UTC", "valid date"),
    ],
)
def test_what_cannot_be_answered_is_told(admin_client: Browser, query: str, said: str) -> None:
    answer = admin_client.get(f"{URL}?{query}")
    assert answer.status_code == 400
    assert said in answer.content.decode()


def test_an_empty_range_says_so(admin_client: Browser) -> None:
    assert "No calls in this range" in text(admin_client.get(URL))


def test_everybody_sees_what_is_theirs() -> None:
    ana, finance = User.objects.create_user("ana"), User.objects.create_user("fin")
    set_role(ana, Role.OPERATOR)
    set_role(finance, Role.FINANCE)
    own, foreign = create_client("Own", owner=ana), create_client("Foreign")
    for client in (own, foreign):
        call(client, charge=10**12).save(force_insert=True)
    due.put_all_down()
    browser = Browser()
    browser.force_login(ana)
    page = text(browser.get(URL))
    assert "Own" in page
    assert "Foreign" not in page
    assert browser.get(f"{URL}?{RANGE}&by=client&client={foreign.pk}").status_code == 404
    browser.force_login(finance)
    page = text(browser.get(URL))
    assert "Foreign" in page
    assert 'value="key"' not in page
    assert browser.get(f"{URL}?{RANGE}&by=key").status_code == 400
