"""What is found to be told: each kind of alert is a function that yields what it sees now, however often it looks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Max, QuerySet

from clients import access
from clients.limits import short_amount
from clients.models import Client
from keys.models import APIKey
from pricing.models import Model, Provider
from pricing.money import format_sum
from usage import analytics, outcomes, standings
from usage.alerts.models import Alert, AlertRules, Delivery, Kind, Receiver, rules
from usage.days import HOUR, hour_of
from usage.forecast import FORESEEN
from usage.models import UsageRecord
from usage.standings import Standing

FEWEST_CALLS: Final = 20
"""Fewer say nothing of how many fail."""
LOOKED_BACK: Final = timedelta(minutes=10)
"""For calls that failed for a reason that somebody has to mend."""
FORESEEN_AHEAD: Final = ("week", "month")
"""A day's overrun is seen too late to do much, and told every day."""
WEEKS: Final = 4
FEWEST_HOURS: Final = 24
"""With calls; of fewer nobody can say what is usual."""
LEAST_UNUSUAL: Final = 10**12
"""Picodollars of cost in an hour: a dollar. What is less is not worth waking anybody."""
_BUSY: Final = 95  # percentile of a client's hours that counts as usual
_GIVEN_UP: Final = timedelta(days=90)  # a client that is silent for so long has left
_FAILED: Final = frozenset({outcomes.UPSTREAM_ERROR, outcomes.BROKEN, outcomes.INTERRUPTED, outcomes.REJECTED})


@dataclass(frozen=True, slots=True)
class Found:
    """Something to be told once for each `mark`."""

    kind: Kind
    mark: str
    title: str
    client: Client | None = None
    provider: Provider | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def watch(now: datetime) -> int:
    """Put down what is to be told of limits and of the last calls; return how many alerts are new."""
    wanted = rules()
    return raise_all([*limits(wanted), *errors(wanted, now), *refusals(now)], now)


def look_ahead(now: datetime) -> int:
    """Put down what takes longer to see: forecasts, silent clients, unusual spend; return how many alerts are new."""
    wanted = rules()
    return raise_all([*forecasts(wanted), *silent(wanted, now), *unusual(wanted, now)], now)


def raise_all(found: Iterable[Found], now: datetime) -> int:
    """Put each alert down once, with a delivery to each who wants it; return how many are new."""
    each = {one.mark: one for one in found}
    known = set(Alert.objects.filter(mark__in=list(each)).values_list("mark", flat=True))
    return sum(_raise(one, now) for mark, one in each.items() if mark not in known)


@transaction.atomic
def _raise(found: Found, now: datetime) -> bool:
    facts = dict(found.facts)
    alert, new = Alert.objects.get_or_create(
        mark=found.mark,
        defaults={
            "kind": found.kind,
            "client": found.client,
            "provider": found.provider,
            "title": found.title[:300],
            "facts": facts,
            "raised_at": now,
        },
    )
    if new:
        Delivery.objects.bulk_create(
            Delivery(alert=alert, receiver=receiver, made_at=now, due_at=now) for receiver in _receivers(alert)
        )
    return new


def _receivers(alert: Alert) -> list[Receiver]:
    """Return who wants to be told, and may see what it is about."""
    rows = Receiver.objects.filter(enabled=True).select_related("owner__membership")
    seen = Alert.objects.filter(pk=alert.pk)
    return [
        receiver
        for receiver in rows
        if (not receiver.kinds_wanted or alert.kind in receiver.kinds_wanted)
        and (receiver.owner is None or access.visible(receiver.owner, seen).exists())
    ]


def limits(wanted: AlertRules) -> Iterator[Found]:
    """Yield limits, of clients and of keys, that are used up to a threshold: the highest of those reached."""
    if not wanted.thresholds:
        return
    for standing in (
        *(standings.used(wanted.thresholds[0]) or ()),
        *(standings.used_of_keys(wanted.thresholds[0]) or ()),
    ):
        limit = standing.limit
        reached = [
            percent for percent in wanted.thresholds if limit.amount and standing.spent * 100 >= percent * limit.amount
        ]
        if limit.cycle not in FORESEEN or not reached:
            continue
        client, key = _whose(standing)
        whose = f"A key of {client}" if key else f"{client}"  # whoever reads of clients need not read of keys
        used = short_amount(limit.metric, standing.spent)
        yield Found(
            Kind.LIMIT,
            f"{_of(standing)}:{limit.amount}:{reached[-1]}:{_cycle(standing)}",
            f"{whose} has used {standing.spent * 100 // limit.amount} % of {limit}: {used}",
            client,
            facts={**_facts(standing, key), "threshold_percent": reached[-1]},
        )


def forecasts(wanted: AlertRules) -> Iterator[Found]:
    """Yield limits that will be used up before they reset, where they are not used up yet."""
    if not wanted.forecast:
        return
    by_client: dict[Client, list[Standing[Any]]] = {}
    for standing in standings.used(1) or ():
        if standing.limit.cycle in FORESEEN_AHEAD and not standing.full:
            by_client.setdefault(standing.limit.client, []).append(standing)
    for client, found in by_client.items():
        for standing in standings.foreseen(found, client):
            if standing.forecast is None or standing.forecast.likely is None:
                continue
            likely = standing.forecast.likely
            yield Found(
                Kind.FORECAST,
                f"forecast:{standing.limit.pk}:{standing.limit.amount}:{_cycle(standing)}",
                f"{client} will have used up {standing.limit} on {likely.astimezone(client.zone):%-d %B, %H:%M}, "
                "at the present pace",
                client,
                facts={
                    **_facts(standing, None),
                    "used_up_at": likely.isoformat(),
                    "percent_at_reset": standing.percent_at_reset,
                },
            )


def errors(wanted: AlertRules, now: datetime) -> Iterator[Found]:
    """Yield clients of whose calls of this hour and the one before too many failed; ours, which we refused, aside."""
    if wanted.failed_percent is None:
        return
    asked = analytics.Slice(hour_of(now) - HOUR, now, "UTC", group_by=("client", "outcome"))
    calls: dict[int, int] = {}
    failed: dict[int, int] = {}
    for row in analytics.read(asked):
        client_id, outcome = row.group
        if outcome != outcomes.REFUSED:
            calls[client_id] = calls.get(client_id, 0) + row.sums.calls
        if outcome in _FAILED:
            failed[client_id] = failed.get(client_id, 0) + row.sums.calls
    worst = {
        client_id: bad * 100 // calls[client_id]
        for client_id, bad in failed.items()
        if calls[client_id] >= FEWEST_CALLS and bad * 100 > calls[client_id] * wanted.failed_percent
    }
    for client_id, client in Client.objects.in_bulk(list(worst)).items():
        yield Found(
            Kind.ERRORS,
            f"errors:{client_id}:{_day(client, now)}",
            f"{worst[client_id]} % of the calls of {client} fail: {failed[client_id]:,} of {calls[client_id]:,}",
            client,
            facts={"calls": calls[client_id], "failed": failed[client_id], "percent": worst[client_id]},
        )


def silent(wanted: AlertRules, now: datetime) -> Iterator[Found]:
    """Yield active clients that made calls and make none any more."""
    if wanted.silent_days is None:
        return
    before = now - timedelta(days=wanted.silent_days)
    clients = Client.objects.filter(status=Client.Status.ACTIVE).annotate(last=Max("keys__use__last_used_at"))
    for client in clients.filter(last__lt=before, last__gte=now - _GIVEN_UP):
        last: datetime = vars(client)["last"]
        yield Found(
            Kind.SILENT,
            f"silent:{client.pk}:{last.isoformat()}",
            f"{client} has made no call for {(now - last).days} days",
            client,
            facts={"last_call_at": last.isoformat(), "days": (now - last).days},
        )


def unusual(wanted: AlertRules, now: datetime) -> Iterator[Found]:
    """Yield clients whose running hour, or the one before, cost many times what a busy hour of theirs does."""
    if wanted.unusual_times is None:
        return
    this = hour_of(now)
    lately = _costs(analytics.Slice(this - HOUR, now, "UTC", step="hour", group_by=("client",)))
    dear = {client_id: max(hours) for client_id, hours in lately.items() if max(hours) >= LEAST_UNUSUAL}
    if not dear:
        return
    before = analytics.Slice(
        this - WEEKS * 7 * 24 * HOUR, this - HOUR, "UTC", step="hour", group_by=("client",), only={"client": list(dear)}
    )
    for client_id, hours in _costs(before).items():
        busy = sorted(hours)[len(hours) * _BUSY // 100]
        if len(hours) < FEWEST_HOURS or dear[client_id] <= wanted.unusual_times * busy:
            continue
        client = Client.objects.get(pk=client_id)
        yield Found(
            Kind.UNUSUAL,
            f"unusual:{client_id}:{_day(client, now)}",
            f"{client} cost {format_sum(dear[client_id])} USD within an hour; a busy hour is {format_sum(busy)} USD",
            client,
            facts={"cost_usd": format_sum(dear[client_id]), "busy_hour_usd": format_sum(busy)},
        )


def refusals(now: datetime) -> Iterator[Found]:
    """Yield what calls were refused for lately that somebody has to mend: no price, our key, a loop."""
    lately = UsageRecord.objects.filter(admitted_at__gt=now - LOOKED_BACK, admitted_at__lte=now)
    by_code = {
        "model_not_priced": _not_priced,
        "provider_auth_error": _credential_refused,
        "runaway_brake": _braked,
    }
    codes = set(lately.filter(error_code__in=list(by_code)).order_by().values_list("error_code", flat=True).distinct())
    for code in sorted(codes):
        yield from by_code[code](lately.filter(error_code=code).order_by(), now)


def _not_priced(records: QuerySet[UsageRecord], now: datetime) -> Iterator[Found]:
    ids = records.exclude(model=None).values_list("model", flat=True).distinct()
    for model in Model.objects.filter(pk__in=list(ids)).select_related("provider"):
        yield Found(
            Kind.PRICE,
            f"price:{model.pk}:{now:%Y-%m-%d}",
            f"{model.name} has no price: its calls are refused",
            provider=model.provider,
            facts={"model": model.name, "provider": model.provider.name},
        )


def _credential_refused(records: QuerySet[UsageRecord], now: datetime) -> Iterator[Found]:
    ids = records.exclude(provider=None).values_list("provider", flat=True).distinct()
    for provider in Provider.objects.filter(pk__in=list(ids)):
        yield Found(
            Kind.CREDENTIAL,
            f"credential:{provider.pk}:{now:%Y-%m-%d}",
            f"{provider.name} refuses the key that is stored for it: calls fail",
            provider=provider,
            facts={"provider": provider.name},
        )


def _braked(records: QuerySet[UsageRecord], now: datetime) -> Iterator[Found]:
    rows = records.values_list("client", "workflow").annotate(calls=Count("pk")).order_by("client", "-calls")
    worst: dict[int, tuple[str, int]] = {}
    for client_id, workflow, calls in rows:
        worst.setdefault(client_id, (workflow, calls))
    for client_id, client in Client.objects.in_bulk(list(worst)).items():
        workflow, calls = worst[client_id]
        what = f"Workflow {workflow}" if workflow else "A WhatsApp user"
        yield Found(
            Kind.BRAKE,
            f"brake:{client_id}:{workflow[:100]}:{_day(client, now)}",
            f"{what} of {client} was taken for a loop and braked",
            client,
            facts={"workflow": workflow, "refused": calls},
        )


def _costs(asked: analytics.Slice) -> dict[int, list[int]]:
    """Return the costs of each client's hours that have any, picodollars."""
    found: dict[int, list[int]] = {}
    for row in analytics.read(asked):
        found.setdefault(row.group[0], []).append(row.sums.cost)
    return found


def _whose(standing: Standing[Any]) -> tuple[Client, APIKey | None]:
    key: APIKey | None = getattr(standing.limit, "key", None)
    client: Client = standing.limit.client if key is None else key.client
    return client, key


def _of(standing: Standing[Any]) -> str:
    return f"{standing.limit._meta.model_name}:{standing.limit.pk}"


def _cycle(standing: Standing[Any]) -> str:
    return standing.resets_at.isoformat() if standing.resets_at else "total"


def _day(client: Client, now: datetime) -> str:
    return f"{now.astimezone(client.zone):%Y-%m-%d}"


def _facts(standing: Standing[Any], key: APIKey | None) -> dict[str, Any]:
    limit = standing.limit
    facts = {
        "metric": limit.metric,
        "cycle": limit.cycle,
        "limit": short_amount(limit.metric, limit.amount),
        "used": short_amount(limit.metric, standing.spent),
        "percent": standing.spent * 100 // limit.amount,
        "resets_at": standing.resets_at.isoformat() if standing.resets_at else None,
    }
    return {**facts, "key": f"{key}"} if key else facts
