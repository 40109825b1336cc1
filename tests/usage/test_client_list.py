"""What the list of clients tells of usage: who spends, who is over a limit, whose calls fail."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.models import Client
from clients.onboarding import create_client
from tests.usage.test_pages import call
from usage import standings
from usage.client_list import add_charged_this_month
from usage.models import UsageRecord
from usage.overview import day_start

pytestmark = pytest.mark.django_db
LIST = reverse("admin:clients_client_changelist")
Say = Callable[[dict[str, int] | None], None]


@pytest.fixture
def gateway_says(monkeypatch: pytest.MonkeyPatch) -> Say:
    """The percentage to which a limit of each client is used; None: the gateway does not answer."""

    def say(told: dict[str, int] | None) -> None:
        def ask(query: str) -> Any:
            if told is None:
                return None
            least = int(query.removeprefix("percent="))
            ids = dict(Client.objects.values_list("name", "pk"))
            return {str(ids[name]): [(1, 100, used, 0, None)] for name, used in told.items() if used >= least}

        monkeypatch.setattr(standings, "_ask", ask)

    return say


def listed(browser: Browser, **query: str) -> list[str]:
    answer = browser.get(LIST, query)
    assert answer.status_code == 200, answer
    return [client.name for client in answer.context["cl"].result_list]


def test_clients_are_sorted_by_what_they_spent_this_month(admin_client: Browser) -> None:
    idle, less, more = (create_client(name) for name in ("Idle", "Less", "More"))
    this_month = day_start(timezone.localdate().replace(day=1))
    UsageRecord.objects.bulk_create(
        [
            call(less, charge=2 * 10**12, admitted_at=this_month),
            call(less, charge=9 * 10**12, admitted_at=this_month - timedelta(microseconds=1)),
            call(more, charge=3 * 10**12),
            call(idle, outcome="refused", status=429),
        ]
    )
    columns = list(admin_client.get(LIST).context["cl"].list_display)
    number = next(at for at, one in enumerate(columns) if getattr(one, "__name__", "") == "charged_this_month")
    assert listed(admin_client, o=f"-{number}")[:2] == ["More", "Less"]
    shown = " ".join(admin_client.get(LIST).content.decode().split())
    assert "charged this month (USD)" in shown.lower().replace("usd", "USD")
    assert "2.00" in shown
    assert "11.00" not in shown


def test_the_month_begins_where_the_reader_is() -> None:
    acme = create_client("Acme")
    with timezone.override("Pacific/Auckland"):
        first = timezone.localdate().replace(day=1)
        begins = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo("Pacific/Auckland"))
        UsageRecord.objects.bulk_create(
            [call(acme, charge=1, admitted_at=begins), call(acme, charge=10, admitted_at=begins - timedelta(seconds=1))]
        )
        [client] = add_charged_this_month(Client.objects.all())
    assert vars(client)["charged_this_month"] == 1


def test_what_all_clients_spent_this_month_is_summed_from_the_index_alone() -> None:
    plan = add_charged_this_month(Client.objects.order_by("name")).explain()
    assert "USING COVERING INDEX usage_by_client_summed" in plan, plan


def test_clients_over_a_limit_are_found(admin_client: Browser, gateway_says: Say) -> None:
    for name in ("Over", "Close", "Far"):
        create_client(name)
    gateway_says({"Over": 100, "Close": 80, "Far": 79})
    assert listed(admin_client, limits="100") == ["Over"]
    assert listed(admin_client, limits="80") == ["Close", "Over"]
    assert listed(admin_client, limits="x") == ["Close", "Far", "Over"]


def test_without_the_gateway_nobody_is_taken_for_over_a_limit_and_the_list_says_why(
    admin_client: Browser, gateway_says: Say
) -> None:
    create_client("Acme")
    gateway_says(None)
    answer = admin_client.get(LIST, {"limits": "100"})
    assert "The gateway does not answer" in answer.content.decode()
    everyone = {"action": "activate", "select_across": "1", "index": "0", "_selected_action": [Client.objects.get().pk]}
    Client.objects.all().suspend()
    admin_client.post(f"{LIST}?limits=100", everyone)
    assert Client.objects.get().status == "suspended"


def test_clients_whose_calls_fail_are_found(admin_client: Browser) -> None:
    bad, worse, long_ago, refused, few = (create_client(n) for n in ("Bad", "Worse", "Long ago", "Refused", "Few"))
    day_ago = timezone.now() - timedelta(hours=25)
    failed = {"outcome": "upstream_error", "status": 502}
    UsageRecord.objects.bulk_create(
        [call(bad) for _ in range(18)] + [call(bad, **failed) for _ in range(1)]
        + [call(worse) for _ in range(2)] + [call(worse, **failed) for _ in range(3)]
        + [call(long_ago, admitted_at=day_ago, **failed) for _ in range(9)] + [call(long_ago) for _ in range(9)]
        + [call(refused, outcome="refused", status=429) for _ in range(9)] + [call(refused) for _ in range(9)]
        + [call(few, **failed) for _ in range(4)]
    )  # fmt: skip
    assert listed(admin_client, failed="5") == ["Bad", "Worse"]
    assert listed(admin_client, failed="25") == ["Worse"]
    UsageRecord.objects.bulk_create([call(bad)])  # 1 of 20 is 5 %, not more
    assert listed(admin_client, failed="5") == ["Worse"]
