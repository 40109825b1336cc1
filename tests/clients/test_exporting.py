"""Clients as CSV: exact, in UTF-8 that spreadsheets recognise, and nothing in it runs."""

import csv
import io

import pytest

from clients.exporting import export
from clients.models import Client
from clients.onboarding import create_client
from clients.spreadsheet import lines
from tests.clients.test_plans import make_plan


@pytest.mark.django_db
def test_a_client_is_exported_whole() -> None:
    plan = make_plan("Basic", "requests=100/day", markup_bp=-1000)
    client = create_client(
        '=HYPERLINK("http://x")', ["requests=1/day", "credits=2.50/month"], plan, phone="+49 30", notes='a "b"\nc'
    )
    client.suspend("unpaid")
    whole = "".join(export(Client.objects.all()))
    assert whole.startswith("\ufeff")
    (row,) = csv.DictReader(io.StringIO(whole[1:], newline=""))
    assert row == {
        "name": '\'=HYPERLINK("http://x")',
        "email": "",
        "company": "",
        "phone": "'+49 30",
        "plan": "Basic",
        "markup": "-10",
        "time_zone": "UTC",
        "cycle_start_day": "1",
        "notes": 'a "b"\nc',
        "limits": "credits=2.50/month;requests=1/day",
        "deviations": "2.50 USD a month, not limited by the plan; 1 request a day instead of 100 requests",
        "status": "suspended",
        "status_reason": "unpaid",
        "owner": "",
        "created_at": f"{client.created_at:%Y-%m-%dT%H:%M:%SZ}",
    }


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", " =1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert list(lines(["x"], [[text]]))[1] == f'"\'{text}"\r\n'


def test_numbers_stay_numbers() -> None:
    assert list(lines(["a", "b"], [[-1, "a=1"]]))[1] == '-1,"a=1"\r\n'
