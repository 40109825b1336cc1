"""How limits stand at this moment, as the gateway knows it: used, reserved, left, when they reset; and the forecast."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import httpx
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from clients.limits import short_amount
from clients.models import Client, Limit
from keys.models import APIKey, KeyLimit
from usage.forecast import FORESEEN, Forecast, paces
from usage.lines import moment

_SECONDS = 0.5  # a page must not hang because the gateway does
_CLOSE_PERCENT = 80


_Limit = TypeVar("_Limit", Limit, KeyLimit)


@dataclass(frozen=True, slots=True)
class Standing(Generic[_Limit]):
    """How one limit stands; amounts are in the metric's own unit."""

    limit: _Limit
    spent: int
    held: int
    resets_at: datetime | None
    forecast: Forecast | None = None
    """Of cycles of a day and longer, where it was asked for and there is enough to tell."""

    @property
    def percent(self) -> int:
        """What is used or reserved, of the whole; more than 100 where a call took more than was foreseen."""
        taken = self.spent + self.held
        return 100 if self.limit.amount == 0 else taken * 100 // self.limit.amount

    @property
    def close(self) -> bool:
        """Whether somebody should look."""
        return self.percent >= _CLOSE_PERCENT

    @property
    def full(self) -> bool:
        """Whether calls are refused."""
        return self.spent + self.held >= self.limit.amount

    @property
    def words(self) -> dict[str, str]:
        """The amounts with their units, for the eye: used, reserved, left, limit."""
        left = max(0, self.limit.amount - self.spent - self.held)
        amounts = {"used": self.spent, "reserved": self.held, "left": left, "limit": self.limit.amount}
        return {name: short_amount(self.limit.metric, amount) for name, amount in amounts.items()}

    @property
    def percent_at_reset(self) -> int | None:
        """What will likely be used when it resets, of the whole; None where nothing foretells it."""
        if self.forecast is None or self.forecast.at_reset is None:
            return None
        return 100 if self.limit.amount == 0 else self.forecast.at_reset * 100 // self.limit.amount

    @property
    def bar(self) -> dict[str, int]:
        """Widths of used and reserved in percent of the bar."""
        used = min(100, self.spent * 100 // self.limit.amount) if self.limit.amount else 100
        return {"used": used, "reserved": min(100 - used, self.percent - used)}


def gateway_url() -> str:
    """Return where this machine reaches the gateway: an address that means all of them is reached on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}"


def of_client(client: Client) -> list[Standing[Limit]] | None:
    """Return how the limits of a client stand; None where the gateway does not answer."""
    told = _ask(f"client={client.pk}")
    return None if told is None else _read(told.get(str(client.pk), []), client.limits.all())


def of_key(key: APIKey) -> list[Standing[KeyLimit]] | None:
    """Return how a key's own limits stand; None where the gateway does not answer."""
    told = _ask(f"key={key.pk}")
    return None if told is None else _read(told.get(str(key.client_id), []), key.limits.all())


def foreseen(standings: list[Standing[_Limit]], of: Client | APIKey) -> list[Standing[_Limit]]:
    """Return the standings of a client, or of a key, each with its forecast."""
    metrics = {one.limit.metric for one in standings if one.limit.cycle in FORESEEN}
    if not metrics:
        return standings
    now = timezone.now()
    by_metric = paces(of, metrics, now)
    return [
        replace(
            one,
            forecast=by_metric[one.limit.metric].forecast(one.limit.amount, one.spent + one.held, now, one.resets_at),
        )
        if one.limit.cycle in FORESEEN
        else one
        for one in standings
    ]


def closest(clients: QuerySet[Client]) -> list[Standing[Limit]] | None:
    """Return the limits of `clients` that are used or reserved by 80 % and more, the fullest first.

    None where the gateway does not answer.
    """
    found = used(_CLOSE_PERCENT, Limit.objects.filter(client__in=clients))
    return None if found is None else sorted(found, key=lambda one: -one.percent)


def used(percent: int, among: QuerySet[Limit] | None = None) -> list[Standing[Limit]] | None:
    """Return the limits of clients that are used or reserved by so much and more, each with its client.

    None where the gateway does not answer.
    """
    told = _ask(f"percent={percent}")
    if told is None:
        return None
    rows = [row for of_one in told.values() for row in of_one]
    limits = Limit.objects.all() if among is None else among
    return _read(rows, limits.filter(pk__in=[row[0] for row in rows]).select_related("client"))


def used_of_keys(percent: int) -> list[Standing[KeyLimit]] | None:
    """Do as `used` for the limits that keys have of their own."""
    told = _ask(f"keys={percent}")
    if told is None:
        return None
    rows = [row for of_one in told.values() for row in of_one]
    limits = KeyLimit.objects.filter(pk__in=[row[0] for row in rows]).select_related("key__client")
    return _read(rows, limits)


def clients_at(percent: int) -> set[int] | None:
    """Return the ids of clients that have used or reserved so much of a limit of theirs.

    None where the gateway does not answer.
    """
    told = _ask(f"percent={percent}")
    return None if told is None else {int(client_id) for client_id in told}


def _read(rows: Iterable[Any], limits: Iterable[_Limit]) -> list[Standing[_Limit]]:
    by_id = {limit.pk: limit for limit in limits}
    return [
        Standing(by_id[rule], spent, held, None if resets_at is None else moment(resets_at))
        for rule, _, spent, held, resets_at in rows
        if rule in by_id
    ]


def _ask(query: str) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = asyncio.run(_fetch(query)).raise_for_status().json()
    except (httpx.HTTPError, TimeoutError, ValueError):
        return None
    return told


async def _fetch(query: str) -> httpx.Response:
    """Ask within the time there is for all of it: httpx itself only bounds each wait."""
    # Plain HTTP: to read certificates would take ten times as long as the answer.
    async with asyncio.timeout(_SECONDS), httpx.AsyncClient(trust_env=False, verify=False, timeout=None) as gateway:  # noqa: S113, S501
        return await gateway.get(
            f"{gateway_url()}/standings?{query}", headers={"authorization": f"Bearer {settings.STANDINGS_TOKEN}"}
        )
