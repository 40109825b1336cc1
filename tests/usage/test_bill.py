"""One call's page: when what happened, and how its cost came about to the picodollar."""

from datetime import UTC, datetime

import pytest
from django.test import Client as Browser
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from clients.onboarding import create_client
from pricing.models import Model, Price, Provider
from pricing.price_list import Step, new_price
from pricing.quotes import Usage, quote, schedule
from tests.usage.test_pages import call, text
from usage.bill import bill_of
from usage.models import UsageRecord

tokens = st.integers(0, 10**6)
rates = st.integers(0, 10**9)


@given(
    usage=st.builds(Usage, tokens, tokens, tokens, tokens, tokens, tokens, tokens),
    wanted=st.fixed_dictionaries(
        {"input": rates, "output": rates},
        optional=dict.fromkeys(("cached_input", "cache_write", "audio_input", "audio_output"), rates),
    ),
)
def test_the_lines_make_up_the_cost_of_any_usage(usage: Usage, wanted: dict[str, int]) -> None:
    price = Price(id=1, effective_from=datetime(2026, 1, 1, tzinfo=UTC), **wanted)
    [(_, card)] = schedule([price])
    cost, _ = quote(card, usage, None)
    bill = bill_of(UsageRecord(cost=cost, **usage._asdict()), price)
    assert bill.difference == 0
    assert sum(line.amount for line in bill.lines) == cost
    assert all(line.amount == line.tokens * line.rate and line.tokens for line in bill.lines)


@pytest.mark.django_db
def test_a_calls_page_tells_its_course_and_its_bill(admin_client: Browser) -> None:
    model = Model.objects.create(
        name="gpt-4o-mini", provider=Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    )
    [price] = new_price(model, [Step(150_000, 600_000, cached_input=75_000)], None, None)
    client = create_client("Acme", markup_bp=2500)
    record = call(
        client, model=model, price=price, input_tokens=1_000, cached_tokens=400, output_tokens=100,
        cost=180_000_000, charge=225_000_000, latency_us=1_234_000, first_byte_us=250_000,
    )  # fmt: skip
    record.save(force_insert=True)
    page = text(admin_client.get(reverse("admin:usage_usagerecord_change", args=[record.pk])))
    for shown in ("1,234.0 ms", "250.0 ms", "0.075", "0.00003", "0.00018", "0.000225", "markup 25 %"):
        assert shown in page, shown
    refused = call(client, outcome="refused", status=429, error_code="insufficient_quota")
    refused.save(force_insert=True)
    page = text(admin_client.get(reverse("admin:usage_usagerecord_change", args=[refused.pk])))
    assert "It cost nothing, since it was refused" in page
    assert "insufficient_quota" in page
