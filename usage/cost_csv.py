"""The cost report as a file: RFC 4180, one header line, plain numbers; docs/finance.md says what the columns mean.

Spreadsheets and parsers both take the first line for the header, so range and zone are columns, not lines above it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from clients.spreadsheet import BOM, Value, disarmed, plain_lines
from pricing.money import format_dollars
from usage.costs import Question, Row, rows

COLUMNS: Final = (
    *("requests", "input_tokens", "cached_tokens", "output_tokens", "cost_usd", "charge_usd", "margin_usd"),
    *("cache_write_tokens", "audio_input_tokens", "reasoning_tokens", "audio_output_tokens"),
    *("sessions", "estimated_requests", "uncounted_requests", "from", "to", "zone"),
)
_BLOCK = 500  # rows handed over at once


@dataclass(frozen=True, slots=True)
class Form:
    """How the file is written."""

    bom: bool = False
    """Begin with a byte order mark, without which Excel reads UTF-8 as something else."""
    decimal_comma: bool = False
    """Numbers as 0,5 and `;` between columns, as spreadsheets of most of Europe read them."""


def text(question: Question, form: Form = Form()) -> Iterator[str]:
    """Yield the file in pieces: the header at once, then rows as the database gives them."""
    lines = plain_lines(_cells(question, form), ";" if form.decimal_comma else ",")
    yield (BOM if form.bom else "") + next(lines)
    while block := "".join(islice(lines, _BLOCK)):
        yield block


def file_name(question: Question) -> str:
    """Return a name that says what is in the file: costs-by-client-2026-01-01-to-2026-01-31-Europe-Berlin.csv."""
    zone = ZoneInfo(question.zone)
    first = question.start.astimezone(zone).date()
    last = (question.end - timedelta(microseconds=1)).astimezone(zone).date()
    by = f"by-{'-'.join(question.group_by)}" if question.group_by else "in-all"
    return f"costs-{by}-{first}-to-{last}-{question.zone.replace('/', '-')}.csv"


def _cells(question: Question, form: Form) -> Iterator[Sequence[Value]]:
    yield (*question.group_by, *COLUMNS)
    zone = ZoneInfo(question.zone)
    about = (question.start.astimezone(zone).isoformat(), question.end.astimezone(zone).isoformat(), question.zone)
    for row in rows(question):
        yield (*map(disarmed, row.groups), *_numbers(row, form), *about)


def _numbers(row: Row, form: Form) -> Iterator[str | int]:
    yield from (row.requests, row.input_tokens, row.cached_tokens, row.output_tokens)
    for money in (row.cost, row.charge, row.margin):
        plain = format_dollars(money)
        yield plain.replace(".", ",") if form.decimal_comma else plain
    yield from (row.cache_write_tokens, row.audio_input_tokens, row.reasoning_tokens, row.audio_output_tokens)
    yield from (row.sessions, row.estimated_requests, row.uncounted_requests)
