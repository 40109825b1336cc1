"""A cost report's sums from rollups, held in memory: its page shows them. Files are read from the records."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from usage import outcomes
from usage.analytics import Slice, load
from usage.folding import DIMENSIONS, TOKENS

_EPOCH = date(1970, 1, 1)


def known(group_by: tuple[str, ...]) -> bool:
    """Tell whether rollups tell it apart by all of that."""
    return {*group_by} <= {*DIMENSIONS, "day", "week", "month"}


def rolled_sums(asked: Slice, group_by: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, int]]:
    """Return the sums by groups as the database would have them, days and weeks counted from 1970, in their order."""
    names = tuple(name for name in group_by if name in DIMENSIONS)
    found: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in load(asked).sums((*names, "outcome", "estimated"), by_step=bool(asked.step)):
        *values, outcome, estimated = row.group
        known = dict(zip(names, values, strict=True))
        if row.at is not None:
            known |= _times(row.at.astimezone(ZoneInfo(asked.zone)).date())
        amounts = found[tuple(known[name] for name in group_by)]
        for name in (*TOKENS, "cost", "charge", "sessions"):
            amounts[name] += getattr(row.sums, name)
        counted = outcome in outcomes.COUNTED
        amounts["requests" if counted else "uncounted_requests"] += row.sums.calls
        amounts["estimated_requests"] += row.sums.calls if counted and estimated else 0
    order = sorted(found, key=lambda group: [(value is not None, value or 0) for value in group])
    return {group: found[group] for group in order}


def _times(day: date) -> Mapping[str, Any]:
    days = (day - _EPOCH).days
    return {"day": days, "week": (days + 3) // 7, "month": f"{day:%Y-%m}"}
