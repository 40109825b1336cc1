"""Fills an empty installation with the demo, wholly or not at all."""

import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from operator import attrgetter
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, transaction

from clients.models import Client
from gateway_project.demo import house, shapes, world
from gateway_project.demo.calls import Call, Calls
from gateway_project.demo.shapes import LimitShape
from gateway_project.demo.store import alone, store
from gateway_project.demo.world import Party
from gateway_project.first_run import DEMO_CLIENT, Welcome, prepare
from keys.models import KeyUse
from pricing.models import Provider
from pricing.money import PICO
from usage import due
from usage.lines import moment
from usage.models import UsageRecord

DAYS: Final = 90
RECORDS: Final = 120_000
SEED: Final = 1
CLIENTS: Final = len(shapes.CLIENTS)
FEWEST_DAYS, MOST_DAYS = 14, 366

_at, _template, _opened = map(attrgetter, ("at", "template", "opened"))

_RECENT: Final = 30  # days whose use limits are made for
_CYCLE_DAYS: Final = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.0}
_LEAST: Final = {"requests": 60, "tokens": 100_000, "credits": PICO, "sessions": 30}
_CENT: Final = PICO // 100


@dataclass(frozen=True, slots=True)
class Filled:
    """What was made: how many records, and what a first run shows once, None where there was an operator already."""

    welcome: Welcome | None
    records: int


@dataclass(slots=True)
class _Use:
    """What a client or a key has used."""

    requests: int = 0
    tokens: int = 0
    credits: int = 0
    sessions: int = 0
    last_us: int = 0

    def add(self, other: "_Use") -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.credits += other.credits
        self.sessions += other.sessions
        self.last_us = max(self.last_us, other.last_us)


@dataclass(slots=True)
class _Ledger:
    """Use of every key in all, and of every client by day (UTC)."""

    keys: dict[int, _Use] = field(default_factory=lambda: defaultdict(_Use))
    clients: dict[tuple[int, datetime], _Use] = field(default_factory=lambda: defaultdict(_Use))
    records: int = 0

    def count(self, day: datetime, calls: list[Call], client_of: dict[int, int]) -> None:
        """Add a day's calls, by their templates, of which there are few."""
        self.records += len(calls)
        templates = list(map(_template, calls))
        today: dict[int, _Use] = defaultdict(_Use)
        # They come in order: of each template the last moment stays.
        for template, at in dict(zip(templates, map(_at, calls), strict=True)).items():
            use = today[template.key_id]
            use.last_us = max(use.last_us, at)
        for template, times in Counter(templates).items():
            if template.counted:
                use = today[template.key_id]
                use.requests += times
                use.tokens += times * template.tokens
                use.credits += times * template.charge
        for template, times in Counter(compress(templates, map(_opened, calls))).items():
            today[template.key_id].sessions += times
        for key_id, use in today.items():
            self.keys[key_id].add(use)
            self.clients[client_of[key_id], day].add(use)

    def since(self, client_id: int, first: datetime) -> _Use:
        """Return what a client used from that UTC midnight on."""
        total = _Use()
        for (of, day), use in self.clients.items():
            if of == client_id and day >= first:
                total.add(use)
        return total


def is_filled() -> bool:
    """Tell whether this installation is a demo already."""
    return Provider.objects.filter(base_url__endswith=shapes.BASE_URL_END).exists()


def fill(
    now: datetime,
    *,
    days: int = DAYS,
    records: int = RECORDS,
    clients: int = CLIENTS,
    seed: int = SEED,
    say: Callable[[str], object] = lambda _: None,
) -> Filled:
    """Make the demo as of `now`, with about `records` records of `clients` clients, in place of a first run.

    `say` is told how far it has come. Raises ImproperlyConfigured where the installation is not new: a demo, clients
    other than the first run's, any usage; or where something else has its database open.
    """
    _check_new()
    try:
        with alone(), _no_garbage(), transaction.atomic():
            welcome = prepare()
            there_is = world.build(now, days, clients)
            target = store()
            calls = Calls(there_is, now, days, records, seed, target.encode)
            ledger, client_of = _Ledger(), {key.id: party.client.pk for party in there_is.parties for key in party.keys}
            for number, (day, of_day) in enumerate(calls.by_day()):
                target.write(of_day)
                ledger.count(day, of_day, client_of)
                if number % (days // 5) == 0 and number:
                    say(f"{ledger.records:,} records, up to {day:%Y-%m-%d} ...")
            target.check()
            due.put_all_down()
            _set_limits(there_is.parties, calls, ledger, now)
            _set_uses(ledger)
            house.furnish(there_is.parties, now, ledger.records)
    except OperationalError as error:
        if "locked" not in str(error):
            raise
        raise ImproperlyConfigured("The database is in use: stop the gateway before the demo is made.") from error
    return Filled(welcome, ledger.records)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Spare looking for cycles among millions of short-lived tuples, a tenth of the time: there are none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _check_new() -> None:
    if is_filled():
        raise ImproperlyConfigured("This installation is a demo already; empty its DATA_DIR to have it made anew.")
    if Client.objects.exclude(name=DEMO_CLIENT).exists() or UsageRecord.objects.exists():
        raise ImproperlyConfigured(
            "This installation has clients or usage of its own. Give the demo another DATA_DIR, and its own database."
        )


def _set_limits(parties: tuple[Party, ...], calls: Calls, ledger: _Ledger, now: datetime) -> None:
    daily = calls.daily_limits()
    for party in parties:
        limits = [(limit.metric, _amount(party, limit, ledger, now), limit.cycle) for limit in party.shape.limits]
        if party.client.pk in daily:
            limits.append(("requests", daily[party.client.pk], "day"))
        world.set_limits(party, limits)


def _amount(party: Party, limit: LimitShape, ledger: _Ledger, now: datetime) -> int:
    unit = _CENT if limit.metric == "credits" else 1
    if limit.used is not None:
        assert party.shape.cycle_began is not None
        use = ledger.since(party.client.pk, world.midnight(now, party.shape.cycle_began))
        return _rounded(int(getattr(use, limit.metric) / limit.used), 3, 1)
    use = ledger.since(party.client.pk, world.midnight(now, _RECENT))
    wanted = getattr(use, limit.metric) * _CYCLE_DAYS[limit.cycle] / _RECENT * limit.room
    return _rounded(max(int(wanted), _LEAST[limit.metric]), 2, unit)


def _rounded(amount: int, digits: int, unit: int) -> int:
    """Return `amount` up to its first digits, as people set limits."""
    step: int = max(unit, 10 ** max(0, len(str(amount)) - digits))
    return -(-amount // step) * step


def _set_uses(ledger: _Ledger) -> None:
    KeyUse.objects.bulk_create(
        KeyUse(
            key_id=key_id,
            last_used_at=moment(use.last_us),
            calls=use.requests,
            tokens=use.tokens,
            charge=use.credits,
        )
        for key_id, use in ledger.keys.items()
    )
