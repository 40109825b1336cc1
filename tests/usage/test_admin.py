"""Usage in the admin: to read, search and filter; never to change."""

import uuid

import pytest
from django.urls import reverse

from clients.models import Client
from pricing.models import Model, Provider
from usage.ingest import insert
from usage.models import UsageRecord

LIST = "admin:usage_usagerecord_changelist"
pytestmark = pytest.mark.django_db


@pytest.fixture
def records(calls):
    acme = Client.objects.create(name="Acme & Söhne")
    other = Client.objects.create(name="Other")
    provider = Provider.objects.create(name="sandbox", kind="sandbox")
    model = Model.objects.create(name="first", provider=provider)
    Model.objects.create(name="second", provider=provider)
    ends = [
        calls.end(c=acme.pk, m=model.pk, o="ok", cost=123_456_789, charge=10**12 * 1234 + 1, **{"in": 1234567}),
        calls.end(c=other.pk, m=model.pk, o="refused", charge=0, ask="<b>gpt</b>"),
        calls.end(c=99_999, m=99_999, o="ok"),
    ]
    insert(ends)
    return ends


def listed(answer):
    return {record.pk.hex for record in answer.context["cl"].result_list}


def test_the_list_tells_money_exactly_with_its_unit(admin_client, records):
    answer = admin_client.get(reverse(LIST))
    page = answer.content.decode()
    assert listed(answer) == {end["id"] for end in records}
    assert "0.000123456789" in page
    assert "1234.000000000001" in page
    for column in ("cost, USD", "charged, USD"):
        assert column in page.lower().replace("usd", "USD")
    assert "1,234,567" in page
    assert "Acme &amp; Söhne" in page
    assert "#99999" in page, "a record whose client is gone is listed"
    assert "<b>gpt</b>" not in page


@pytest.mark.parametrize("spelling", [str, lambda value: value.hex, lambda value: f" {value} "])
def test_search_by_request_id(admin_client, records, spelling):
    wanted = uuid.UUID(records[1]["id"])
    assert listed(admin_client.get(reverse(LIST), {"q": spelling(wanted)})) == {wanted.hex}


@pytest.mark.parametrize("text", ["nonsense", "0197c0de-0000-7000-8000-000000000000"])
def test_search_for_what_is_not_there(admin_client, records, text):
    assert listed(admin_client.get(reverse(LIST), {"q": text})) == set()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (lambda ends: {"outcome__exact": "refused"}, [1]),
        (lambda ends: {"client__id__exact": ends[0]["c"]}, [0]),
        (lambda ends: {"model__id__exact": ends[0]["m"]}, [0, 1]),
        (lambda ends: {"admitted_at__gte": "2025-11-23 00:00Z", "admitted_at__lt": "2025-11-24 00:00Z"}, [0, 1, 2]),
        (lambda ends: {"admitted_at__gte": "2025-11-24 00:00Z", "admitted_at__lt": "2025-11-25 00:00Z"}, []),
    ],
)
def test_filters(admin_client, records, query, found):
    answer = admin_client.get(reverse(LIST), query(records))
    assert answer.status_code == 200
    assert listed(answer) == {records[n]["id"] for n in found}


@pytest.mark.parametrize("n", [0, 2])
def test_the_page_of_a_record_shows_everything(admin_client, records, n):
    answer = admin_client.get(reverse("admin:usage_usagerecord_change", args=[uuid.UUID(records[n]["id"])]))
    assert answer.status_code == 200
    shown = {name for fieldset in answer.context["adminform"] for line in fieldset for name in line.fields}
    renamed = {"cost": "cost_usd", "charge": "charge_usd", "latency_us": "latency", "first_byte_us": "first_byte"}
    renamed |= {"stream": "streamed", "session_opened": "opened_session"}
    assert shown == {
        renamed.get(field.name, field.name.replace("_tokens", "_count")) for field in UsageRecord._meta.fields
    }


def test_nobody_adds_changes_or_deletes(admin_client, records):
    page = reverse("admin:usage_usagerecord_change", args=[uuid.UUID(records[0]["id"])])
    assert admin_client.get(reverse("admin:usage_usagerecord_add")).status_code == 403
    assert admin_client.post(page, {"charge": 1}).status_code == 403
    assert admin_client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [records[0]["id"]], "post": "yes"}
    admin_client.post(reverse(LIST), chosen)
    assert UsageRecord.objects.count() == 3
    assert UsageRecord.objects.get(pk=records[0]["id"]).charge == records[0]["charge"]


def test_the_list_asks_the_database_no_more_for_more_rows(admin_client, records, calls, django_assert_max_num_queries):
    insert([calls.end() for _ in range(45)])
    with django_assert_max_num_queries(12):
        admin_client.get(reverse(LIST))


def test_not_without_a_role(client, django_user_model, records):
    client.force_login(django_user_model.objects.create_user("staff", password="x", is_staff=True))
    assert client.get(reverse(LIST), follow=True).status_code == 403
