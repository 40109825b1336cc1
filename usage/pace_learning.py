"""Learns from records what is usual for clients whose runaway brake goes by it.

Usual is the busiest minute of a day, of the days there were, with the two busiest days left aside: a loop that ran on a
day or two is not learned, what happens every week is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q

from clients.models import Client
from usage import outcomes
from usage.models import UsageRecord
from usage.paces import UsualPace

DAYS: Final = 28
FEWEST_DAYS: Final = 5
"""With calls on fewer, nothing is known to be usual."""
_ASIDE: Final = 2  # days
_MOST: Final = 1_000  # workflows of a client, the busiest; the others have no usual rate
_AGAIN: Final = timedelta(days=1)
_AT_A_TIME: Final = 50  # clients


def learn(now: datetime) -> int:
    """Learn anew of clients whose brake goes by it and of whom that was long ago; return of how many."""
    wanted = Client.objects.filter(status=Client.Status.ACTIVE, brake_times__isnull=False)
    due = wanted.filter(Q(usual_pace=None) | Q(usual_pace__learned_at__lt=now - _AGAIN)).order_by("pk")[:_AT_A_TIME]
    found = [_learned(client, now) for client in due]
    with transaction.atomic():  # gateways take it up once
        for pace in found:
            pace.save()
    return len(found)


def _learned(client: Client, now: datetime) -> UsualPace:
    rows = (
        UsageRecord.objects.filter(client=client, admitted_at__gte=now - timedelta(days=DAYS), admitted_at__lt=now)
        .exclude(outcome=outcomes.REFUSED)
        .order_by("admitted_at")
        .values_list("admitted_at", "workflow", "session")
    )
    peaks = _peaks(rows.iterator(chunk_size=10_000))
    usual = {tag: pace for tag, days in peaks.items() if (pace := _usual(days.values())) is not None}
    user = usual.pop("", None)
    busiest = sorted(usual, key=lambda tag: (-usual[tag], tag))[:_MOST]
    return UsualPace(client=client, workflows={tag: usual[tag] for tag in busiest}, user=user, learned_at=now)


def _peaks(rows: Iterable[tuple[datetime, str, str]]) -> dict[str, dict[date, int]]:
    """Return the calls of the busiest minute of each day by workflow; of '', those of the busiest user."""
    peaks: dict[str, dict[date, int]] = defaultdict(dict)
    minute = None
    by_workflow: Counter[str] = Counter()
    by_user: Counter[str] = Counter()

    def close(moment: datetime) -> None:
        day = moment.date()
        for workflow, calls in by_workflow.items():
            peaks[workflow][day] = max(calls, peaks[workflow].get(day, 0))
        if by_user:
            peaks[""][day] = max(*by_user.values(), peaks[""].get(day, 0))
        by_workflow.clear()
        by_user.clear()

    for admitted_at, workflow, session in rows:
        of_call = admitted_at.replace(second=0, microsecond=0)
        if of_call != minute:
            if minute is not None:
                close(minute)
            minute = of_call
        if workflow:
            by_workflow[workflow] += 1
        if session:
            by_user[session] += 1
    if minute is not None:
        close(minute)
    return peaks


def _usual(peaks: Iterable[int]) -> int | None:
    busy = sorted(peaks, reverse=True)
    return busy[_ASIDE] if len(busy) >= FEWEST_DAYS else None
