"""Many clients from a CSV file: read and judged whole, then made, all or none."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from clients.markup import parse_markup
from clients.models import Client, Limit, Plan
from clients.onboarding import limits_of
from clients.plans import terms

LARGEST: Final = 5 * 1024 * 1024
"""Bytes of a file."""
MOST_CLIENTS: Final = 10_000
MOST_PROBLEMS: Final = 200
"""How many are told; the others are counted."""
COLUMNS: Final = (
    *("name", "email", "company", "phone", "plan"),
    *("markup", "time_zone", "cycle_start_day", "notes", "limits"),
)
"""All that a file may have, in any order. Only `name` must be there; an empty cell means what a new client has."""

_TEXTS: Final = ("name", "email", "company", "phone", "time_zone", "notes")
_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_BINARIES: Final = (b"PK\x03\x04", b"%PDF", b"\xd0\xcf\x11\xe0")  # a workbook, a document, an old workbook
_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_AS_EXCEL_SAYS: Final = "In Excel choose “CSV UTF-8 (Comma delimited)” when saving; in other programs UTF-8 and commas."


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong where. `line` is 0 where it is the file as a whole, `column` empty where it is the line."""

    line: int
    column: str
    message: str

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line else []
        return ", ".join([*place, *([self.column] if self.column else [])]) + (": " if place else "") + self.message


@dataclass(frozen=True, slots=True)
class Row:
    """A client to be made, not yet saved, and its limits."""

    line: int
    client: Client
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file would make, and what stands in the way."""

    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    untold: int
    """How many problems there are beyond those in `problems`."""


def read(data: bytes) -> Preview:
    """Return what a CSV file would make. Never raises: whatever is wrong with it is among the problems, in words.

    Lines are numbered as an editor does. A formula is text like any other here; exports disarm it.
    """
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        records = _records(_text(data))
        header = _header(next(records, (1, []))[1])
        plans = {plan.name: plan for plan in Plan.objects.prefetch_related("limits")}
        taken = dict.fromkeys(Client.objects.values_list("name", flat=True), 0)
        for line, cells in records:
            found = list(_judge(line, cells, header, plans, taken))
            problems += [item for item in found if isinstance(item, Problem)]
            rows += [item for item in found if isinstance(item, Row)]
        if not rows and not problems:
            raise _Unreadable("There is a header, but no client below it.")
    except _Unreadable as refusal:
        problems.append(refusal.problem)
    return Preview(tuple(rows), tuple(problems[:MOST_PROBLEMS]), max(0, len(problems) - MOST_PROBLEMS))


def commit(preview: Preview, owner: AbstractBaseUser | None = None) -> list[Client]:
    """Make all clients of a preview without problems, in one transaction, and return them.

    Raises ValidationError, and makes none, where there are problems or a name has been taken since it was read.
    """
    if preview.problems or not preview.rows:
        raise ValidationError("Nothing was imported: mend what is listed first.")
    clients = [row.client for row in preview.rows]
    for client in clients:
        client.owner = owner  # type: ignore[assignment]  # the user model is the project's own
    try:
        with transaction.atomic():
            Client.objects.bulk_create(clients)
            for row in preview.rows:
                for limit in row.limits:
                    limit.client = row.client
            Limit.objects.bulk_create(limit for row in preview.rows for limit in row.limits)
    except IntegrityError as error:
        raise ValidationError(
            "Nothing was imported: meanwhile a client of the same name was made or a plan was deleted. "
            "Send the file again to see which."
        ) from error
    return clients


class _Unreadable(Exception):
    """The file, or the rest of it, can't be read."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.problem = Problem(line, "", message)


def _text(data: bytes) -> str:
    if len(data) > LARGEST:
        raise _Unreadable(f"The file is larger than {LARGEST // 2**20} MB: import it in parts.")
    if not data.strip():
        raise _Unreadable("The file is empty.")
    nulls = (data[:4096:2].count(0), data[1:4096:2].count(0))
    if data.startswith(_BOMS) or ((nulls[0] == 0) != (nulls[1] == 0) and not data.startswith(_BINARIES)):
        raise _Unreadable(f"The file is UTF-16, not UTF-8. {_AS_EXCEL_SAYS}")
    if data.startswith(_BINARIES) or b"\0" in data:
        raise _Unreadable(f"This is no CSV but a workbook or another binary file. {_AS_EXCEL_SAYS}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Unreadable(f"This line is not UTF-8. {_AS_EXCEL_SAYS}", line) from error


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not blank with the number of the line on which it starts."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    count, line = 0, 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if count > MOST_CLIENTS:  # the header is one of the records
                    raise _Unreadable(f"A file holds {MOST_CLIENTS:,} clients at most: import it in parts.", line)
                count += 1
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        if "field larger" in str(error):
            raise _Unreadable("A value from this line on is too long; is a closing quote missing?", line) from error
        raise _Unreadable(
            f"The quotes don't match ({error}): a value that holds quotes or commas is put in quotes, and a quote "
            "within it is doubled.",
            line,
        ) from error


def _header(cells: list[str]) -> list[str]:
    names = [cell.lower().replace(" ", "_") for cell in cells]
    if len(cells) == 1:
        for separator, noun in _SEPARATORS.items():
            if separator in cells[0]:
                raise _Unreadable(f"The columns are separated by {noun}, not by commas. {_AS_EXCEL_SAYS}", 1)
    if "name" not in names:
        raise _Unreadable(
            f"There is no column “name”: the first line names the columns, which can be {', '.join(COLUMNS)}.", 1
        )
    for number, name in enumerate(names):
        if name not in COLUMNS:
            raise _Unreadable(f"The column “{cells[number][:60]}” is unknown: there are {', '.join(COLUMNS)}.", 1)
        if name in names[:number]:
            raise _Unreadable(f"There are two columns “{name}”.", 1)
    return names


def _judge(
    line: int, cells: list[str], header: list[str], plans: dict[str, Plan], taken: dict[str, int]
) -> Iterator[Problem | Row]:
    """Yield the problems of a record, or its row. `taken`: who has a name, 0 a client, else the line that takes it."""
    if len(cells) != len(header):
        yield Problem(
            line, "", f"{len(cells)} values for {len(header)} columns: a value that holds a comma is put in quotes."
        )
        return
    cell = dict(zip(header, cells, strict=True))
    problems: list[Problem] = []

    def take(column: str, parse: Any, blank: Any) -> Any:
        try:
            return parse(cell[column]) if cell.get(column) else blank
        except ValidationError as error:
            problems.extend(Problem(line, column, message) for message in error.messages)
            return blank

    plan: Plan | None = take("plan", lambda name: _plan(name, plans), None)
    profile: dict[str, Any] = {column: cell[column] for column in _TEXTS if cell.get(column)}
    client = Client(
        **profile,
        plan=plan,
        plan_terms=terms(plan) if plan else "",
        markup_bp=take("markup", parse_markup, plan.markup_bp if plan else 0),
        cycle_start_day=take("cycle_start_day", _day, 1),
    )
    limits = take("limits", lambda text: limits_of(plan, _parts(text)), limits_of(plan, ()))
    try:
        client.clean_fields(exclude={"plan"})  # which was looked up; to ask again takes a query a client
    except ValidationError as error:
        problems += [
            Problem(line, "markup" if field == "markup_bp" else field, message)
            for field, messages in error.message_dict.items()
            for message in messages
        ]
    if client.name in taken:
        before = taken[client.name]
        problems.append(
            Problem(line, "name", f"Line {before} has this name too." if before else "There is a client of this name.")
        )
    elif client.name:
        taken[client.name] = line
    if problems:
        yield from problems
    else:
        yield Row(line, client, tuple(limits))


def _plan(name: str, plans: dict[str, Plan]) -> Plan:
    if name not in plans:
        known = ", ".join(list(plans)[:20]) or "none yet"
        raise ValidationError(f"There is no plan {name[:100]!r}; there are: {known}.")
    return plans[name]


def _day(text: str) -> int:
    if not re.fullmatch("[0-9]{1,2}", text):
        raise ValidationError(f"A start day is a number from 1 to 31, not {text[:20]!r}.")
    return int(text)


def _parts(text: str) -> list[str]:
    return [part for part in text.split(";") if part.strip()]
