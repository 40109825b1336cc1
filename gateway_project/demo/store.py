"""Records by the million, straight into the table: rows of values for SQLite, lines of COPY for PostgreSQL.

Only for calls that are made up. What really happened is written by `usage.ingest`, which survives being killed.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from django.db import OperationalError, connection

from gateway_project.demo.calls import SECOND, Call
from gateway_project.demo.fates import FIXED
from usage.models import UsageRecord

_VARYING: Final = (
    "request_id", "admitted_at", "settled_at", "latency_us", "first_byte_us", "session", "session_opened", "execution",
    "provider_request_id",
)  # fmt: skip
_BY_NAME: Final = {column.name: column for column in UsageRecord._meta.concrete_fields}
_TABLE: Final = UsageRecord._meta.db_table
_COLUMNS: Final = ", ".join(f'"{_BY_NAME[name].column}"' for name in (*_VARYING, *FIXED))
_TIMES: Final = [
    f" {hour:02}:{minute:02}:{second:02}." for hour in range(24) for minute in range(60) for second in range(60)
]
_SECONDS_OF_DAY: Final = len(_TIMES)
_ROWS: Final = 20_000  # at a time
_NULL: Final = "\\N"
_SPREAD: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd: makes 128 bits that look random of 74


class Store(Protocol):
    """Where records go, within the transaction that is open."""

    def encode(self, values: tuple[object, ...]) -> object:
        """Return what of the FIXED values can be prepared once for many records."""

    def write(self, calls: Sequence[Call]) -> None:
        """Write the records of `calls`."""


def store() -> Store:
    """Return the one for the default database."""
    return _SQLiteStore() if connection.vendor == "sqlite" else _PostgreSQLStore()


@contextmanager
def alone() -> Iterator[None]:
    """Have SQLite keep what it overwrites instead of what is new, while one large transaction fills an empty file.

    So each page is written once, and a fill that is cut short leaves nothing behind. Raises OperationalError where
    anything else has the database open. PostgreSQL needs nothing of the kind.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite" or connection.in_atomic_block or _journal_mode(cursor, "") != "wal":
            yield
            return
        if _journal_mode(cursor, "= DELETE") != "delete":
            raise OperationalError("database is locked")
        cursor.execute("PRAGMA cache_size = -131072")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            _journal_mode(cursor, "= WAL")
        connection.close()  # with what was set here


def _journal_mode(cursor: Any, change: str) -> str:
    cursor.execute(f"PRAGMA journal_mode {change}")
    return str(cursor.fetchone()[0])


class _Days:
    """µs since the epoch as text, the date made once a day."""

    def __init__(self) -> None:
        self._dates: dict[int, str] = {}

    def text(self, moment: int) -> str:
        second, micro = divmod(moment, SECOND)
        day, second = divmod(second, _SECONDS_OF_DAY)
        date = self._dates.get(day)
        if date is None:
            date = self._dates[day] = f"{datetime.fromtimestamp(day * _SECONDS_OF_DAY, UTC):%Y-%m-%d}"
        return f"{date}{_TIMES[second]}{micro:06}"


def _id(call: Call) -> str:
    """A UUID version 7 of the call's µs and its noise: ids sort as admissions do (RFC 9562, section 6.2, method 3)."""
    millisecond, micro = divmod(call.at, 1000)
    noise = call.noise
    return f"{millisecond << 16 | 0x7000 | micro << 2 | noise >> 72:016x}{1 << 63 | noise & 0x3FFF_FFFF_FFFF_FFFF:016x}"


def _provider_id(call: Call) -> str:
    return f"req_{call.noise * _SPREAD & (1 << 128) - 1:032x}" if call.template.reached else ""


class _SQLiteStore:
    def __init__(self) -> None:
        marks = ", ".join("?" * (len(_VARYING) + len(FIXED)))
        self._sql = f'INSERT INTO "{_TABLE}" ({_COLUMNS}) VALUES ({marks})'  # noqa: S608 - names of ours
        self._text = _Days().text

    def encode(self, values: tuple[object, ...]) -> object:
        return values

    def write(self, calls: Sequence[Call]) -> None:
        # The driver's own cursor: with DEBUG on, Django's would keep every statement.
        with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
            for at in range(0, len(calls), _ROWS):
                cursor.executemany(self._sql, [self._row(call) for call in calls[at : at + _ROWS]])

    def _row(self, call: Call) -> tuple[Any, ...]:
        at, _, latency, jitter, template, execution, session, opened = call
        first = template.first_byte_us
        return (
            _id(call),
            self._text(at),
            self._text(at + latency),
            latency,
            None if first is None else first + jitter,
            session if template.read else "",
            opened,
            str(execution) if template.read else "",
            _provider_id(call),
            *template.tail,  # type: ignore[misc]  # as `encode` made it
        )


class _PostgreSQLStore:
    def __init__(self) -> None:
        self._text = _Days().text

    def encode(self, values: tuple[object, ...]) -> object:
        return "\t".join(_copied(value) for value in values) + "\n"

    def write(self, calls: Sequence[Call]) -> None:
        statement = f'COPY "{_TABLE}" ({_COLUMNS}) FROM STDIN'
        with (
            connection.wrap_database_errors,
            closing(connection.connection.cursor()) as cursor,
            cursor.copy(statement) as copy,
        ):
            for at in range(0, len(calls), _ROWS):
                copy.write("".join([self._line(call) for call in calls[at : at + _ROWS]]))

    def _line(self, call: Call) -> str:
        at, _, latency, jitter, template, execution, session, opened = call
        first = template.first_byte_us
        return (
            f"{_id(call)}\t{self._text(at)}+00\t{self._text(at + latency)}+00\t{latency}\t"
            f"{_NULL if first is None else first + jitter}\t{session if template.read else ''}\t"
            f"{'t' if opened else 'f'}\t{execution if template.read else ''}\t{_provider_id(call)}\t{template.tail}"
        )


def _copied(value: object) -> str:
    """A value in COPY's text format."""
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
