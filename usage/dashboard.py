"""What the analytics page shows: one question to the rollups, and tables of the answer that charts and CSV share."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import Count, Max, Min, Q, Sum

from clients import access
from clients.models import default_time_zone
from pricing.models import Price
from usage import by_workflow, outcomes
from usage.analytics import Slice, load, narrowed, series_of
from usage.asked import WORKFLOW, Asked, Group, names, top
from usage.columns import Columns
from usage.days import Days
from usage.figures import Figures
from usage.folding import Series, Sums
from usage.models import ArchiveFile, RolledZone, UsageRecord, UsageSeries
from usage.snapshot import one_moment
from usage.tags import dearest

_WORKFLOWS: Final = 20
_EXECUTIONS: Final = 10
LOOKED_AT: Final = 10_000
"""Calls, the newest, among which the dearest executions are found: of a year they would be more than can be read."""
_SUMMED: Final = ("calls", "input_tokens", "output_tokens", "cost", "charge")


class Workflows(NamedTuple):
    """Client, workflow and sums, the dearest first, in [start, end): whole days of a zone."""

    rows: Sequence[tuple[str, str, Sums]]
    start: datetime
    end: datetime
    zone: str


class Executions(NamedTuple):
    """The dearest first."""

    rows: Sequence[Mapping[str, Any]]
    of_all: bool
    """Whether all calls of the range were looked at, or the last LOOKED_AT alone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All that the page shows."""

    total: Figures
    before: Figures | None
    """None where records do not reach back so far."""
    steps: Sequence[datetime]
    by_step: Mapping[datetime, Figures]
    groups: Sequence[Group]
    """By `Asked.by`, the largest by its metric first."""
    other: str
    others: Sequence[Group]
    """By the other that people want to see beside it: models, or of models the clients."""
    workflows: Workflows | None
    """None where what is asked for cannot be told by workflow."""
    executions: Executions
    saved: int | None
    """Picodollars that cached input was cheaper, at the prices in force now; None where models are not known."""


def ask(asked: Asked, most: int | None = None) -> Answer:
    """Answer it all, latencies of the first `most` groups alone. Raises ValidationError as `analytics.load` does."""
    with one_moment():
        return _ask_of_workflows(asked) if WORKFLOW in asked.only else _ask(asked, most)


def _ask(asked: Asked, most: int | None) -> Answer:
    period = asked.period
    wanted = asked.slice(period.start, period.end, period.step)
    series = series_of(wanted)
    usage = load(wanted, times=True, among=series)
    other = "client" if asked.by == "model" else "model"
    total, by_step = _over_time(usage)
    others = _groups(asked, usage, other)
    if asked.by == WORKFLOW:
        groups = by_workflow.groups(asked)
        by_workflow.add_steps(asked, top(groups)[0])
    else:
        groups = _groups(asked, usage, asked.by)
        _add_steps(asked, usage, top(groups)[0])
    _add_times(asked, usage, groups[:most], total, by_step)
    return Answer(
        total,
        _before(asked, series),
        list(period.steps()),
        by_step,
        groups,
        other,
        others,
        _workflows(asked),
        _executions(asked),
        _saved(groups if asked.by == "model" else others),
    )


def _ask_of_workflows(asked: Asked) -> Answer:
    """Answer what sums by workflow tell: neither models nor latencies, and calls that count alone."""
    period = asked.period
    found = by_workflow.read(asked, period.start, period.end, period.step)
    other = "client" if asked.by == WORKFLOW else WORKFLOW
    total, by_step = Figures(), defaultdict[datetime, Figures](Figures)
    for row in found:
        assert row.at is not None
        for figures in (total, by_step[row.at]):
            figures.add(outcomes.OK, row.sums)
    groups, others = (by_workflow.grouped(asked, found, by) for by in (asked.by, other))
    return Answer(
        total, _before(asked), list(period.steps()), by_step, groups, other, others, None, _executions(asked), None
    )


def _before(asked: Asked, series: Mapping[int, Series] | None = None) -> Figures | None:
    parts = asked.period.before()
    first = UsageRecord.objects.aggregate(at=Min("admitted_at"))["at"]
    archived = ArchiveFile.objects.filter(taken__gt=0).aggregate(at=Min("earliest"))["at"]
    first = min((at for at in (first, archived) if at is not None), default=None)
    if first is None or first > parts[0][0] + timedelta(days=1):
        return None
    figures = Figures()
    for start, end in parts:
        if WORKFLOW in asked.only:
            for row in by_workflow.read(asked, start, end, ""):
                figures.add(outcomes.OK, row.sums)
            continue
        for row in load(asked.slice(start, end, ""), among=series).sums(("outcome",)):
            figures.add(row.group[0], row.sums)
    return figures


def _groups(asked: Asked, usage: Columns, by: str) -> list[Group]:
    """Return those of a dimension, the largest first."""
    whole: dict[Any, Figures] = defaultdict(Figures)
    for row in usage.sums((by, "outcome")):
        value, outcome = row.group
        whole[value].add(outcome, row.sums)
    known = names(by, whole, asked.reader)
    groups = [
        Group(value, known.get(value, "none" if value is None else f"{by} {value}"), figures)
        for value, figures in whole.items()
    ]
    return sorted(groups, key=lambda group: (-group.figures.amount(asked.metric), group.name))


def _over_time(usage: Columns) -> tuple[Figures, dict[datetime, Figures]]:
    total, by_step = Figures(), defaultdict[datetime, Figures](Figures)
    for row in usage.sums(("outcome",), by_step=True):
        assert row.at is not None
        for figures in (total, by_step[row.at]):
            figures.add(row.group[0], row.sums)
    return total, by_step


def _add_steps(asked: Asked, usage: Columns, groups: Sequence[Group]) -> None:
    """Add what the groups were in each step: of those alone that have a colour, for there may be thousands."""
    of_value = {group.value: group.by_step for group in groups}
    for row in usage.sums((asked.by, "outcome"), by_step=True, only={asked.by: of_value}):
        value, outcome = row.group
        assert row.at is not None
        of_value[value][row.at].add(outcome, row.sums)


def _add_times(
    asked: Asked, usage: Columns, groups: Sequence[Group], total: Figures, by_step: Mapping[datetime, Figures]
) -> None:
    """Add latencies, of all calls but those that we refused, which no provider took any time for."""
    timed = {"outcome": outcomes.ALL - {outcomes.REFUSED}}
    for row in usage.sums((), by_step=True, only=timed, times=True):
        assert row.at is not None
        for figures in (total, by_step[row.at]):
            figures.add_times(row.sums)
    if asked.by == WORKFLOW:
        return
    by_value = {group.value: group.figures for group in groups}
    for row in usage.sums((asked.by,), only={**timed, asked.by: by_value}, times=True):
        by_value[row.group[0]].add_times(row.sums)


def _workflows(asked: Asked) -> Workflows | None:
    """Tags are summed up by day and client alone: of the days that the range touches, in a zone that has them."""
    if set(asked.only) - {"client"} or asked.by == WORKFLOW:
        return None
    period = asked.period
    zone = period.zone if _has_days(period.zone, asked) else default_time_zone()
    days = Days(zone)
    start, end = days.start(period.start), days.end(period.end - timedelta(microseconds=1))
    wanted = Slice(start, end, zone, "", ("client",), asked.only, asked.reader)
    found = dearest(wanted, WORKFLOW, _SUMMED, _WORKFLOWS)
    known = names("client", {row.group[0] for row in found}, asked.reader)
    rows = [(known.get(row.group[0], ""), row.group[1], row.sums) for row in found]
    return Workflows(rows, start, end, zone)


def _has_days(zone: str, asked: Asked) -> bool:
    """Tell whether all whose usage is asked for is rolled up by the days of `zone`."""
    series = narrowed(UsageSeries.objects.all(), asked.slice(asked.period.start, asked.period.end, ""))
    return not series.exclude(client__in=RolledZone.objects.filter(zone=zone).values("client")).exists()


def _executions(asked: Asked) -> Executions:
    """Only records know executions: those of the newest calls of the range, which an index finds."""
    start, end = asked.period.start, asked.period.end
    whose = Q(client__in=asked.only["client"]) if "client" in asked.only else Q()
    which = Q(workflow__in=asked.only[WORKFLOW]) if WORKFLOW in asked.only else Q()
    records = access.visible(asked.reader, UsageRecord.objects.filter(whose, admitted_at__lt=end))
    times = records.filter(admitted_at__gte=start).order_by("-admitted_at").values_list("admitted_at", flat=True)
    oldest = times[LOOKED_AT : LOOKED_AT + 1].first()
    records = records.filter(admitted_at__gte=start) if oldest is None else records.filter(admitted_at__gt=oldest)
    rows = (
        narrowed(records, asked.slice(start, end, ""))
        .filter(which)
        .exclude(execution="")
        .order_by()
        .values("client", "workflow", "execution")
        .annotate(calls=Count("pk"), cost=Sum("cost"), charge=Sum("charge"), last=Max("admitted_at"))
        .order_by("-cost", "client", "workflow", "execution")[:_EXECUTIONS]
    )
    found: list[dict[str, Any]] = [dict(row) for row in rows]
    known = names("client", {row["client"] for row in found}, asked.reader)
    return Executions([{**row, "client": known.get(row["client"], "")} for row in found], oldest is None)


def _saved(models: Iterable[Group]) -> int:
    cached = {group.value: group.figures.sums.cached_tokens for group in models if group.value is not None}
    prices = Price.objects.in_force().filter(model__in=cached, service_tier="default", above_tokens=0)
    now = {price.model_id: price for price in prices.order_by("effective_from")}
    return sum(cached[model] * max(0, price.input - price.effective("cached_input")) for model, price in now.items())
