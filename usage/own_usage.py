"""What a client may be told of its own usage: what it used today and this month, when its limits will be used up.

For the gateway, which asks from a thread. Nothing of cost, of providers or of other clients is read here.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError, connection

from clients.cycles import window
from clients.limits import METRICS
from clients.models import Client
from keys.models import APIKey
from usage import outcomes
from usage.analytics import Slice, read
from usage.days import hour_of
from usage.forecast import FORESEEN, Forecast, Pace, paces
from usage.lines import moment

log = logging.getLogger("gateway.own_usage")

FRESH_US: Final = 10_000_000
"""A client's sums are read again after so long, however often they are asked for."""
_CLIENTS_KEPT: Final = 500
_PACES_KEPT: Final = 300  # four weeks of hours in four metrics, 20 KB each

K = TypeVar("K")
V = TypeVar("V")


class LimitNow(NamedTuple):
    """A limit and what is taken of it, used or reserved; `key_id` 0: it is the client's."""

    id: int
    key_id: int
    metric: str
    cycle: str
    amount: int
    taken: int
    resets_at: int | None


class Asked(NamedTuple):
    """Who asks, and how its limits stand."""

    client_id: int
    key_id: int
    zone: str
    limits: tuple[LimitNow, ...]
    now: int
    """µs."""


@dataclass(slots=True)
class Used:
    """What calls that count used, and how many calls were refused. `charge` is picodollars."""

    requests: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    sessions: int = 0
    charge: int = 0


class Span(NamedTuple):
    """What was used in [start, end)."""

    start: datetime
    end: datetime
    by_key: Mapping[int | None, Used]
    client: Used


class Told(NamedTuple):
    """What is known, as of a moment (µs); forecasts by id of the limit, and of its key (0: the client's)."""

    as_of: int
    spans: Mapping[str, Span]
    """'today', and 'month': the client's own, from the day on that its months start on."""
    forecasts: Mapping[tuple[int, int], Forecast]


class OwnUsage:
    """Reads it, and remembers it for a while. Belongs to one thread."""

    def __init__(self) -> None:
        self._clients: OrderedDict[int, Told] = OrderedDict()
        self._paces: OrderedDict[tuple[int, int], tuple[datetime, dict[str, Pace]]] = OrderedDict()

    def read(self, asked: Asked) -> Told | None:
        """Return what there is to tell; None where the database does not answer."""
        try:
            return self._read(asked)
        except (DatabaseError, InterfaceError) as error:
            log.warning("a client's usage cannot be read: %s", error)
            connection.close()  # so that the next attempt makes a new one
            return None
        except ObjectDoesNotExist:  # deleted a moment ago
            return None

    def _read(self, asked: Asked) -> Told:
        told = self._clients.get(asked.client_id)
        if told is None or not 0 <= asked.now - told.as_of < FRESH_US:
            client = Client.objects.get(pk=asked.client_id)
            client.time_zone = asked.zone
            told = Told(asked.now, _spans(client, asked.now), self._forecasts(client, 0, asked))
            _keep(self._clients, asked.client_id, told, _CLIENTS_KEPT)
        if any(limit.key_id for limit in asked.limits):
            key = APIKey.objects.select_related("client").get(pk=asked.key_id)
            key.client.time_zone = asked.zone
            told = told._replace(forecasts={**told.forecasts, **self._forecasts(key, key.pk, asked)})
        return told

    def _forecasts(self, of: Client | APIKey, key_id: int, asked: Asked) -> dict[tuple[int, int], Forecast]:
        limits = [limit for limit in asked.limits if limit.key_id == key_id and limit.cycle in FORESEEN]
        if not limits:
            return {}
        now = moment(asked.now)
        hour, by_metric = self._paces.get((asked.client_id, key_id), (None, {}))
        if hour != hour_of(now):  # a pace is made of whole hours: there is nothing new before the next
            by_metric = paces(of, METRICS, now)
            _keep(self._paces, (asked.client_id, key_id), (hour_of(now), by_metric), _PACES_KEPT)
        told = {}
        for limit in limits:
            resets_at = None if limit.resets_at is None else moment(limit.resets_at)
            one = by_metric[limit.metric].forecast(limit.amount, limit.taken, now, resets_at)
            if one is not None:
                told[limit.id, key_id] = one
        return told


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _spans(client: Client, now: int) -> dict[str, Span]:
    spans = {}
    for name, cycle in (("today", "day"), ("month", "month")):
        start, end = window(cycle, now, client.zone, client.cycle_start_day)
        assert end is not None
        spans[name] = _span(client, moment(start), moment(end))
    return spans


def _span(client: Client, start: datetime, end: datetime) -> Span:
    by_key: dict[int | None, Used] = defaultdict(Used)
    whole = Used()
    asked = Slice(start, end, client.zone.key, group_by=("key", "outcome"), only={"client": [client.pk]})
    for row in read(asked):
        key_id, outcome = row.group
        for used in (by_key[key_id], whole):
            if outcome in outcomes.COUNTED:
                used.requests += row.sums.calls
                used.input_tokens += row.sums.input_tokens
                used.output_tokens += row.sums.output_tokens
                used.sessions += row.sums.sessions
                used.charge += row.sums.charge
            elif outcome == outcomes.REFUSED:
                used.refused += row.sums.calls
    return Span(start, end, by_key, whole)
