from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from pricing.fields import RateFormField
from pricing.models import Model, Price

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def to_come(model: Model) -> Price:
    return Price.objects.create(model=model, effective_from=datetime.now(UTC) + HOUR, input=1, output=2)


@pytest.mark.parametrize(
    "fields",
    [
        *({rate: -1} for rate in ("input", "cached_input", "cache_write", "output", "audio_input", "audio_output")),
        {"input": None},
        {"output": None},
        {"input": 10**12 + 1},
        {"service_tier": ""},
        {"service_tier": "auto"},
        {"above_tokens": -1},
        {"source": "hearsay"},
    ],
)
def test_the_database_refuses_a_price_that_cannot_be(model: Model, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(**{"model": model, "input": 1, "output": 1} | fields)


def test_a_step_has_one_price_at_a_time(price: Price) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(model=price.model, effective_from=price.effective_from, input=1, output=1)


def test_a_price_in_force_is_never_edited(price: Price) -> None:
    price.input += 1
    price.effective_from += 2 * HOUR  # as a form would, to slip past
    with pytest.raises(ValidationError):
        price.save()
    with pytest.raises(ValidationError):
        Price.objects.filter(pk=price.pk).update(input=1)
    with pytest.raises(ValidationError), transaction.atomic():
        Price.objects.bulk_update([price], ["input"])
    assert Price.objects.get().input == 150_000


def test_a_price_in_force_is_never_deleted(price: Price) -> None:
    with pytest.raises(ValidationError):
        price.delete()
    with pytest.raises(ValidationError):
        Price.objects.all().delete()
    with pytest.raises(ProtectedError):
        price.model.delete()
    assert Price.objects.count() == 1


def test_a_price_to_come_may_change(model: Model) -> None:
    price = to_come(model)
    price.input = 5
    price.save()
    assert Price.objects.update(output=6) == 1
    assert (Price.objects.get().input, Price.objects.get().output) == (5, 6)
    price.delete()
    assert not Price.objects.exists()


def test_one_price_in_force_among_others_protects_them_all(price: Price) -> None:
    to_come(price.model)
    with pytest.raises(ValidationError):
        Price.objects.order_by("-effective_from").update(output=6)
    assert not Price.objects.filter(output=6).exists()


def test_a_model_knows_its_rates_at_any_moment(price: Price) -> None:
    model = price.model
    later = to_come(model)
    assert model.rate_card(price.effective_from - HOUR) is None
    now, then = model.rate_card(datetime.now(UTC)), model.rate_card(later.effective_from)
    assert now is not None
    assert then is not None
    assert now.rates(None, 1).price_id == price.pk
    assert then.rates(None, 1).price_id == later.pk


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Price
        fields = ("input", "cached_input", "output")


def test_a_form_speaks_dollars_per_million(price: Price) -> None:
    form = PriceForm(instance=price)
    assert form["input"].value() == "0.15"
    assert form["cached_input"].value() is None
    assert "0.15" in form.as_p()
    assert "USD per 1M tokens" in form.as_p()
    filled = PriceForm({"input": "0.075", "cached_input": "", "output": "0.000001"}, instance=price)
    assert filled.is_valid()
    assert (filled.instance.input, filled.instance.cached_input, filled.instance.output) == (75_000, None, 1)


def test_a_form_knows_what_was_changed(price: Price) -> None:
    same = PriceForm({"input": "0.150", "cached_input": "", "output": "0.6"}, instance=price)
    other = PriceForm({"input": "0.150001", "cached_input": "", "output": "0.6"}, instance=price)
    assert same.changed_data == []
    assert other.changed_data == ["input"]


@pytest.mark.parametrize("text", ["0.0000001", "-1", "abc", "NaN", "1000001", "1e-9", ""])
def test_a_form_refuses_what_is_no_price(text: str) -> None:
    with pytest.raises(ValidationError):
        RateFormField().clean(text)


def test_a_form_takes_the_dearest_price() -> None:
    assert RateFormField().clean("1000000") == 10**12
    assert RateFormField(required=False).clean("") is None
    assert RateFormField().prepare_value(10**12) == "1000000"
    assert RateFormField().prepare_value("typed") == "typed"
    assert Decimal(RateFormField().prepare_value(1)) == Decimal("0.000001")
