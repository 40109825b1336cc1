"""The home page and a client's page: what they say, of whom, and in how many queries."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Count
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from clients.access import Role, set_role
from clients.models import Client, Limit
from clients.onboarding import create_client
from keys.lifecycle import issue, revoke
from keys.models import APIKey
from usage import standings
from usage.models import UsageRecord
from usage.overview import by_client, day_before
from usage.templatetags.usage_pages import usd_short

pytestmark = pytest.mark.django_db
AMOUNTS = [f.name for f in UsageRecord._meta.fields if f.name.endswith(("_tokens", "_us", "cost", "charge"))]


def call(client: Client, **fields: Any) -> UsageRecord:
    now = timezone.now()
    values: dict[str, Any] = dict.fromkeys(AMOUNTS, 0) | {
        "first_byte_us": None, "admitted_at": now, "settled_at": now, "outcome": "ok", "status": 200,
        "stream": False, "estimated": False, "session_opened": False, "model_asked": "gpt-4o-mini",
    }  # fmt: skip
    return UsageRecord(request_id=uuid.uuid4(), client=client, **values | fields)


@pytest.fixture
def gateway_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, tuple[int, int]] | None], None]:
    """What the gateway tells of the limits of clients: spent and held of each; None: it does not answer."""

    def say(told: dict[int, tuple[int, int]] | None) -> None:
        def ask(query: str) -> Any:
            if told is None:
                return None
            limits = list(Limit.objects.filter(client__in=told))
            if query == "percent=80":
                limits = [limit for limit in limits if sum(told[limit.client_id]) * 100 >= 80 * limit.amount]
            else:
                limits = [limit for limit in limits if query == f"client={limit.client_id}"]
            return {str(limit.client_id): [(limit.pk, limit.amount, *told[limit.client_id], None)] for limit in limits}

        monkeypatch.setattr(standings, "_ask", ask)

    return say


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return " ".join(answer.content.decode().split())


def test_the_home_page_of_an_empty_installation_says_the_next_step(admin_client: Browser, gateway_says: Any) -> None:
    gateway_says({})
    shown = text(admin_client.get("/admin/"))
    assert "No client yet" in shown
    assert reverse("admin:onboard") in shown
    assert "Nothing that anybody has to look at" in shown


def test_the_home_page_says_what_today_cost_who_is_close_and_what_is_wrong(
    admin_client: Browser, gateway_says: Any
) -> None:
    full, close, far = (create_client(name, ["requests=100/day"]) for name in ("Full", "Close", "Far"))
    gateway_says({full.pk: (100, 0), close.pk: (70, 12), far.pk: (79, 0)})
    before_today = timezone.now() - timedelta(days=2)
    UsageRecord.objects.bulk_create(
        [call(far, cost=2 * 10**12, charge=3 * 10**12, input_tokens=1_000, output_tokens=234) for _ in range(2)]
        + [call(far, cost=10**12, charge=10**12, admitted_at=before_today)]
        + [call(close, outcome="upstream_error", status=502) for _ in range(5)]
        + [call(close, outcome="refused", status=429) for _ in range(90)]
        + [call(full, outcome="upstream_error", status=502)]
        + [call(full, outcome="refused", status=429) for _ in range(5)]
    )
    shown = text(admin_client.get("/admin/"))
    assert "<dd>4.00</dd>" in shown
    assert "<dd>6.00</dd>" in shown
    assert "<dd>2,468</dd>" in shown
    assert "1 client used up a limit" in shown
    assert "</a>: 5 of 5 calls failed" in shown
    assert "1 of 1" not in shown
    assert shown.index("100 %") < shown.index("82 %")
    assert "79 %" not in shown


def test_without_the_gateway_the_home_page_says_so(admin_client: Browser, gateway_says: Any) -> None:
    create_client("Acme", ["requests=1/day"])
    gateway_says(None)
    assert "The gateway does not answer" in text(admin_client.get("/admin/"))


def test_an_operator_sees_own_clients_on_the_home_page_and_no_others(gateway_says: Any) -> None:
    ann = User.objects.create_user("ann")
    set_role(ann, Role.OPERATOR)
    own, other = create_client("Own", ["requests=1/day"], owner=ann), create_client("Other", ["requests=1/day"])
    gateway_says({own.pk: (1, 0), other.pk: (1, 0)})
    UsageRecord.objects.bulk_create([call(own, charge=10**12), call(other, charge=7 * 10**12)])
    browser = Browser()
    browser.force_login(User.objects.get(pk=ann.pk))
    shown = text(browser.get("/admin/"))
    assert "Own</a>" in shown
    assert "Other" not in shown
    assert "<dd>1.00</dd>" in shown


def test_a_clients_page_shows_its_limits_its_month_its_calls_and_its_errors(
    admin_client: Browser, gateway_says: Any
) -> None:
    acme = create_client("Acme", ["credits=10/month"])
    gateway_says({acme.pk: (2_500_000_000_000, 500_000_000_000)})
    month_ago = timezone.now() - timedelta(days=40)
    UsageRecord.objects.bulk_create(
        [call(acme, charge=10**12), call(acme, charge=10**12, admitted_at=month_ago)]
        + [call(acme, outcome="refused", status=429, error_code="insufficient_quota") for _ in range(2)]
    )
    shown = text(admin_client.get(reverse("admin:clients_client_change", args=[acme.pk])))
    for words in ("2.50 USD", "0.50 USD", "7.00 USD", "1.00 USD charged, 1 calls", "insufficient_quota", "gpt-4o-mini"):
        assert words in shown, words


def queries_of_pages(browser: Browser, gateway_says: Any, many: int) -> list[int]:
    """How often the home page, the list and a client's page ask the database once there are so many clients."""
    for number in range(Client.objects.count(), many):
        client = create_client(f"Client {number}", ["requests=100/day"])
        UsageRecord.objects.bulk_create(
            [call(client, charge=1) for _ in range(5)]
            + [call(client, outcome="upstream_error", status=502, error_code="upstream_error") for _ in range(5)]
        )
    ids = list(Client.objects.values_list("pk", flat=True))
    gateway_says(dict.fromkeys(ids, (90, 0)))
    asked = []
    for page in (
        "/admin/",
        reverse("admin:clients_client_changelist"),
        reverse("admin:clients_client_change", args=[ids[0]]),
    ):
        browser.get(page)  # what is read once a process
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(page).status_code == 200
        asked.append(len(queries))
    return asked


def test_pages_ask_as_often_for_many_clients_as_for_few(admin_client: Browser, gateway_says: Any) -> None:
    few = queries_of_pages(admin_client, gateway_says, 5)
    assert max(few) <= 25
    assert queries_of_pages(admin_client, gateway_says, 200) == few


def test_who_fails_is_found_among_the_records_of_that_time_alone() -> None:
    lately = UsageRecord.objects.filter(admitted_at__gte=timezone.now() - timedelta(hours=24))
    plan = by_client(lately).annotate(calls=Count("pk")).explain()
    assert "usage_by_time" in plan, plan


@pytest.mark.parametrize(
    ("picodollars", "shown"),
    [(0, "0.00"), (1, "< 0.000001"), (10**6, "0.000001"), (10**10 - 1, "0.009999"), (123_456 * 10**10, "1,234.56")],
)
def test_sums_for_the_eye(picodollars: int, shown: str) -> None:
    assert usd_short(picodollars) == shown


def test_yesterday_ends_at_the_same_time_of_the_clock_also_where_clocks_change() -> None:
    with timezone.override("Europe/Berlin"):
        after_the_change = datetime(2026, 10, 25, 11, 0, tzinfo=UTC)  # 12:00 CET; summer time ended at 03:00
        assert day_before(after_the_change) == datetime(2026, 10, 24, 10, 0, tzinfo=UTC)


@pytest.fixture
def key_limits_told(monkeypatch: pytest.MonkeyPatch) -> Callable[[APIKey, Any], None]:
    """What the gateway tells of a key's own limits: spent and held of each; None: it does not answer."""

    def say(key: APIKey, told: tuple[int, int] | None) -> None:
        def ask(query: str) -> Any:
            if told is None or query != f"key={key.pk}":
                return None if told is None else {}
            return {str(key.client_id): [(limit.pk, limit.amount, *told, None) for limit in key.limits.all()]}

        monkeypatch.setattr(standings, "_ask", ask)

    return say


def test_a_keys_page_shows_its_own_limits_and_its_month(admin_client: Browser, key_limits_told: Any) -> None:
    acme = create_client("Acme", ["requests=1/day"])
    key, _ = issue(acme, "n8n", limits=["credits=10/month"])
    other, _ = issue(acme, "other")
    month_ago = timezone.now() - timedelta(days=40)
    UsageRecord.objects.bulk_create(
        [
            call(acme, key=key, charge=3 * 10**12),
            call(acme, key=key, charge=50 * 10**12, admitted_at=month_ago),
            call(acme, key=other, charge=10**12),
            call(acme, key=key, outcome="refused", status=429),
        ]
    )
    key_limits_told(key, (2_500_000_000_000, 500_000_000_000))
    page = reverse("admin:keys_apikey_change", args=[key.pk])
    shown = text(admin_client.get(page))
    for words in ("2.50 USD", "0.50 USD", "7.00 USD", "3.00 USD charged, 1 calls; 1 refused, 0 failed"):
        assert words in shown, words
    key_limits_told(key, None)
    assert "The gateway does not answer" in text(admin_client.get(page))
    assert "None of its own" in text(admin_client.get(reverse("admin:keys_apikey_change", args=[other.pk])))
    revoke(key)
    assert "does not work any more" in text(admin_client.get(page))


def test_a_clients_page_shows_what_each_key_did_in_30_days(admin_client: Browser, gateway_says: Any) -> None:
    acme = create_client("Acme")
    gateway_says({})
    busy, idle = (issue(acme, name)[0] for name in ("busy", "idle"))
    month_ago = timezone.now() - timedelta(days=40)
    UsageRecord.objects.bulk_create(
        [
            *(call(acme, key=busy, charge=10**12) for _ in range(3)),
            call(acme, key=busy, charge=10**12, admitted_at=month_ago),
            call(acme, key=busy, outcome="refused", status=429),
        ]
    )
    shown = admin_client.get(reverse("admin:clients_client_change", args=[acme.pk])).content.decode()
    rows = {key.pk: row for key in (busy, idle) for row in shown.split("<tr") if page_of(key) in row}
    assert ">3<" in rows[busy.pk].replace(" ", "").replace("\n", "")
    assert "3.00" in rows[busy.pk]
    assert "0.00" in rows[idle.pk]


def page_of(key: APIKey) -> str:
    return reverse("admin:keys_apikey_change", args=[key.pk])
