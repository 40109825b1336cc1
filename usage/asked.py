"""What the analytics page is asked for, and what usage is split by there."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError

from clients import access
from clients.models import Client
from keys.models import APIKey
from pricing.models import Model, Provider
from usage.analytics import Slice
from usage.figures import Figures
from usage.models import TagRollup
from usage.periods import Period

NAMED: Final[dict[str, type[Any]]] = {"client": Client, "model": Model, "key": APIKey, "provider": Provider}
WORKFLOW: Final = TagRollup.WORKFLOW
BY: Final = (*NAMED, "endpoint", WORKFLOW)
"""What usage is split by; the first that is not narrowed to one is where a click leads to."""
OF_WORKFLOWS: Final = ("client", WORKFLOW)
"""All that sums by workflow are told apart by."""
_SHOWN: Final = 7  # colours that can be told apart; the rest is summed up


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is asked for, by whom."""

    period: Period
    metric: str
    by: str
    only: Mapping[str, Sequence[Any]]
    """Dimension -> the values that it is narrowed to."""
    reader: access.Person

    def __post_init__(self) -> None:
        """Judge it. Raises ValidationError where it cannot be told."""
        if WORKFLOW in (self.by, *self.only) and {*self.only} - {*OF_WORKFLOWS}:
            raise ValidationError("By workflow, usage is told of clients alone: take the other filters away.")
        if WORKFLOW in self.only and self.by not in OF_WORKFLOWS:
            raise ValidationError(f"Of a workflow, usage is told by {' or '.join(OF_WORKFLOWS)}.")

    def slice(self, start: datetime, end: datetime, step: str) -> Slice:
        """Return what to read of it, of all workflows.

        Raises ValidationError where the reader may not tell it apart by that.
        """
        by = tuple(name for name in (self.by,) if name != WORKFLOW)
        only = {name: values for name, values in self.only.items() if name != WORKFLOW}
        return Slice(start, end, self.period.zone, step, by, only, self.reader)


@dataclass(frozen=True, slots=True)
class Group:
    """One client, model, ... with its figures."""

    value: Any
    name: str
    figures: Figures
    by_step: dict[datetime, Figures] = field(default_factory=lambda: defaultdict(Figures))
    """Of those that get a colour alone."""


def splits(asked: Asked) -> list[str]:
    """Return what usage can be split by for the reader, as it is narrowed."""
    if WORKFLOW in asked.only:
        return list(OF_WORKFLOWS)
    return [
        by
        for by in BY
        if (by not in NAMED or access.may(asked.reader, "view", NAMED[by]))
        and (by != WORKFLOW or {*asked.only} <= {*OF_WORKFLOWS})
    ]


def next_by(asked: Asked) -> str | None:
    """Return what to split by once one group of it is chosen; None where nothing is left to split by."""
    return next((by for by in splits(asked) if by != asked.by and by not in asked.only), None)


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
