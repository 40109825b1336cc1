"""Figuring and applying, a thousand calls a transaction: killed at any moment, it goes on where it was.

Applying moves records, rollups and sums of keys in one transaction, so whoever reads meets the old or the new amounts
and never a part of them.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from clients.models import Client, OwnPrice
from keys.models import KeyUse
from pricing.models import Price
from pricing.quotes import DEFAULT_TIER, RateCard
from usage import outcomes
from usage.archive.reading import is_archived
from usage.folding import FIELDS
from usage.models import UsageRecord
from usage.reratings.figures import after
from usage.reratings.models import SUMMED, RerateSum, Rerating
from usage.rollups import alone, shift

BATCH: Final = 1_000
"""Calls in one transaction."""
_LONGEST_PAUSE: Final = 0.2  # seconds
_WORKING: Final = (Rerating.State.FIGURING, Rerating.State.APPLYING)

State = Rerating.State


def go_on(limit_seconds: float | None = None) -> int:
    """Do what is to be done of all re-ratings, in order; return how many calls were looked at.

    After `limit_seconds` the rest is left for the next time.
    """
    began, looked_at = time.monotonic(), 0
    for pk in Rerating.objects.filter(state__in=_WORKING).order_by("pk").values_list("pk", flat=True):
        while limit_seconds is None or time.monotonic() - began < limit_seconds:
            turn = time.monotonic()
            calls = _batch(pk)
            if calls is None:
                break
            looked_at += calls
            time.sleep(min(time.monotonic() - turn, _LONGEST_PAUSE))  # SQLite has one writer at a time
    return looked_at


@transaction.atomic
def apply(rerating: Rerating, by: User | None, now: datetime) -> None:
    """Have it applied. Raises ValidationError where it is not figured, or records of it went to the archive."""
    row = Rerating.objects.select_for_update().get(pk=rerating.pk)
    if row.state != State.FIGURED:
        raise ValidationError(f"{row} is not waiting to be applied: {row.get_state_display().lower()}.")
    if is_archived(row.start, row.end):
        raise ValidationError("Records of its range went to the archive, which is not changed.")
    row.sums.all().delete()
    row.state, row.reached, row.reached_id = State.APPLYING, None, None
    row.applied_at, row.applied_by = now, by.get_username() if by else ""
    row.save()


@transaction.atomic
def withdraw(rerating: Rerating) -> None:
    """Take it back, with nothing changed. Raises ValidationError once it is being applied."""
    row = Rerating.objects.select_for_update().get(pk=rerating.pk)
    if row.state in (State.APPLYING, State.APPLIED):
        raise ValidationError(f"{row} is applied already. Make another with the rates that were right.")
    row.delete()


def _batch(pk: int) -> int | None:
    """Look at the next calls of a re-rating; return how many, None where nothing is to be done of it."""
    with alone():
        rerating = Rerating.objects.select_for_update(of=("self",)).filter(pk=pk, state__in=_WORKING).first()
        if rerating is None:
            return None
        fields = ("pk", *FIELDS, "reasoning_tokens")
        found = _records(rerating).order_by("admitted_at", "pk").values(*dict.fromkeys(fields))[:BATCH]
        calls: list[dict[str, Any]] = list(found)
        if calls:
            changed = _figured(rerating, calls)
            _add(rerating, calls, changed)
            if rerating.state == State.APPLYING:
                _change(rerating, calls, changed)
            rerating.reached, rerating.reached_id = calls[-1]["admitted_at"], calls[-1]["pk"]
        if len(calls) < BATCH:
            rerating.state = State.FIGURED if rerating.state == State.FIGURING else State.APPLIED
        progress = {name: getattr(rerating, name) for name in ("reached", "reached_id", "state")}
        # Past the audit log, but for the end: it tells who did what, not how far it has come.
        if len(calls) < BATCH:
            rerating.save(update_fields=list(progress))
        else:
            QuerySet(Rerating).filter(pk=pk).update(**progress)
    return len(calls) if len(calls) == BATCH else None


def _records(rerating: Rerating) -> "QuerySet[UsageRecord]":
    """Return the calls it is about that were not looked at."""
    records = UsageRecord.objects.filter(
        Q(outcome__in=sorted(outcomes.COUNTED)) | Q(cost__gt=0),
        model=rerating.model_id,
        admitted_at__gte=rerating.reached or rerating.start,
        admitted_at__lt=rerating.end,
    )
    if rerating.reached is not None:
        records = records.filter(Q(admitted_at__gt=rerating.reached) | Q(pk__gt=rerating.reached_id))
    if rerating.client_id is not None:
        records = records.filter(client=rerating.client_id)
    if rerating.corrects == Rerating.Corrects.COST:
        of_tier = Q(price__in=Price.objects.filter(model=rerating.model_id, service_tier=rerating.service_tier))
        records = records.filter(of_tier | Q(price=None) if rerating.service_tier == DEFAULT_TIER else of_tier)
    return records


def _figured(rerating: Rerating, calls: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return (cost, charge) of each call as they should be."""
    clients = {call["client_id"] for call in calls}
    markups = dict(Client.objects.filter(pk__in=clients).values_list("pk", "markup_bp"))
    own: dict[int, RateCard] = {
        price.client_id: price.card for price in OwnPrice.objects.filter(client__in=clients, model=rerating.model_id)
    }
    card = rerating.card
    return [
        after(call, card, rerating.corrects, markups.get(call["client_id"], 0), own.get(call["client_id"]))
        for call in calls
    ]


def _add(rerating: Rerating, calls: list[dict[str, Any]], changed: list[tuple[int, int]]) -> None:
    """Add the calls to the sums of their clients' months."""
    zones = _zones({call["client_id"] for call in calls})
    sums: dict[tuple[int, date], list[int]] = defaultdict(lambda: [0] * len(SUMMED))
    for call, (cost, charged) in zip(calls, changed, strict=True):
        client = call["client_id"]
        month = call["admitted_at"].astimezone(zones[client]).date().replace(day=1)
        added = (1, call["cost"], cost, call["charge"], charged)
        sums[client, month] = [old + new for old, new in zip(sums[client, month], added, strict=True)]
    for (client, month), values in sorted(sums.items()):
        row, _ = RerateSum.objects.get_or_create(rerating=rerating, client_id=client, month=month)
        named = zip(SUMMED, values, strict=True)
        RerateSum.objects.filter(pk=row.pk).update(**{name: F(name) + value for name, value in named})


def _zones(clients: set[int]) -> Mapping[int, ZoneInfo]:
    zones: dict[int, ZoneInfo] = defaultdict(lambda: ZoneInfo("UTC"))
    zones |= {client.pk: client.zone for client in Client.objects.filter(pk__in=clients)}
    return zones


def _change(rerating: Rerating, calls: list[dict[str, Any]], changed: list[tuple[int, int]]) -> None:
    """Change records, rollups and the sums of keys by what the calls come to now. To be called alone."""
    pairs = list(zip(calls, changed, strict=True))
    adapt = UsageRecord._meta.pk.get_db_prep_value
    rows = [(cost, charged, rerating.pk, adapt(call["pk"], connection)) for call, (cost, charged) in pairs]
    mark = "?" if connection.vendor == "sqlite" else "%s"
    sql = (
        f'UPDATE "{UsageRecord._meta.db_table}" SET "cost" = {mark}, "charge" = {mark}, "rerating_id" = {mark} '  # noqa: S608 - names of ours
        f'WHERE "request_id" = {mark}'
    )
    with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
        cursor.executemany(sql, rows)
    shift((call, cost - call["cost"], charged - call["charge"]) for call, (cost, charged) in pairs)
    keys: dict[int, int] = defaultdict(int)
    for call, (_, charged) in pairs:
        if call["key_id"] is not None:
            keys[call["key_id"]] += charged - call["charge"]
    for key, more in sorted(keys.items()):
        if more:
            KeyUse.objects.filter(key=key).update(charge=F("charge") + more)
