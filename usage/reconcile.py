"""The provider's own figures laid beside ours, by days of UTC and model, and what differs called by its name.

Models are compared by what the provider calls them, without the date of a snapshot: gpt-4o-mini-2024-07-18 is
gpt-4o-mini. What a difference is put down to is what could have made it, in this order, each up to its own size:
calls that ended unseen, calls whose tokens we counted ourselves, calls that only one side has, the price.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils import timezone

from clients import access
from clients.spreadsheet import Value, disarmed, plain_lines
from pricing.models import Model, Provider
from pricing.money import format_dollars
from usage import outcomes
from usage.analytics import Slice
from usage.analytics import read as read_sums
from usage.costs import whole_days
from usage.folding import Sums
from usage.provider_exports import MEASURES, Export, Told

ROUNDING: Final = 10**6
"""Picodollars by which the cost of a day and a model may differ: a millionth of a dollar, as amounts are rounded."""
ALL_MODELS: Final = "all models"
"""Where the file tells of none."""
_SNAPSHOT: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$", re.ASCII)
_SERVED: Final = outcomes.COUNTED - {outcomes.REJECTED}
"""What the provider counts for a request of its own; for what it rejected it tells no usage."""
_OPENAI: Final = "api.openai.com"


class Cause(StrEnum):
    """What a difference is put down to."""

    INTERRUPTED = "interrupted calls"
    ESTIMATED = "estimated calls"
    NEXT_DAY = "counted the next day"
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    PRICE = "price"
    PRICE_OR_TOKENS = "price or tokens"
    ROUNDING = "rounding"
    UNEXPLAINED = "unexplained"

    @property
    def meaning(self) -> str:
        """What to make of it."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Cause.INTERRUPTED: "The gateway or the stream ended before the provider told; we recorded an estimate.",
    Cause.ESTIMATED: "The provider told no usage with the answer, so we counted the tokens ourselves.",
    Cause.NEXT_DAY: "What the provider lacks on one day it has too much on the next: calls around midnight UTC.",
    Cause.MISSING_HERE: "The provider counts calls that went past the gateway: somebody else uses its key.",
    Cause.MISSING_THERE: "We recorded calls that the provider does not count: another account, or not counted yet.",
    Cause.PRICE: "The tokens are the same, or accounted for, and the cost is not: look at the model's prices.",
    Cause.PRICE_OR_TOKENS: "Only costs were loaded: load the usage of the same days as well to tell which.",
    Cause.ROUNDING: "Less than a millionth of a dollar.",
    Cause.UNEXPLAINED: "None of these accounts for it.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause, and how much of each measure's difference it accounts for; theirs less ours."""

    cause: Cause
    shares: dict[str, int]


@dataclass(slots=True)
class Ours:
    """Our sums of one day and one model, and of those among them that may be wrong."""

    whole: Told = field(default_factory=lambda: Told(0, 0, 0, 0, 0))
    interrupted: Told = field(default_factory=lambda: Told(0, 0, 0, 0, 0))
    estimated: Told = field(default_factory=lambda: Told(0, 0, 0, 0, 0))
    """Without the interrupted ones."""


@dataclass(frozen=True, slots=True)
class Line:
    """One day and one model, on both sides; None where a side has nothing."""

    day: date
    model: str
    theirs: Told | None
    ours: Told | None
    differences: dict[str, int]
    """Theirs less ours, of what the file tells."""
    reasons: tuple[Reason, ...]

    @property
    def stands_out(self) -> bool:
        """Whether somebody should look at it."""
        return any(reason.cause != Cause.ROUNDING for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Report:
    """Both sides of a range of days."""

    first: date
    last: date
    told: tuple[str, ...]
    """The measures that the file tells."""
    lines: tuple[Line, ...]
    theirs: Told
    ours: Told
    causes: tuple[tuple[Cause, int, dict[str, int]], ...]
    """Each cause with how many lines it concerns, and the sums of its shares."""
    notes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing stands out."""
        return not any(line.stands_out for line in self.lines)


def usual_providers(providers: Collection[Provider]) -> list[Provider]:
    """Return those that OpenAI's export is about: at its address, or where there is none, all that speak as it does."""
    real = [provider for provider in providers if provider.kind == Provider.Kind.OPENAI]
    return [one for one in real if urlsplit(one.base_url).hostname == _OPENAI] or real


def compare(export: Export, providers: Collection[Provider], reader: access.Person | None = None) -> Report:
    """Lay an export beside our calls to `providers`. Raises ValidationError where there is none."""
    if not providers:
        raise ValidationError("Choose the provider that the file is from.")
    by_model = all(model for _, model in export.cells)
    theirs: dict[tuple[date, str], Told] = defaultdict(Told)
    for (day, name), told in export.cells.items():
        theirs[day, base_name(name) if by_model else ALL_MODELS].add(**told.only(MEASURES))
    ours = _ours(export, providers, by_model, reader)
    measures = tuple(name for name in MEASURES if any(getattr(told, name) is not None for told in theirs.values()))
    measures = measures or MEASURES
    lines = _over_midnight([_line(key, theirs.get(key), ours.get(key), measures) for key in sorted({*theirs, *ours})])
    return Report(
        export.first,
        export.last,
        measures,
        lines,
        _sum(list(theirs.values()), measures),
        _sum([one.whole for one in ours.values()], measures),
        _causes(lines),
        tuple(_notes(export, by_model)),
    )


def base_name(name: str) -> str:
    """Return a model's name without the date of its snapshot: `gpt-4o-mini` of `gpt-4o-mini-2024-07-18`."""
    return _SNAPSHOT.sub("", "-".join(name.lower().split()))


def text(report: Report) -> Iterator[str]:
    """Yield the lines of a CSV file: RFC 4180, one header line, numbers plain, formulas disarmed."""
    return plain_lines(_cells(report))


def _cells(report: Report) -> Iterator[list[Value]]:
    names = ["cost_usd" if name == "cost" else name for name in report.told]
    sides = ("provider", "gateway", "difference")
    yield ["day", "model", *(f"{side}_{name}" for name in names for side in sides), "put_down_to"]
    for line in report.lines:
        row: list[Value] = [line.day.isoformat(), disarmed(line.model)]
        for name in report.told:
            for value in (_of(line.theirs, name), _of(line.ours, name), line.differences[name]):
                row.append("" if value is None else format_dollars(value) if name == "cost" else value)
        row.append("; ".join(reason.cause for reason in line.reasons))
        yield row


def _ours(
    export: Export, providers: Collection[Provider], by_model: bool, reader: access.Person | None
) -> dict[tuple[date, str], Ours]:
    asked = Slice(
        *whole_days(export.first, export.last, "UTC"),
        "UTC",
        "day",
        ("model", "outcome", "estimated"),
        {"provider": [provider.pk for provider in providers]},
        reader,
    )
    names = {model.pk: base_name(model.upstream) for model in Model._base_manager.all()}
    found: dict[tuple[date, str], Ours] = defaultdict(Ours)
    for row in read_sums(asked):
        model, outcome, estimated = row.group
        told = _told(row.sums, outcome)
        if row.at is None or not any(told.values()):
            continue
        ours = found[row.at.date(), names.get(model, f"#{model or '-'}") if by_model else ALL_MODELS]
        ours.whole.add(**told)
        if outcome == outcomes.INTERRUPTED:
            ours.interrupted.add(**told)
        elif estimated:
            ours.estimated.add(**told)
    return dict(found)


def _told(sums: Sums, outcome: str) -> dict[str, int]:
    return {
        "requests": sums.calls if outcome in _SERVED else 0,
        **{name: getattr(sums, name) for name in MEASURES[1:]},
    }


def _line(key: tuple[date, str], theirs: Told | None, ours: Ours | None, measures: tuple[str, ...]) -> Line:
    whole = ours.whole if ours else None
    differences = {name: (_of(theirs, name) or 0) - (_of(whole, name) or 0) for name in measures}
    return Line(*key, theirs, whole, differences, tuple(_reasons(differences, theirs, ours)))


def _reasons(differences: dict[str, int], theirs: Told | None, ours: Ours | None) -> Iterator[Reason]:
    left = {name: value for name, value in differences.items() if value}
    if not left:
        return
    if ours is None:
        yield Reason(Cause.MISSING_HERE, left)
        return
    if theirs is None:
        yield Reason(Cause.MISSING_THERE, left)
        return
    tells_tokens = theirs.input_tokens is not None
    if set(left) == {"cost"} and (tells_tokens or abs(left["cost"]) <= ROUNDING):
        yield _of_cost_alone(left, tells_tokens)
        return
    for cause, doubtful in ((Cause.INTERRUPTED, ours.interrupted), (Cause.ESTIMATED, ours.estimated)):
        if shares := _within(left, doubtful, counted_there=cause == Cause.ESTIMATED):
            yield Reason(cause, shares)
            left = _less(left, shares)
    if calls := left.get("requests" if "requests" in differences else "input_tokens", 0):
        shares = {name: value for name, value in left.items() if (value > 0) == (calls > 0)}
        yield Reason(Cause.MISSING_HERE if calls > 0 else Cause.MISSING_THERE, shares)
        left = _less(left, shares)
    if set(left) == {"cost"}:
        yield _of_cost_alone(left, tells_tokens)
    elif left:
        yield Reason(Cause.UNEXPLAINED, left)


def _of_cost_alone(left: dict[str, int], tells_tokens: bool) -> Reason:
    if abs(left["cost"]) <= ROUNDING:
        return Reason(Cause.ROUNDING, left)
    return Reason(Cause.PRICE if tells_tokens else Cause.PRICE_OR_TOKENS, left)


def _over_midnight(lines: list[Line]) -> tuple[Line, ...]:
    """Call by its name what is missing there on one day and, just as much, here on the next."""
    found = {(line.day, line.model): line for line in lines}
    for line in lines:
        missing = _share(line, Cause.MISSING_THERE)
        following = found.get((line.day + timedelta(days=1), line.model))
        if missing is None or following is None:
            continue
        surplus = _share(following, Cause.MISSING_HERE)
        if surplus is None:
            continue
        sums = {name: missing.get(name, 0) + surplus.get(name, 0) for name in {*missing, *surplus}}
        if any(left for name, left in sums.items() if name != "cost") or abs(sums.get("cost", 0)) > ROUNDING:
            continue
        key = (line.day, line.model)
        found[key] = _renamed(found[key], Cause.MISSING_THERE)
        found[following.day, line.model] = _renamed(following, Cause.MISSING_HERE)
    return tuple(found.values())


def _share(line: Line, cause: Cause) -> dict[str, int] | None:
    return next((reason.shares for reason in line.reasons if reason.cause == cause), None)


def _renamed(line: Line, cause: Cause) -> Line:
    reasons = [replace(one, cause=Cause.NEXT_DAY) if one.cause == cause else one for one in line.reasons]
    return replace(line, reasons=tuple(reasons))


def _within(left: dict[str, int], doubtful: Told, *, counted_there: bool) -> dict[str, int]:
    """Return what of the differences calls can have made whose figures may be wrong by no more than they are."""
    shares = {}
    for name, value in left.items():
        size = getattr(doubtful, name) or 0
        if name == "requests":  # the provider may not have counted it; that it counted two is no reason
            share = 0 if counted_there else -min(size, max(0, -value))
        else:
            share = max(-size, min(size, value))
        if share:
            shares[name] = share
    tokens = sum(value for name, value in shares.items() if name.endswith("_tokens") and name != "cached_tokens")
    if tokens * shares.get("cost", 0) < 0:  # fewer tokens do not cost more
        del shares["cost"]
    return shares


def _less(left: dict[str, int], shares: dict[str, int]) -> dict[str, int]:
    return {name: rest for name, value in left.items() if (rest := value - shares.get(name, 0))}


def _of(told: Told | None, name: str) -> int | None:
    value: int | None = None if told is None else getattr(told, name)
    return value


def _sum(all_told: list[Told], measures: tuple[str, ...]) -> Told:
    total = Told(**dict.fromkeys(measures, 0))
    for told in all_told:
        total.add(**told.only(measures))
    return total


def _causes(lines: tuple[Line, ...]) -> tuple[tuple[Cause, int, dict[str, int]], ...]:
    counts: dict[Cause, int] = defaultdict(int)
    shares: dict[Cause, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in lines:
        for reason in line.reasons:
            counts[reason.cause] += 1
            for name, value in reason.shares.items():
                shares[reason.cause][name] += value
    return tuple((cause, counts[cause], dict(shares[cause])) for cause in Cause if counts[cause])


def _notes(export: Export, by_model: bool) -> Iterator[str]:
    if export.has_more:
        yield "The file is one page of several (has_more): days at its end may be missing."
    if not by_model:
        yield "The file does not tell models, so days are compared as a whole: group by model, or by line item."
    if export.last >= timezone.now().astimezone(UTC).date():
        yield "The last day is not over: what was used since the export is missing there."
