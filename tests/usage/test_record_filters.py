"""The list of calls narrowed by what people look for."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.utils import timezone

from clients.access import Role, set_role
from clients.onboarding import create_client
from keys.lifecycle import issue
from pricing.models import Provider
from proxy.request import Endpoint
from tests.usage.test_pages import call
from usage import due, record_list
from usage.record_filters import _ENDPOINTS
from usage.rollups import roll_due

pytestmark = pytest.mark.django_db
URL = "/admin/usage/usagerecord/"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("answered=ok", {"quick", "slow", "dear"}),
        ("answered=limits", {"refused"}),
        ("answered=wrong", {"refused"}),
        ("answered=failed", {"failed"}),
        ("answered=none", {"gone"}),
        ("slower=5", {"slow"}),
        ("dearer=10", {"dear"}),
        ("workflow=nightly", {"slow", "dear"}),
        ("workflow=nightly&slower=5", {"slow"}),
        ("env=staging", {"dear"}),
        ("execution=17", {"slow"}),
        ("workflow=nobody", set()),
        ("slower=x&dearer=y&answered=z", {"quick", "slow", "dear", "refused", "failed", "gone"}),
    ],
)
def test_each_filter_leaves_what_it_says(admin_client: Browser, query: str, found: set[str]) -> None:
    acme = create_client("Acme")
    for name, fields in {
        "quick": {"latency_us": 5 * 10**6, "cost": 10**11},
        "slow": {"latency_us": 5 * 10**6 + 1, "workflow": "nightly", "execution": "17"},
        "dear": {"cost": 10**11 + 1, "workflow": "nightly", "env": "staging"},
        "refused": {"outcome": "refused", "status": 429},
        "failed": {"outcome": "upstream_error", "status": 502},
        "gone": {"outcome": "client_gone", "status": 0},
    }.items():
        call(acme, model_asked=name, **fields).save(force_insert=True)
    answer = admin_client.get(f"{URL}?{query}")
    assert {record.model_asked for record in answer.context["cl"].result_list} == found


def test_links_of_analytics_lead_to_the_calls_of_one_key_provider_or_endpoint(admin_client: Browser) -> None:
    acme = create_client("Acme")
    key, _ = issue(acme, "n8n")
    provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    wanted = call(acme, key=key, provider=provider, endpoint="embeddings", model_asked="wanted")
    for record in (wanted, call(acme, model_asked="other", endpoint="responses")):
        record.save(force_insert=True)
    due.put_all_down()
    for query in (f"key={key.pk}", f"provider={provider.pk}", "endpoint=embeddings"):
        link = admin_client.get(f"/admin/analytics/?{query}").context["calls_link"]
        answer = admin_client.get(link)
        assert answer.status_code == 200, link
        assert [record.model_asked for record in answer.context["cl"].result_list] == ["wanted"], link


def test_the_endpoints_offered_are_those_that_there_are() -> None:
    assert sorted(_ENDPOINTS) == sorted(endpoint.value for endpoint in Endpoint)


def test_workflows_offered_are_those_of_ones_own_clients() -> None:
    ana = User.objects.create_user("ana")
    set_role(ana, Role.OPERATOR)
    for client, name in ((create_client("Own", owner=ana), "mine"), (create_client("Foreign"), "theirs")):
        call(client, workflow=name).save(force_insert=True)
    due.put_all_down()
    roll_due()
    browser = Browser()
    browser.force_login(ana)
    page = browser.get(URL).content.decode()
    assert "workflow=mine" in page
    assert "theirs" not in page


def test_the_newest_calls_are_looked_through_and_one_is_found_by_its_id_however_old(
    admin_client: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_list.RecordList, "looked_at", 3)
    acme, other = create_client("Acme"), create_client("Beta")
    now = timezone.now()
    made = [call(acme if n < 2 else other, model_asked=f"m{n}", admitted_at=now - timedelta(days=n)) for n in range(6)]
    for record in made:
        record.save(force_insert=True)

    def found(query: str) -> set[str]:
        return {record.model_asked for record in admin_client.get(f"{URL}?{query}").context["cl"].result_list}

    assert found("") == {"m0", "m1", "m2"}
    assert "Among the newest" in admin_client.get(URL).content.decode()
    assert found(f"client__id__exact={other.pk}") == {"m2", "m3", "m4"}
    assert found(f"client__id__exact={acme.pk}") == {"m0", "m1"}
    before = (now - timedelta(days=3, hours=-1)).isoformat().replace("+00:00", "Z")
    assert found(f"admitted_at__lt={before}") == {"m3", "m4", "m5"}
    assert found(f"q={made[5].pk}") == {"m5"}
    assert "Among the newest" not in admin_client.get(f"{URL}?q={made[5].pk}").content.decode()
