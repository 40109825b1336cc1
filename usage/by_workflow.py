"""Usage by workflow, as the analytics page tells it: of calls that count, by client and by nothing else."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from usage import outcomes
from usage.asked import WORKFLOW, Asked, Group, names
from usage.columns import Row
from usage.figures import Figures
from usage.tags import read_tag

_SUMMED: Final = ("calls", "input_tokens", "cached_tokens", "output_tokens", "cost", "charge")


def read(asked: Asked, start: datetime, end: datetime, step: str) -> list[Row]:
    """Return the sums of the workflows that it is narrowed to, by step, client and workflow."""
    wanted = replace(asked.slice(start, end, step), group_by=("client",))
    return read_tag(wanted, WORKFLOW, _SUMMED, asked.only[WORKFLOW])


def grouped(asked: Asked, rows: Iterable[Row], by: str) -> list[Group]:
    """Return groups of such rows by client or workflow, the largest first, each with its steps."""
    found: dict[Any, Group] = {}
    for row in rows:
        client, workflow = row.group
        value = client if by == "client" else workflow
        group = found.setdefault(value, Group(value, str(value), Figures()))
        assert row.at is not None
        for figures in (group.figures, group.by_step[row.at]):
            figures.add(outcomes.OK, row.sums)
    known = names(by, found, asked.reader)
    return _largest_first(asked, (replace(group, name=known.get(value, group.name)) for value, group in found.items()))


def groups(asked: Asked) -> list[Group]:
    """Return all workflows of the range, the largest first."""
    period = asked.period
    rows = read_tag(asked.slice(period.start, period.end, ""), WORKFLOW, _SUMMED)
    found: dict[str, Figures] = defaultdict(Figures)
    for row in rows:
        found[row.group[0]].add(outcomes.OK, row.sums)
    return _largest_first(asked, (Group(name, name, figures) for name, figures in found.items()))


def add_steps(asked: Asked, some: Sequence[Group]) -> None:
    """Add what they were in each step."""
    period = asked.period
    of_value = {group.value: group.by_step for group in some}
    wanted: Collection[str] = list(of_value)
    for row in read_tag(asked.slice(period.start, period.end, period.step), WORKFLOW, _SUMMED, wanted):
        assert row.at is not None
        of_value[row.group[0]][row.at].add(outcomes.OK, row.sums)


def _largest_first(asked: Asked, some: Iterable[Group]) -> list[Group]:
    return sorted(some, key=lambda group: (-group.figures.amount(asked.metric), group.name))
