"""What clients used in months of theirs, read together for all whose months are the same span of time."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from usage import outcomes
from usage.analytics import Slice, load
from usage.folding import Sums
from usage.models import TagRollup
from usage.tags import read_tag


class Span(NamedTuple):
    """A client's month: [start, end), by the days of a zone."""

    client: int
    start: datetime
    end: datetime
    zone: str


@dataclass(slots=True)
class Used:
    """What was used in it."""

    by_model: dict[int | None, Sums] = field(default_factory=lambda: defaultdict(Sums))
    """Of calls that count: the others are charged nothing."""
    estimated: int = 0
    """Calls among them of which the tokens are the gateway's own count."""
    interrupted: int = 0

    @property
    def total(self) -> Sums:
        """All of it."""
        total = Sums()
        for sums in self.by_model.values():
            total.add(sums)
        return total


def used_in(spans: Collection[Span]) -> dict[Span, Used]:
    """Return what was used in each span: a query for each span of time, however many clients have it."""
    found: dict[Span, Used] = {span: Used() for span in spans}
    for alike in _alike(spans):
        by_client = {span.client: found[span] for span in alike}
        columns = load(_slice(alike))
        for row in columns.sums(("client", "model", "outcome", "estimated")):
            client, model, outcome, estimated = row.group
            if outcome not in outcomes.COUNTED:
                continue
            used = by_client[client]
            used.by_model[model].add(row.sums)
            used.estimated += row.sums.calls if estimated else 0
            used.interrupted += row.sums.calls if outcome == outcomes.INTERRUPTED else 0
    return found


def workflows_in(spans: Collection[Span]) -> dict[Span, Mapping[str, Sums]]:
    """Return by workflow what was used in each span; untagged calls are left out."""
    found: dict[Span, dict[str, Sums]] = {span: {} for span in spans}
    for alike in _alike(spans):
        by_client = {span.client: found[span] for span in alike}
        for row in read_tag(_slice(alike), TagRollup.WORKFLOW):
            client, workflow = row.group
            by_client[client][workflow] = row.sums
    return dict(found)


def _alike(spans: Collection[Span]) -> Collection[list[Span]]:
    by_time: dict[tuple[datetime, datetime, str], list[Span]] = defaultdict(list)
    for span in spans:
        by_time[span[1:]].append(span)
    return by_time.values()


def _slice(alike: list[Span]) -> Slice:
    _, start, end, zone = alike[0]
    return Slice(start, end, zone, group_by=("client",), only={"client": [span.client for span in alike]})
