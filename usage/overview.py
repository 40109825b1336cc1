"""What the home page and a client's page say of usage: sums over records, at the reader's days."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import BigIntegerField, Count, F, Q, QuerySet, Sum, Value
from django.utils import timezone

from clients.models import Client
from usage import outcomes
from usage.models import UsageRecord

_COUNTED = Q(outcome__in=sorted(outcomes.COUNTED))
_FAILED = Q(outcome__in=[outcomes.UPSTREAM_ERROR, outcomes.BROKEN, outcomes.INTERRUPTED])
DAYS = 30
LAST_CALLS = 10
_MOST_KINDS = 20  # of errors
_FEWEST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some calls; money is picodollars."""

    calls: int = 0
    tokens: int = 0
    cost: int = 0
    charge: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Calls that ended in the same error."""

    outcome: str
    code: str
    status: int
    calls: int

    @property
    def label(self) -> str:
        """The outcome in words."""
        return outcomes.LABELS[self.outcome]


def day_start(day: date) -> datetime:
    """Return when a day begins in the reader's time zone."""
    return datetime.combine(day, time(), timezone.get_current_timezone())


def day_before(moment: datetime) -> datetime:
    """Return when the reader's clock showed the same time a day before, whatever clocks did in between."""
    local = timezone.localtime(moment).replace(tzinfo=None) - timedelta(days=1)
    return timezone.make_aware(local)


def totals(records: QuerySet[UsageRecord]) -> Totals:
    """Sum up: calls that count, what they used, and those that were refused or that the provider failed."""
    sums = records.aggregate(
        calls=Count("pk", filter=_COUNTED),
        tokens=Sum(F("input_tokens") + F("output_tokens"), output_field=BigIntegerField()),
        cost=Sum("cost"),
        charge=Sum("charge"),
        refused=Count("pk", filter=Q(outcome=outcomes.REFUSED)),
        failed=Count("pk", filter=_FAILED),
    )
    return Totals(**{name: int(value or 0) for name, value in sums.items()})


def charged(records: QuerySet[UsageRecord]) -> Totals:
    """Sum up what an index knows of a client's or a key's calls: no tokens and no cost, in a tenth of the time."""
    sums = records.aggregate(
        calls=Count("outcome", filter=_COUNTED),
        charge=Sum("charge"),
        refused=Count("outcome", filter=Q(outcome=outcomes.REFUSED)),
        failed=Count("outcome", filter=_FAILED),
    )
    return Totals(**{name: int(value or 0) for name, value in sums.items()})


def charge_by_day(client: Client, today: date) -> list[tuple[date, int, int]]:
    """Return for each of the last 30 days, the oldest first: the day, its calls that count, its charge."""
    first = today - timedelta(days=DAYS - 1)
    days = [first + timedelta(days=number) for number in range(DAYS)]
    counted = UsageRecord.objects.filter(_COUNTED, client=client).order_by()
    # A range of the index for each day: SQLite truncates dates in Python, row by row, which takes four times as long.
    sums = [
        counted.filter(admitted_at__gte=day_start(day), admitted_at__lt=day_start(day + timedelta(days=1)))
        .values(number=Value(number))
        .annotate(calls=Count("outcome"), charged=Sum("charge"))
        for number, day in enumerate(days)
    ]
    by_day = {row["number"]: (row["calls"], int(row["charged"] or 0)) for row in sums[0].union(*sums[1:], all=True)}
    return [(day, *by_day.get(number, (0, 0))) for number, day in enumerate(days)]


def lately(records: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
    """Return those of the last 30 days, today among them."""
    return records.filter(admitted_at__gte=day_start(timezone.localdate() - timedelta(days=DAYS - 1)))


def errors_by_kind(client: Client, since: datetime) -> list[ErrorKind]:
    """Return how a client's calls since then failed, the most frequent first."""
    rows = (
        UsageRecord.objects.filter(client=client, admitted_at__gte=since)
        .exclude(outcome=outcomes.OK)
        .order_by()
        .values_list("outcome", "error_code", "status")
        .annotate(calls=Count("pk"))
        .order_by("-calls", "outcome", "error_code")
    )
    return [ErrorKind(*row) for row in rows[:_MOST_KINDS]]


def last_calls(client: Client) -> list[UsageRecord]:
    """Return the newest calls of a client."""
    return list(UsageRecord.objects.filter(client=client).order_by("-admitted_at")[:LAST_CALLS])


def by_client(records: QuerySet[UsageRecord]) -> QuerySet[UsageRecord, tuple[Any, ...]]:
    """Group records of some time by the id of their client, found by that time.

    Grouped by the bare column, SQLite walks all records there ever were, along the index of clients.
    """
    return records.order_by().values_list(F("client_id") + Value(0))


def failing(records: QuerySet[UsageRecord], percent: int) -> list[tuple[int, int, int]]:
    """Return whose calls in `records` failed by more than so many percent: client id, failed, all; the worst first.

    Calls that we refused are none of these, and fewer than five say nothing.
    """
    rows = by_client(records.exclude(outcome=outcomes.REFUSED)).annotate(
        failed=Count("pk", filter=~Q(outcome__in=[outcomes.OK, outcomes.CLIENT_GONE])), calls=Count("pk")
    )
    enough = rows.filter(failed__gt=0, calls__gte=_FEWEST_CALLS)
    return sorted((row for row in enough if row[1] * 100 > row[2] * percent), key=lambda row: -row[1])


def failing_clients(records: QuerySet[UsageRecord], most: int) -> list[tuple[Client, int, int]]:
    """Return the clients of whose calls in `records` more than a tenth failed: client, failed, all; the worst first."""
    found = failing(records, 10)[:most]
    clients = Client.objects.in_bulk([client_id for client_id, _, _ in found])
    return [(clients[client_id], failed, calls) for client_id, failed, calls in found if client_id in clients]
