"""The parts of pages that tell of usage: the home page, and what a client's page says above its profile."""

import json
from datetime import timedelta
from typing import Any

from django import template
from django.db.models import Q
from django.utils import timezone

from clients import access
from clients.models import Client
from keys.models import APIKey
from pricing.models import Model, Price
from pricing.money import format_dollars, format_sum, rate_to_million
from usage import overview
from usage.bill import bill_of, charged_by, correction
from usage.models import UsageRecord
from usage.standings import closest, foreseen, of_client, of_key

register = template.Library()

_CLOSEST = 10
_EXPIRING = timedelta(days=7)


@register.filter
def usd(picodollars: int) -> str:
    """Return picodollars as USD, exactly."""
    return format_dollars(picodollars)


@register.filter
def usd_short(picodollars: int) -> str:
    """Return picodollars as USD to the cent, below a cent to the millionth: a sum for the eye."""
    return format_sum(picodollars)


@register.filter
def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}"


@register.filter
def milliseconds(us: int) -> str:
    """Return µs as milliseconds."""
    return f"{us / 1000:,.1f}"


@register.filter
def per_million(rate: int) -> str:
    """Return picodollars per token as USD per 1M tokens."""
    return f"{rate_to_million(rate):f}"


@register.inclusion_tag("admin/usage/course_of_call.html", takes_context=True)
def course_of_call(context: dict[str, Any], call: UsageRecord) -> dict[str, Any]:
    """What happened in a call when, and how its cost came about."""
    price = Price.objects.filter(pk=call.price_id or 0).select_related("model").first()
    step = correction(call)
    rates = step or price
    return {
        "perms": context["perms"],
        "call": call,
        "price": price,
        "corrected": step is not None,
        "bill": None if rates is None or not (call.cost or call.charge) else bill_of(call, rates),
        "charged_by": charged_by(call),
    }


@register.inclusion_tag("admin/usage/home.html", takes_context=True)
def home(context: dict[str, Any]) -> dict[str, Any]:
    """What is wrong, what today cost, who is close to a limit: of what the reader may see."""
    user = context["request"].user
    now = timezone.now()
    today = overview.day_start(timezone.localdate())
    clients = access.visible(user, Client.objects.current())
    records = access.visible(user, UsageRecord.objects.all())
    close = closest(clients)
    return {
        "user": user,
        "perms": context["perms"],
        "now": now,
        "any_clients": clients.exists(),
        "gateway_answers": close is not None,
        "today": overview.totals(records.filter(admitted_at__gte=today)),
        "yesterday": overview.totals(
            records.filter(admitted_at__gte=overview.day_before(today), admitted_at__lt=overview.day_before(now))
        ),
        "close": (close or [])[:_CLOSEST],
        "full": len({one.limit.client_id for one in close or () if one.full}),
        "failing": overview.failing_clients(records.filter(admitted_at__gte=now - timedelta(hours=24)), 5),
        "suspended": clients.filter(status=Client.Status.SUSPENDED).count(),
        "expiring": _expiring(user),
        "unpriced": _unpriced(user),
    }


@register.inclusion_tag("admin/usage/of_client.html", takes_context=True)
def usage_of_client(context: dict[str, Any], client: Client) -> dict[str, Any]:
    """How a client's limits stand, what it spent in 30 days, how its last calls ended, and its errors."""
    today = timezone.localdate()
    told = of_client(client)
    days = overview.charge_by_day(client, today)
    return {
        "client": client,
        "perms": context["perms"],
        "request": context["request"],
        "gateway_answers": told is not None,
        "standings": foreseen(told or [], client),
        "limited": client.limits.exists(),
        "today": overview.charged(
            UsageRecord.objects.filter(client=client, admitted_at__gte=overview.day_start(today))
        ),
        "charge": sum(charged for _, _, charged in days),
        "calls": sum(calls for _, calls, _ in days),
        "chart": json.dumps(
            {
                "labels": [f"{day:%-d %b}" for day, _, _ in days],
                "datasets": [
                    {
                        "label": "Charged, USD",
                        "data": [format_dollars(charged) for _, _, charged in days],
                        "backgroundColor": "#2563eb",
                    }
                ],
            }
        ),
        "last_calls": overview.last_calls(client),
        "errors": overview.errors_by_kind(client, timezone.now() - timedelta(days=7)),
    }


@register.inclusion_tag("admin/usage/of_key.html")
def usage_of_key(key: APIKey) -> dict[str, Any]:
    """How a key's own limits stand, and what was done with it in 30 days."""
    works = key.state(timezone.now()) in ("active", "replaced")
    limited = key.limits.exists()
    told = of_key(key) if works and limited else []
    return {
        "key": key,
        "works": works,
        "gateway_answers": told is not None,
        "standings": foreseen(told or [], key),
        "limited": limited,
        "month": overview.charged(overview.lately(UsageRecord.objects.filter(key=key))),
    }


def _expiring(user: access.Person) -> list[APIKey]:
    now = timezone.now()
    soon = APIKey.objects.filter(revoked_at=None, expires_at__gt=now, expires_at__lte=now + _EXPIRING)
    return list(access.visible(user, soon).select_related("client").order_by("expires_at")[:5])


def _unpriced(user: access.Person) -> int:
    in_force = Price.objects.in_force().filter(service_tier="default", above_tokens=0).values("model")
    enabled = Model.objects.filter(Q(provider__enabled=True), enabled=True, free=False)
    return access.visible(user, enabled.exclude(pk__in=in_force)).count()
