"""Models in the back office: what they cost, what somebody should look at, and prices to come."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from clients.access import Role, set_role
from pricing.catalogue import catalogue_prices
from pricing.models import Model, Price, Provider
from pricing.price_list import Step, new_price

LIST = "admin:pricing_model_changelist"


@pytest.fixture
def browser(admin_client: Browser) -> Browser:
    return admin_client


def address(page: str, *args: Any) -> str:
    return reverse(f"admin:pricing_model_{page}", args=args)


def text(answered: Any) -> str:
    assert answered.status_code == 200, answered.status_code
    return " ".join(answered.content.decode().replace("\u2007", "").split())


def rates(**changed: Any) -> dict[str, Any]:
    return {
        "when": "now",
        "service_tier": "default",
        "input": "0.2",
        "output": "0.8",
        "long-TOTAL_FORMS": 1,
        "long-INITIAL_FORMS": 0,
    } | changed


# --- the list ---


def test_the_list_shows_prices_and_warns_of_missing_ones(browser: Browser, price: Price) -> None:
    shown = text(browser.get(reverse(LIST)))
    assert re.search(r"0\.15<.*0\.60<", shown)
    assert "USD per 1M tokens" in shown
    assert "no price" not in shown.replace("No price", "")
    Model.objects.create(name="unpriced", provider=price.model.provider)
    assert "no price: calls are refused" in text(browser.get(reverse(LIST)))
    Model.objects.filter(name="unpriced").update(free=True)
    assert "no price: calls" not in text(browser.get(reverse(LIST)))


def test_the_list_warns_where_the_catalogue_says_otherwise(browser: Browser, price: Price) -> None:
    assert "catalogue says otherwise" in text(browser.get(reverse(LIST))), "the cached price is missing"
    shown = text(browser.get(address("change", price.model_id)))
    assert "The catalogue says otherwise" in shown
    assert re.search(r"cached input</td>.*?0\.15<.*?0\.075<", shown)
    chosen = {"action": "price_by_catalogue", "_selected_action": [price.model_id]}
    assert "1 of 1 got new prices" in text(browser.post(reverse(LIST), chosen, follow=True))
    assert "catalogue says otherwise" not in text(browser.get(reverse(LIST)))
    newest = Price.objects.filter(service_tier="default").order_by("effective_from").last()
    assert newest is not None
    assert (newest.cached_input, newest.source, newest.created_by) == (75_000, "catalogue", User.objects.get())


def test_a_model_takes_all_the_catalogue_says_at_a_click(browser: Browser, price: Price) -> None:
    before = price.model.rate_card(timezone.now())
    assert browser.get(address("catalogue", price.model_id)).status_code == 405
    done = text(browser.post(address("catalogue", price.model_id), follow=True))
    assert "The catalogue says otherwise" not in done, "all tiers are priced, not the default one alone"
    assert price.model.prices.filter(service_tier="fast", created_by=User.objects.get()).exists()
    assert price.model.rate_card(timezone.now()) != before
    count = Price.objects.count()
    assert "Nothing to do" in text(browser.post(address("catalogue", price.model_id), follow=True))
    assert Price.objects.count() == count


def test_every_tier_of_the_catalogue_may_be_priced_by_hand(browser: Browser, price: Price) -> None:
    tiers = {row.service_tier for row in catalogue_prices("openai", "gpt-4o-mini")}
    assert {"default", "fast"} <= tiers
    for tier in tiers:
        browser.post(address("price", price.model_id), rates(service_tier=tier))
    assert set(price.model.prices.values_list("service_tier", flat=True)) == tiers


def test_models_are_found_by_having_no_price(browser: Browser, price: Price) -> None:
    Model.objects.create(name="unpriced", provider=price.model.provider)
    to_come = Model.objects.create(name="to-come", provider=price.model.provider)
    new_price(to_come, [Step(1, 1)], timezone.now() + timedelta(days=1), None)
    Model.objects.create(name="gratis", provider=price.model.provider, free=True)

    def found(choice: str) -> set[str]:
        answered = browser.get(reverse(LIST), {"price": choice})
        return {model.name for model in answered.context["cl"].queryset}

    assert found("none") == {"unpriced", "to-come"}
    assert found("priced") == {"gpt-4o-mini", "gratis"}


def test_many_are_switched_off_and_on(browser: Browser, price: Price) -> None:
    other = Model.objects.create(name="unpriced", provider=price.model.provider)
    chosen = {"_selected_action": [price.model_id, other.pk]}
    shown = text(browser.post(reverse(LIST), chosen | {"action": "switch_off"}, follow=True))
    assert "2 models switched off" in shown
    assert not Model.objects.filter(enabled=True).exists()
    shown = text(browser.post(reverse(LIST), chosen | {"action": "switch_on"}, follow=True))
    assert "2 models switched on" in shown
    assert "refused until they have a price: unpriced" in shown
    assert not Model.objects.filter(enabled=False).exists()


def test_an_operator_switches_nothing_that_is_shared(price: Price) -> None:
    ann = User.objects.create_user("ann")
    set_role(ann, Role.OPERATOR)
    own = Model.objects.create(
        name="own", provider=Provider.objects.create(name="p", base_url="https://example.com", owner=ann)
    )
    browser = Browser()
    browser.force_login(User.objects.get(pk=ann.pk))
    browser.post(reverse(LIST), {"_selected_action": [price.model_id, own.pk], "action": "switch_off"})
    assert dict(Model.objects.values_list("name", "enabled")) == {"gpt-4o-mini": True, "own": False}
    browser.post(reverse(LIST), {"_selected_action": [price.model_id], "action": "price_by_catalogue"})
    assert Price.objects.count() == 1


def test_the_list_asks_the_database_as_often_for_many(
    browser: Browser, price: Price, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        model = Model.objects.create(name=f"m{number}", upstream_name="gpt-4o", provider=price.model.provider)
        new_price(model, [Step(1, 1)], None, None)
    with django_assert_max_num_queries(13):
        text(browser.get(reverse(LIST)))


# --- a new price ---


def test_a_price_from_now_is_in_force_at_once(browser: Browser, price: Price) -> None:
    before = timezone.now()
    shown = text(browser.post(address("price", price.model_id), rates(cached_input="0.05"), follow=True))
    assert "Saved: 0.20 in / 0.80 out, USD per 1M tokens, from" in shown
    made = Price.objects.get(input=200_000)
    assert before <= made.effective_from <= timezone.now()
    assert (made.output, made.cached_input, made.cache_write, made.source) == (800_000, 50_000, None, "operator")
    assert made.created_by == User.objects.get()
    assert price.model.rate_card(timezone.now()).rates(None, 1).price_id == made.pk  # type: ignore[union-attr]


@time_machine.travel(datetime(2026, 11, 25, 12, tzinfo=UTC), tick=False)
def test_a_price_from_the_1st_begins_at_midnight_where_the_installation_is(
    browser: Browser, model: Model, settings: Settings
) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    url = address("price", model.pk)
    assert "from the 1st of December, 00:00 (Europe/Berlin)" in text(browser.get(url))
    browser.post(url, rates(when="next_month"))
    assert Price.objects.get().effective_from == datetime(2026, 11, 30, 23, tzinfo=UTC)
    browser.post(url, rates(when="day", day="2027-07-15"))
    assert Price.objects.latest("effective_from").effective_from == datetime(2027, 7, 14, 22, tzinfo=UTC)
    shown = text(browser.get(address("change", model.pk)))
    assert shown.count("to come") == 2
    assert "There is no price in force" in shown


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"when": "day"}, "Say from which day."),
        ({"when": "day", "day": "2020-01-01"}, "That moment is past"),
        ({"when": "day", "day": "2099-01-01"}, "more than five years"),
        ({"when": "day", "day": "soon"}, "Enter a valid date"),
        ({"when": "whenever"}, "Select a valid choice"),
        ({"input": ""}, "This field is required"),
        ({"input": "-1"}, "greater than or equal to 0"),
        ({"output": "0.0000001"}, "decimal places"),
        ({"output": "NaN"}, "Enter a number"),
        ({"output": "1e9"}, "less than or equal to"),
        ({"service_tier": "auto"}, "Select a valid choice"),
        ({"long-0-above_tokens": "1000", "long-0-input": "1"}, "This field is required"),
        (
            {"long-TOTAL_FORMS": 2}
            | {f"long-{row}-{name}": "9" for row in (0, 1) for name in ("above_tokens", "input", "output")},
            "already exists",
        ),
    ],
)
def test_a_price_that_cannot_be_is_refused_in_words(
    browser: Browser, price: Price, changed: dict[str, Any], said: str
) -> None:
    assert said in text(browser.post(address("price", price.model_id), rates(**changed)))
    assert Price.objects.count() == 1


def test_two_prices_from_the_same_moment_are_one_too_many(browser: Browser, price: Price) -> None:
    url = address("price", price.model_id)
    browser.post(url, rates(when="next_month"))
    assert "withdraw it first" in text(browser.post(url, rates(when="next_month", input="9")))
    assert Price.objects.count() == 2


def test_long_calls_have_rates_of_their_own(browser: Browser, price: Price) -> None:
    url = address("price", price.model_id)
    long = {"long-0-above_tokens": "200000", "long-0-input": "0.4", "long-0-output": "1.6"}
    browser.post(url, rates(**long))
    made = Price.objects.exclude(pk=price.pk).order_by("above_tokens")
    assert list(made.values_list("above_tokens", "input", "output")) == [
        (0, 200_000, 800_000),
        (200_000, 400_000, 1_600_000),
    ]
    filled = text(browser.get(url))
    assert re.search(
        r'name="long-0-above_tokens"[^>]*value="200000"|value="200000"[^>]*name="long-0-above_tokens"', filled
    )
    removed = long | {"long-TOTAL_FORMS": 2, "long-INITIAL_FORMS": 1, "long-0-DELETE": "on"}
    browser.post(url, rates(when="next_month", **removed))
    assert list(Price.objects.filter(effective_from__gt=timezone.now()).values_list("above_tokens", flat=True)) == [0]


def test_the_form_begins_with_what_is_in_force_or_in_the_catalogue(browser: Browser, price: Price) -> None:
    def filled(page: str) -> dict[str, str]:
        shown = browser.get(page).context["form"]
        return {name: str(shown[name].value() or "") for name in ("input", "output", "cached_input")}

    url = address("price", price.model_id)
    assert filled(url) == {"input": "0.15", "output": "0.6", "cached_input": ""}
    assert filled(f"{url}?from=catalogue") == {"input": "0.15", "output": "0.6", "cached_input": "0.075"}


def test_a_free_model_takes_no_price(browser: Browser, model: Model) -> None:
    Model.objects.update(free=True)
    assert "is free" in text(browser.post(address("price", model.pk), rates()))


# --- history ---


def test_the_history_tells_who_when_and_from_what(browser: Browser, price: Price) -> None:
    ann = User.objects.create_user("ann <b>")
    new_price(price.model, [Step(2_000_000, 3_000_000)], None, ann)
    shown = text(browser.get(address("change", price.model_id)))
    assert re.search(
        r"in force</strong>.*?2\.00.*?3\.00.*?ann &lt;b&gt;, .*?entered by hand.*?past.*?0\.15.*?the gateway,", shown
    )
    assert "Withdraw" not in shown


def test_a_price_to_come_is_withdrawn_and_one_in_force_is_not(browser: Browser, price: Price) -> None:
    (coming,) = new_price(price.model, [Step(1, 1)], timezone.now() + timedelta(days=1), None)
    assert "Withdraw" in text(browser.get(address("change", price.model_id)))
    url = address("withdraw", price.model_id, coming.pk)
    assert browser.get(url).status_code == 405
    assert "Withdrawn: " in text(browser.post(url, follow=True))
    assert Price.objects.get() == price
    assert browser.post(url).status_code == 404
    assert "stays" in text(browser.post(address("withdraw", price.model_id, price.pk), follow=True))
    assert Price.objects.get() == price


def test_a_price_is_withdrawn_by_its_own_model_only(browser: Browser, price: Price) -> None:
    (coming,) = new_price(price.model, [Step(1, 1)], timezone.now() + timedelta(days=1), None)
    other = Model.objects.create(name="other", provider=price.model.provider)
    assert browser.post(address("withdraw", other.pk, coming.pk)).status_code == 404
    assert Price.objects.filter(pk=coming.pk).exists()


def test_readers_see_prices_and_change_nothing(price: Price) -> None:
    new_price(price.model, [Step(1, 1)], timezone.now() + timedelta(days=1), None)
    vera = User.objects.create_user("vera")
    set_role(vera, Role.VIEWER)
    browser = Browser()
    browser.force_login(User.objects.get(pk=vera.pk))
    shown = text(browser.get(address("change", price.model_id)))
    assert "to come" in shown
    assert "Withdraw" not in shown
    assert "New price" not in shown


def test_the_page_asks_the_database_as_often_for_a_long_history(
    browser: Browser, price: Price, django_assert_max_num_queries: Any
) -> None:
    for day in range(1, 60):
        ann = User.objects.create_user(f"user{day}")
        new_price(price.model, [Step(day, day)], timezone.now() + timedelta(days=day), ann)
    with django_assert_max_num_queries(14):
        text(browser.get(address("change", price.model_id)))


def test_a_name_that_is_taken_is_refused_in_words(browser: Browser, price: Price) -> None:
    sent = {"name": price.model.name, "provider": price.model.provider_id, "enabled": "on"}
    assert "already a model of that name" in text(browser.post(address("add"), sent))
