"""The tables of the analytics page: what is below a chart, and what its CSV holds, is the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.urls import reverse

from pricing.money import format_dollars, format_sum
from usage import outcomes
from usage.asked import WORKFLOW, Asked, next_by, top
from usage.dashboard import LOOKED_AT, Answer, Executions, Workflows
from usage.figures import METRICS, Figures
from usage.periods import Period

_MONEY: Final = frozenset({"charge", "cost", "margin"})
_LATENCIES: Final[dict[str, Callable[[Figures], int | None]]] = {
    "p50": lambda it: it.latency(50),
    "p95": lambda it: it.latency(95),
    "p99": lambda it: it.latency(99),
    "first byte p50": lambda it: it.first_byte(50),
    "first byte p95": lambda it: it.first_byte(95),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as people read it, and as a spreadsheet does."""

    shown: str
    plain: str | int | Decimal
    link: str = ""

    @property
    def number(self) -> bool:
        """Whether it is to stand with its digits below others'."""
        return not isinstance(self.plain, str)


@dataclass(frozen=True, slots=True)
class Table:
    """One table, and the chart that it is drawn as."""

    id: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    chart: dict[str, Any] | None = None
    """What analytics.js draws: kind, labels, sets of values (numbers), and where a click on a set leads to."""
    empty: str = "No calls in this range."
    more: int = 0
    """Rows that there are beyond these."""
    numbers: Sequence[bool] = field(init=False)

    def __post_init__(self) -> None:
        """See which columns are numbers."""
        first = self.rows[0] if self.rows else []
        object.__setattr__(self, "numbers", [cell.number for cell in first])

    @property
    def columns(self) -> Iterator[tuple[str, bool]]:
        """Names of columns, and whether they hold numbers."""
        known = self.numbers or [False] * len(self.head)
        return zip(self.head, known, strict=True)


def tables(asked: Asked, answer: Answer, most: int | None = None) -> list[Table]:
    """Return all of them, in the order of the page, of long ones the first `most` rows."""
    found = [
        _over_time(asked, answer),
        _groups(asked, answer.groups, asked.by, most),
        _groups(asked, answer.others, answer.other, most, pie=True),
    ]
    if WORKFLOW not in asked.only:
        found += [_outcomes(answer.total), _latency(asked.period, answer)]
    if answer.workflows is not None:
        found.append(_workflows(asked, answer.workflows))
    return [*found, _executions(asked, answer.executions)]


def address(asked: Asked, by: str | None = None, **changed: Any) -> str:
    """Return the query string that shows what is asked, with something changed; None takes a dimension away."""
    query: dict[str, Any] = {**asked.period.query, "metric": asked.metric, "by": by or asked.by, **asked.only}
    for name, value in changed.items():
        if value is None:
            query.pop(name, None)
        else:
            query[name] = value
    return "?" + urlencode(query, doseq=True)


def calls_link(asked: Asked, **more: str) -> str:
    """Return where the calls are listed, narrowed by more; '' where that list cannot: it knows one value of each."""
    query: dict[str, Any] = {}
    for name, values in asked.only.items():
        if len(values) > 1:
            return ""
        query[f"{name}__id__exact" if name in ("client", "model") else name] = values[0]
    query["admitted_at__gte"] = asked.period.start.isoformat()
    query["admitted_at__lt"] = asked.period.end.isoformat()
    return f"{reverse('admin:usage_usagerecord_changelist')}?{urlencode({**query, **more})}"


def money(picodollars: int) -> Cell:
    """Return a cell of USD."""
    return Cell(format_sum(picodollars), Decimal(format_dollars(picodollars)))


def count(number: int) -> Cell:
    """Return a cell of a whole number."""
    return Cell(f"{number:,}", number)


def milliseconds(us: int | None) -> Cell:
    """Return a cell of milliseconds."""
    return Cell("–", 0) if us is None else Cell(f"{us / 1000:,.0f}", Decimal(us) / 1000)


def step_name(period: Period, at: datetime) -> str:
    """Return what a step is called: its hour, or its day."""
    local = at.astimezone(ZoneInfo(period.zone))
    return f"{local:%-d %b, %H:%M}" if period.step == "hour" else f"{local:%a %-d %b}"


def _amount(metric: str, figures: Figures) -> Cell:
    amount = figures.amount(metric)
    return money(amount) if metric in _MONEY else count(amount)


def _drawn(metric: str, figures: Figures) -> float:
    """For the eye alone; what is written is exact."""
    amount = figures.amount(metric)
    return float(format_dollars(amount)) if metric in _MONEY else float(amount)


def _group_link(asked: Asked, by: str, value: Any) -> str:
    if value is None:
        return ""
    narrowed = Asked(asked.period, asked.metric, by, {**asked.only, by: [value]}, asked.reader)
    following = next_by(narrowed)
    return address(narrowed, following or by)


def _over_time(asked: Asked, answer: Answer) -> Table:
    shown, rest = top(answer.groups)
    left = "others" if rest else ""
    if asked.by == WORKFLOW and WORKFLOW not in asked.only:
        left = "others, or none"  # calls may have no workflow
    names = [group.name for group in shown] + [left] * bool(left)
    rows, values = [], [[0.0] * len(answer.steps) for _ in names]
    for number, at in enumerate(answer.steps):
        whole = answer.by_step.get(at, Figures())
        every = [group.by_step.get(at, Figures()) for group in shown]
        if left:
            every.append(whole.without(every))
        for of_group, figures in zip(values, every, strict=True):
            of_group[number] = _drawn(asked.metric, figures)
        cells = [_amount(asked.metric, figures) for figures in (*every, whole)]
        rows.append([Cell(step_name(asked.period, at), at.isoformat(), _day_link(asked, at)), *cells])
    links = [_group_link(asked, asked.by, group.value) for group in shown] + [""] * bool(left)
    chart = {
        "kind": "stacked",
        "unit": METRICS[asked.metric],
        "labels": [step_name(asked.period, at) for at in answer.steps],
        "sets": [
            {"name": name, "values": of_group, "link": link}
            for name, of_group, link in zip(names, values, links, strict=True)
        ],
        "partial": asked.period.running,
    }
    title = f"{METRICS[asked.metric]} over time, by {asked.by}"
    return Table("over_time", title, [asked.period.step, *names, "all"], rows if answer.groups else [], chart)


def _day_link(asked: Asked, at: datetime) -> str:
    if asked.period.step == "hour":
        return ""
    day = at.astimezone(ZoneInfo(asked.period.zone)).date().isoformat()
    return address(asked, range=None, **{"from": day, "to": day})


def _together(every: Sequence[Figures]) -> Figures:
    total = Figures()
    for figures in every:
        total.sums.add(figures.sums)
        for outcome, calls in figures.by_outcome.items():
            total.by_outcome[outcome] += calls
    return total


def _groups(asked: Asked, groups: Sequence[Any], by: str, most: int | None, *, pie: bool = False) -> Table:
    by_workflow = WORKFLOW in (by, *asked.only)
    rows = []
    for group in groups[:most]:
        it = group.figures
        cells = [Cell(group.name, group.name, _group_link(asked, by, group.value)), count(it.calls), count(it.tokens)]
        cells += [money(it.cost), money(it.charge), money(it.margin), Cell(f"{it.cached_percent} %", it.cached_percent)]
        if not by_workflow:
            cells += [count(it.refused), count(it.failed)]
        if not (pie or by_workflow):  # what is beside the chosen split is read without its times, which is quicker
            cells.append(milliseconds(it.latency(95)))
        rows.append(cells)
    shown, rest = top(groups)
    every = [(group.name, group.figures, _group_link(asked, by, group.value)) for group in shown]
    if rest:
        every.append(("others", _together([group.figures for group in rest]), ""))
    chart = {
        "kind": "pie" if pie else "bars",
        "unit": METRICS[asked.metric],
        "labels": [name for name, _, _ in every],
        "sets": [{"name": METRICS[asked.metric], "values": [_drawn(asked.metric, it) for _, it, _ in every]}],
        "links": [link for _, _, link in every],
    }
    head = [by, "calls", "tokens", "cost, USD", "charged, USD", "margin, USD", "cached input"]
    head += [] if by_workflow else ["refused", "failed"] + ["p95, ms"] * (not pie)
    return Table(f"by_{by}", f"By {by}", head, rows, chart, more=len(groups) - len(rows))


def _outcomes(total: Figures) -> Table:
    found = sorted(total.by_outcome.items(), key=lambda one: -one[1])
    rows = [[Cell(outcomes.LABELS.get(name, name), name), count(calls)] for name, calls in found if calls]
    errors = [(outcomes.LABELS.get(name, name), calls) for name, calls in found if name != outcomes.OK and calls]
    chart = {
        "kind": "bars",
        "unit": "Calls",
        "labels": [name for name, _ in errors],
        "sets": [{"name": "Calls", "values": [calls for _, calls in errors]}],
    }
    return Table("outcomes", "How calls ended", ["outcome", "calls"], rows, chart if errors else None)


def _latency(period: Period, answer: Answer) -> Table:
    rows: list[list[Cell]] = []
    values: dict[str, list[float | None]] = {name: [] for name in _LATENCIES}
    for at in answer.steps:
        figures = answer.by_step.get(at, Figures())
        found = {name: line(figures) for name, line in _LATENCIES.items()}
        for name, us in found.items():
            values[name].append(None if us is None else us / 1000)
        rows.append([Cell(step_name(period, at), at.isoformat()), *map(milliseconds, found.values())])
    chart = {
        "kind": "lines",
        "unit": "ms",
        "labels": [step_name(period, at) for at in answer.steps],
        "sets": [{"name": name, "values": of_line} for name, of_line in values.items()],
    }
    head = [period.step, *(f"{name}, ms" for name in _LATENCIES)]
    return Table("latency", "Latency, refused calls left aside", head, rows if answer.groups else [], chart)


def _workflows(asked: Asked, found: Workflows) -> Table:
    rows = [
        [Cell(name, name, calls_link(asked, workflow=name)), Cell(client, client), count(sums.calls),
         count(sums.input_tokens + sums.output_tokens), money(sums.cost), money(sums.charge)]
        for client, name, sums in found.rows
    ]  # fmt: skip
    head = ["workflow", "client", "calls", "tokens", "cost, USD", "charged, USD"]
    title = "Top workflows"
    if (found.start, found.end) != (asked.period.start, asked.period.end):
        there = ZoneInfo(found.zone)
        first, last = (at.astimezone(there) for at in (found.start, found.end - timedelta(microseconds=1)))
        title += f", {first:%-d %b} to {last:%-d %b} by days of {found.zone}"
    return Table("workflows", title, head, rows, empty="No calls with a workflow's name: send x-gateway-tags.")


def _executions(asked: Asked, found: Executions) -> Table:
    rows = [
        [
            Cell(one["execution"], one["execution"], calls_link(asked, execution=one["execution"])),
            Cell(one["workflow"], one["workflow"]),
            Cell(one["client"], one["client"]),
            *(count(one["calls"]), money(int(one["cost"])), money(int(one["charge"]))),
        ]
        for one in found.rows
    ]
    head = ["execution", "workflow", "client", "calls", "cost, USD", "charged, USD"]
    title = "Dearest executions" + ("" if found.of_all else f" of the last {LOOKED_AT:,} calls")
    return Table("executions", title, head, rows, empty="No calls with an execution's id there.")
