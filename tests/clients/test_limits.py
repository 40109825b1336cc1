"""Limits as people write and read them."""

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from clients.cycles import CYCLES
from clients.limits import LARGEST, METRICS, amount_for_input, format_amount, parse_amount, parse_limit
from clients.models import Limit


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("requests=100/day", ("requests", 100, "day")),
        ("tokens=0/minute", ("tokens", 0, "minute")),
        ("credits=25.50/month", ("credits", 25_500_000_000_000, "month")),
        ("credits=0.000000000001/total", ("credits", 1, "total")),
        (" sessions=5/week ", ("sessions", 5, "week")),
        ("tokens=1,000,000/month", ("tokens", 1_000_000, "month")),
    ],
)
def test_a_limit_is_read(text: str, meant: tuple[str, int, str]) -> None:
    assert parse_limit(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "requests",
        "requests=100",
        "requests/day",
        "requests=/day",
        "requests=-1/day",
        "requests=1.5/day",
        "requests=1e3/day",
        "requests=١٠/day",
        "requests=100/fortnight",
        "calls=1/day",
        "credits=NaN/day",
        "credits=Infinity/day",
        "credits=-1/day",
        "credits=1e999999999/day",
        "credits=0.0000000000001/day",
        "credits=1,5/day",
        "credits=1,000/day",
        "requests=1,5/day",
        "requests=,100/day",
        "requests=1,0000/day",
        "credits=9223372.1/day",
        "credits=99999999999999999999999999/day",
        f"tokens={LARGEST + 1}/day",
        "tokens=" + "9" * 100_000 + "/day",
        "requests=1/day/day",
    ],
)
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        parse_limit(text)
    assert len(refusal.value.messages) == 1


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    for whole in (text, f"credits={text}/day", f"tokens={text}/day"):
        try:
            metric, amount, cycle = parse_limit(whole)
        except ValidationError:
            continue
        assert metric in METRICS
        assert cycle in CYCLES
        assert 0 <= amount <= LARGEST


@given(st.sampled_from(METRICS), st.integers(0, LARGEST))
def test_an_amount_survives_its_form(metric: str, amount: int) -> None:
    assert parse_amount(metric, amount_for_input(metric, amount)) == amount


def test_amounts_are_shown_with_their_unit() -> None:
    assert format_amount("credits", 25_500_000_000_000) == "25.50 USD"
    assert format_amount("credits", 1) == "0.000000000001 USD"
    assert format_amount("tokens", 2_000_000) == "2,000,000 tokens"
    assert format_amount("requests", 1) == "1 request"
    assert format_amount("sessions", 30) == "30 WhatsApp sessions"


def test_the_names_are_those_of_the_model() -> None:
    assert list(METRICS) == Limit.Metric.values
    assert list(CYCLES) == Limit.Cycle.values
