"""A wrong price is mended: figured before it is applied, exact in every sum, whatever is killed when."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db.models import Sum
from django.test import Client as Browser
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.models import AuditEntry, Client, OwnPrice
from keys.lifecycle import issue
from keys.models import KeyUse
from pricing.models import Model, Price, Provider
from pricing.quotes import DEFAULT_TIER, RateCard, Rates, Usage, charge, quote
from tests.usage.test_statements import LATER, MONTHS, at, closed, draft_of
from usage.analytics import Slice, read
from usage.ingest import insert
from usage.models import RerateStep, Rerating, TagRollup, UsageRecord
from usage.reratings import work
from usage.reratings.figures import after
from usage.rollups import check, roll_due
from usage.tags import read_tag

pytestmark = pytest.mark.django_db

START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 5, 1, tzinfo=UTC)
WRONG, RIGHT = {"input": 1_000, "output": 4_000}, {"input": 1_500, "output": 3_000}


class House:
    """A client with a key, and a model with a wrong price."""

    def __init__(self):
        self.client = Client.objects.create(name="Acme", markup_bp=2_500)
        Client.objects.filter(pk=self.client.pk).update(created_at=datetime(2024, 12, 1, tzinfo=UTC))
        self.client.refresh_from_db()
        self.key, _ = issue(self.client, "n8n")
        provider = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
        self.model = Model.objects.create(name="gpt-4o", provider=provider)
        self.other = Model.objects.create(name="other", provider=provider)
        self.price = self.priced(DEFAULT_TIER)
        self.flex = self.priced("flex")

    def priced(self, tier):
        return Price.objects.create(model=self.model, service_tier=tier, effective_from=START, **WRONG)


@pytest.fixture
def house():
    return House()


def called(house, calls, number=0, **fields):
    """Record a call as the gateway does, charged by the wrong price and the markup of 25 %."""
    end = {
        "c": house.client.pk, "key": house.key.pk, "p": house.model.provider_id, "m": house.model.pk,
        "price": house.price.pk, "at": at(2) + number, "in": 100 + number, "out": 7, "cached": 0, "cw": 0, "reason": 0,
        "ain": 0, "aout": 0, "o": "ok",
    } | fields  # fmt: skip
    cost = end["in"] * WRONG["input"] + end["out"] * WRONG["output"]
    end = {"cost": cost, "charge": charge(cost, 2_500)} | end
    end["end"] = end["at"] + 1
    made = calls.end(**end)
    insert([made])
    return UsageRecord.objects.get(pk=made["id"])


def made(house, **fields):
    rerating = Rerating(**{"model": house.model, "start": START, "end": END, "reason": "Typing error"} | fields)
    rerating.full_clean()
    rerating.save()
    RerateStep.objects.create(rerating=rerating, **RIGHT)
    work.go_on()
    rerating.refresh_from_db()
    return rerating


def applied(rerating):
    work.apply(rerating, None, LATER)
    work.go_on()
    rerating.refresh_from_db()
    assert rerating.state == "applied"


def sums_of(rerating):
    return {
        name: sum(getattr(one, name) for one in rerating.sums.all())
        for name in ("calls", "cost_before", "cost_after", "charge_before", "charge_after")
    }


def right(record):
    return record.input_tokens * RIGHT["input"] + record.output_tokens * RIGHT["output"]


def agree(house):
    """Records, rollups, tags, page and key say the same."""
    assert list(check(START, END)) == []
    whole = UsageRecord.objects.aggregate(cost=Sum("cost"), charge=Sum("charge"))
    (row,) = read(Slice(START, END, "UTC"))
    assert (row.sums.cost, row.sums.charge) == (whole["cost"], whole["charge"])
    tagged = UsageRecord.objects.exclude(workflow="").aggregate(charge=Sum("charge"))["charge"] or 0
    assert sum(row.sums.charge for row in read_tag(Slice(START, END, "UTC"), TagRollup.WORKFLOW)) == tagged
    of_key = UsageRecord.objects.filter(key=house.key).aggregate(charge=Sum("charge"))["charge"]
    assert KeyUse.objects.get(key=house.key).charge == of_key


def test_nothing_is_changed_until_it_is_applied_and_then_everything(house, calls):
    called(house, calls, w="bot")
    roll_due()
    called(house, calls, 1, w="bot")  # due
    before = list(UsageRecord.objects.order_by("pk").values())
    rerating = made(house)
    assert rerating.state == "figured"
    assert list(UsageRecord.objects.order_by("pk").values()) == before
    figured = sums_of(rerating)
    assert figured["calls"] == 2
    applied(rerating)
    assert sums_of(rerating) == figured
    for record in UsageRecord.objects.all():
        assert (record.cost, record.charge) == (right(record), charge(right(record), 2_500))
        assert record.rerating_id == rerating.pk
        assert record.price_id == house.price.pk
    assert figured["cost_after"] == UsageRecord.objects.aggregate(cost=Sum("cost"))["cost"]
    agree(house)
    roll_due()
    agree(house)


def test_only_calls_of_its_model_range_tier_and_client_are_priced_anew(house, calls):
    mine = called(house, calls)
    others = [
        called(house, calls, 1, m=house.other.pk),
        called(house, calls, 2, price=house.flex.pk),
        called(house, calls, 3, c=Client.objects.create(name="Other").pk, key=None),
        called(house, calls, 4, at=at(6)),
        called(house, calls, 5, o="refused", price=None, charge=0, cost=0),
    ]
    applied(made(house, client=house.client))
    mine.refresh_from_db()
    assert mine.cost == right(mine)
    for record in others:
        was = (record.cost, record.charge)
        record.refresh_from_db()
        assert (record.cost, record.charge, record.rerating_id) == (*was, None)


def test_open_months_change_and_closed_ones_get_an_adjustment(house, calls):
    called(house, calls, at=at(1))
    called(house, calls, 1, at=at(2))
    january = closed(house.client, MONTHS[0])
    applied(made(house))
    january.refresh_from_db()
    billed = sum(line.amount for line in january.billed)
    records = {record.admitted_at.month: record for record in UsageRecord.objects.all()}
    draft = draft_of(house.client, MONTHS[1])
    by_kind = {line.kind: line.amount for line in draft.lines if line.kind != "workflow"}
    assert by_kind == {"usage": records[2].charge, "adjustment": records[1].charge - billed}
    assert "Prices corrected" in next(line.title for line in draft.lines if line.kind == "adjustment")


def test_what_a_client_pays_is_mended_apart_from_what_the_provider_takes(house, calls):
    record = called(house, calls)
    with pytest.raises(ValidationError, match="which client"):
        Rerating(model=house.model, start=START, end=END, reason="x", corrects="charge").full_clean()
    applied(made(house, corrects="charge", client=house.client))
    was = record.cost
    record.refresh_from_db()
    assert (record.cost, record.charge) == (was, right(record))
    agree(house)


def test_who_had_an_own_price_pays_what_it_paid(house, calls):
    OwnPrice.objects.create(client=house.client, model=house.model, input=10_000, output=10_000)
    record = called(house, calls, charge=1_070_000)
    applied(made(house))
    record.refresh_from_db()
    assert (record.cost, record.charge) == (right(record), 1_070_000)


@pytest.mark.parametrize("step", ["figuring", "applying"])
def test_killed_at_any_batch_it_goes_on_and_counts_each_call_once(house, calls, monkeypatch, step):
    for number in range(7):
        called(house, calls, number // 2, **{"in": 50 + number})  # some at the same moment
        if number == 3:
            roll_due()
    monkeypatch.setattr(work, "BATCH", 2)
    rerating = Rerating.objects.create(model=house.model, start=START, end=END, reason="Typing error")
    RerateStep.objects.create(rerating=rerating, **RIGHT)
    if step == "applying":
        work.go_on()
        work.apply(rerating, None, LATER)
    whole = work._batch
    turns = 0

    def killed(pk):
        nonlocal turns
        turns += 1
        if turns % 2 == 0:
            with monkeypatch.context() as patch:
                patch.setattr(work, "_add", _die)
                whole(pk)
        return whole(pk)

    monkeypatch.setattr(work, "_batch", killed)
    for _ in range(20):
        try:
            work.go_on()
        except Dead:
            agree(house)
    rerating.refresh_from_db()
    assert rerating.state == ("applied" if step == "applying" else "figured")
    assert sums_of(rerating)["calls"] == 7
    agree(house)
    assert sums_of(rerating)["cost_after"] == sum(map(right, UsageRecord.objects.all()))


class Dead(Exception):
    pass


def _die(*_):
    raise Dead


tokens = st.integers(0, 2_000_000)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    used=st.tuples(tokens, tokens, tokens, tokens, tokens, tokens, tokens),
    old=st.tuples(*[st.integers(0, 10**8)] * 6),
    new=st.tuples(*[st.integers(0, 10**8)] * 6),
    markup=st.integers(-10_000, 100_000),
    now=st.integers(-10_000, 100_000),
)
def test_the_charge_follows_the_cost_by_the_terms_of_then(used, old, new, markup, now):
    card, mended = (RateCard({DEFAULT_TIER: (Rates(1, 0, *rates),)}) for rates in (old, new))
    usage = Usage(*used)
    cost = quote(card, usage, None)[0]
    record = {**usage._asdict(), "cost": cost, "charge": charge(cost, markup), "outcome": "ok"}
    after_cost, after_charge = after(record, mended, "cost", now, None)
    assert after_cost == quote(mended, usage, None)[0]
    if markup == now:
        assert after_charge == charge(after_cost, markup)
    elif cost:  # the ratio of before, to what rounding allows
        assert abs(after_charge - charge(after_cost, markup)) <= 1 + after_cost // cost


def test_ranges_that_are_not_over_are_refused(house):
    soon = datetime.now(UTC) + timedelta(hours=1)
    for start, end in ((END, START), (START, START), (START, soon)):
        with pytest.raises(ValidationError):
            Rerating(model=house.model, start=start, end=end, reason="x").full_clean()


def test_it_is_withdrawn_before_and_never_after(house, calls):
    called(house, calls)
    rerating = made(house)
    work.withdraw(rerating)
    assert not Rerating.objects.exists()
    rerating = made(house)
    applied(rerating)
    for act in (lambda: work.withdraw(rerating), lambda: work.apply(rerating, None, LATER)):
        with pytest.raises(ValidationError):
            act()


def test_it_is_made_looked_at_and_applied_on_its_pages(house, calls, admin_client: Browser):
    record = called(house, calls)
    page = reverse("admin:usage_rerating_add")
    shown = admin_client.get(f"{page}?model={house.model.pk}").content.decode()
    assert 'value="0.001"' in shown  # the rates in force, to begin with
    form = {
        "model": house.model.pk, "client": "", "corrects": "cost", "service_tier": "default",
        "start": "2025-01-01T00:00:00", "end": "2025-05-01T00:00:00", "reason": "<b>Typing error</b>",
        "input": "0.0015", "output": "0.003", "long-TOTAL_FORMS": "0", "long-INITIAL_FORMS": "0",
    }  # fmt: skip
    answer = admin_client.post(page, form)
    assert answer.status_code == 302, [answer.context[name].errors for name in ("form", "rates")]
    rerating = Rerating.objects.get()
    assert "Being figured" in admin_client.get(answer.headers["location"]).content.decode()
    work.go_on()
    looked = admin_client.get(answer.headers["location"]).content.decode()
    assert "&lt;b&gt;Typing error" in looked
    assert "February 2025" in looked
    assert "Apply" in looked
    admin_client.post(reverse("admin:usage_rerating_apply", args=[rerating.pk]))
    work.go_on()
    record.refresh_from_db()
    assert record.cost == right(record)
    bill = admin_client.get(reverse("admin:usage_usagerecord_change", args=[record.pk])).content.decode()
    assert f"re-rating {rerating.pk}" in bill
    assert "0.0015" in bill
    assert "Recorded beside these" not in bill
    told = [str(entry.changes) for entry in AuditEntry.objects.get_for_object(rerating)]
    assert any("applied" in one for one in told)
    assert date(2025, 2, 1) in [one.month for one in rerating.sums.all()]
