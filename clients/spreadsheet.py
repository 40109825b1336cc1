"""CSV that spreadsheets open without running anything in it: RFC 4180, every text quoted, formulas disarmed."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

Value = str | int | Decimal

BOM: Final = "\ufeff"
"""At the start of a file: without it Excel reads UTF-8 as something else."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Echo:
    """A file that hands back what is written to it, so that lines can be sent as they are made."""

    def write(self, line: str) -> str:
        return line


class _Plain(Decimal):
    """A number that is written with all its digits: no spreadsheet of another language has to know what 1E-12 is."""

    def __str__(self) -> str:
        return format(self, "f")


def lines(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> Iterator[str]:
    """Yield the lines of the file, the byte order mark and the header first.

    Text that a spreadsheet would take for a formula gets an apostrophe in front (as OWASP has it), numbers do not.
    """
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    yield BOM + writer.writerow(header)
    for row in rows:
        yield writer.writerow([_Plain(value) if isinstance(value, Decimal) else disarmed(value) for value in row])


def plain_lines(rows: Iterable[Sequence[Value]], delimiter: str = ",") -> Iterator[str]:
    """Yield a line for each row as it is: quoted where it must be, with nothing in front, and nothing disarmed."""
    writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")
    return map(writer.writerow, rows)


def disarmed(value: Value) -> Value:
    """Return `value`, behind an apostrophe where it is text that a spreadsheet would run."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value
