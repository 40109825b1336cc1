"""What the analytics page shows: one question to the rollups, and tables of the answer that charts and CSV share."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import Count, Max, Min, Q, Sum

from clients import access
from clients.models import Client, default_time_zone
from keys.models import APIKey
from pricing.models import Model, Price, Provider
from usage import outcomes
from usage.analytics import Slice, load, narrowed
from usage.columns import Columns, Row
from usage.days import Days
from usage.folding import Sums
from usage.histograms import add, percentile
from usage.models import ArchiveFile, RolledZone, TagRollup, UsageRecord, UsageSeries
from usage.periods import Period
from usage.tags import read_tag

METRICS: Final = {
    "charge": "Charged, USD",
    "cost": "Cost, USD",
    "margin": "Margin, USD",
    "calls": "Calls",
    "tokens": "Tokens",
}
NAMED: Final[dict[str, type[Any]]] = {"client": Client, "model": Model, "key": APIKey, "provider": Provider}
BY: Final = (*NAMED, "endpoint")
"""What usage is split by; the first that is not narrowed to one is where a click leads to."""
FAILED: Final = frozenset({outcomes.UPSTREAM_ERROR, outcomes.BROKEN, outcomes.INTERRUPTED})
_SHOWN: Final = 7  # colours that can be told apart; the rest is summed up
_WORKFLOWS: Final = 20
_EXECUTIONS: Final = 10
LOOKED_AT: Final = 20_000
"""Calls, the newest, among which the dearest executions are found: of a year they would be more than can be read."""
_SUMMED: Final = ("calls", "input_tokens", "output_tokens", "cost", "charge")


class Figures:
    """Sums of calls that counted, and how many did not."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.by_outcome: dict[str, int] = defaultdict(int)

    def add(self, outcome: str, sums: Sums) -> None:
        """Add the calls of one outcome; of those that did not count only their number, and the provider's cost."""
        self.by_outcome[outcome] += sums.calls
        self.sums.add(sums)

    def add_times(self, sums: Sums) -> None:
        """Add the latencies of calls whose amounts are there already."""
        add(self.sums.latency, sums.latency)
        add(self.sums.first_byte, sums.first_byte)

    def without(self, others: Iterable["Figures"]) -> "Figures":
        """Return what is left of the sums when those of others are taken away. It has no latencies."""
        left = Figures()
        left.sums, left.by_outcome = Sums(self.sums.amounts), defaultdict(int, self.by_outcome)
        for other in others:
            left.sums.amounts = [mine - its for mine, its in zip(left.sums.amounts, other.sums.amounts, strict=True)]
            for outcome, calls in other.by_outcome.items():
                left.by_outcome[outcome] -= calls
        return left

    @property
    def calls(self) -> int:
        """Those that count."""
        return sum(calls for outcome, calls in self.by_outcome.items() if outcome in outcomes.COUNTED)

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.sums.input_tokens + self.sums.output_tokens

    @property
    def cost(self) -> int:
        """Picodollars that providers take."""
        return self.sums.cost

    @property
    def charge(self) -> int:
        """Picodollars that clients pay."""
        return self.sums.charge

    @property
    def margin(self) -> int:
        """Picodollars between the two."""
        return self.sums.charge - self.sums.cost

    @property
    def refused(self) -> int:
        """Calls that we refused."""
        return self.by_outcome[outcomes.REFUSED]

    @property
    def failed(self) -> int:
        """Calls that the provider, or the gateway, failed."""
        return sum(calls for outcome, calls in self.by_outcome.items() if outcome in FAILED)

    @property
    def cached_percent(self) -> int:
        """How much of the input came from the provider's cache."""
        return self.sums.cached_tokens * 100 // self.sums.input_tokens if self.sums.input_tokens else 0

    def amount(self, metric: str) -> int:
        """Return one of METRICS: a number, or picodollars."""
        return int(getattr(self, metric))

    def latency(self, percent: int) -> int | None:
        """Return the µs that so many percent of the calls did not exceed, those that we refused left aside."""
        return percentile(self.sums.latency, percent)

    def first_byte(self, percent: int) -> int | None:
        """Return the same to the first byte."""
        return percentile(self.sums.first_byte, percent)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is asked for, by whom."""

    period: Period
    metric: str
    by: str
    only: Mapping[str, Sequence[Any]]
    """Dimension -> the values that it is narrowed to."""
    reader: access.Person

    def slice(self, start: datetime, end: datetime, step: str) -> Slice:
        """Return what to read of it. Raises ValidationError where the reader may not tell it apart by that."""
        return Slice(start, end, self.period.zone, step, (self.by,), self.only, self.reader)


@dataclass(frozen=True, slots=True)
class Group:
    """One client, model, ... with its figures."""

    value: Any
    name: str
    figures: Figures
    by_step: dict[datetime, Figures] = field(default_factory=lambda: defaultdict(Figures))
    """Of those that get a colour alone."""


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
    others: Sequence[Group]
    """By the other that people want to see beside it: models, or of models the clients."""
    workflows: Workflows | None
    """None where what is asked for cannot be told by workflow."""
    executions: Executions
    saved: int
    """Picodollars that cached input was cheaper, at the prices in force now."""


def ask(asked: Asked) -> Answer:
    """Answer it all. Raises ValidationError as `usage.analytics.load` does."""
    period = asked.period
    usage = load(asked.slice(period.start, period.end, period.step), times=True)
    other = "client" if asked.by == "model" else "model"
    groups, others = (_groups(asked, usage, by) for by in (asked.by, other))
    total, by_step = _over_time(usage)
    _add_steps(asked, usage, top(groups)[0])
    _add_times(asked, usage, groups, total, by_step)
    return Answer(
        total,
        _before(asked),
        list(period.steps()),
        by_step,
        groups,
        others,
        _workflows(asked),
        _executions(asked),
        _saved(groups if asked.by == "model" else others),
    )


def _before(asked: Asked) -> Figures | None:
    parts = asked.period.before()
    first = UsageRecord.objects.aggregate(at=Min("admitted_at"))["at"]
    archived = ArchiveFile.objects.filter(taken__gt=0).aggregate(at=Min("earliest"))["at"]
    first = min((at for at in (first, archived) if at is not None), default=None)
    if first is None or first > parts[0][0] + timedelta(days=1):
        return None
    figures = Figures()
    for start, end in parts:
        for row in load(asked.slice(start, end, "")).sums(("outcome",)):
            figures.add(row.group[0], row.sums)
    return figures


def next_by(asked: Asked) -> str | None:
    """Return what to split by once one group of it is chosen; None where nothing is left to split by."""
    for by in BY:
        if by != asked.by and by not in asked.only and (by not in NAMED or access.may(asked.reader, "view", NAMED[by])):
            return by
    return None


def names(by: str, values: Iterable[Any], reader: access.Person) -> dict[Any, str]:
    """Return what values of a dimension are called, of those that the reader may see."""
    wanted = [value for value in values if value is not None]
    if by not in NAMED:
        return {value: str(value) for value in wanted}
    found = access.visible(reader, NAMED[by]._default_manager.filter(pk__in=wanted))
    return {row.pk: str(row) for row in found}


def top(groups: Sequence[Group]) -> tuple[Sequence[Group], Sequence[Group]]:
    """Return those that get a colour, and those that are summed up as others."""
    return groups[:_SHOWN], groups[_SHOWN:]


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
    by_value = {group.value: group.figures for group in groups}
    for row in usage.sums((asked.by,), only=timed, times=True):
        by_value[row.group[0]].add_times(row.sums)


def _workflows(asked: Asked) -> Workflows | None:
    """Tags are summed up by day and client alone: of the days that the range touches, in a zone that has them."""
    if set(asked.only) - {"client"}:
        return None
    period = asked.period
    zone = period.zone if _has_days(period.zone, asked) else default_time_zone()
    days = Days(zone)
    start, end = days.start(period.start), days.end(period.end - timedelta(microseconds=1))
    wanted = Slice(start, end, zone, "", ("client",), asked.only, asked.reader)
    every = read_tag(wanted, TagRollup.WORKFLOW, ("calls", "charge"))  # there may be thousands, of each day
    dearest = {row.group for row in sorted(every, key=_dearest_first)[:_WORKFLOWS]}
    found = read_tag(wanted, TagRollup.WORKFLOW, _SUMMED, {workflow for _, workflow in dearest})
    known = names("client", {client for client, _ in dearest}, asked.reader)
    rows = [
        (known.get(row.group[0], ""), row.group[1], row.sums)
        for row in sorted(found, key=_dearest_first)
        if row.group in dearest
    ]
    return Workflows(rows, start, end, zone)


def _dearest_first(row: Row) -> tuple[int, int, str]:
    return (-row.sums.charge, -row.sums.calls, row.group[-1])


def _has_days(zone: str, asked: Asked) -> bool:
    """Tell whether all whose usage is asked for is rolled up by the days of `zone`."""
    series = narrowed(UsageSeries.objects.all(), asked.slice(asked.period.start, asked.period.end, ""))
    return not series.exclude(client__in=RolledZone.objects.filter(zone=zone).values("client")).exists()


def _executions(asked: Asked) -> Executions:
    """Only records know executions: those of the newest calls of the range, which an index finds."""
    start, end = asked.period.start, asked.period.end
    whose = Q(client__in=asked.only["client"]) if "client" in asked.only else Q()
    records = access.visible(asked.reader, UsageRecord.objects.filter(whose, admitted_at__lt=end))
    times = records.filter(admitted_at__gte=start).order_by("-admitted_at").values_list("admitted_at", flat=True)
    oldest = times[LOOKED_AT : LOOKED_AT + 1].first()
    records = records.filter(admitted_at__gte=start) if oldest is None else records.filter(admitted_at__gt=oldest)
    rows = (
        narrowed(records, asked.slice(start, end, ""))
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
