"""Which month goes to the archive next: whole months of UTC that are older than the agency keeps in the database."""

from datetime import UTC, datetime
from typing import Final

from django.db.models import Min

from clients.agency import agency
from usage.models import RollupDue, UsageRecord

FEWEST: Final = 3
"""Months that stay in any case: no cycle of a limit, and nothing that may still change, reaches further back."""


def border(now: datetime, months: int) -> datetime:
    """Return before when records go, where `months` whole months before this one are kept."""
    this = now.astimezone(UTC)
    years, month = divmod(this.year * 12 + this.month - 1 - max(months, FEWEST), 12)
    return datetime(years, month + 1, 1, tzinfo=UTC)


def oldest_settled() -> datetime:
    """Return before when records may be in the archive, whatever was ever set."""
    return border(datetime.now(UTC), FEWEST)


def next_month(month: datetime) -> datetime:
    """Return when the month after that one begins."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def due_month(now: datetime) -> datetime | None:
    """Return when the first month begins that is due, None where none is, or where its rollups are not made yet."""
    months = agency().record_months
    if months is None:
        return None
    first = UsageRecord.objects.filter(admitted_at__lt=border(now, months)).aggregate(at=Min("admitted_at"))["at"]
    if first is None:
        return None
    month: datetime = first.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return None if awaits_rolling(month, next_month(month)) else month


def awaits_rolling(start: datetime, end: datetime) -> bool:
    """Tell whether records admitted in [start, end) may be in no rollup yet."""
    return RollupDue.objects.filter(earliest__lt=end, latest__gte=start).exists()
