"""Records by the million, straight into the table: rows of values for SQLite, lines of COPY for PostgreSQL.

Only for calls that are made up. What really happened is written by `usage.ingest`, which survives being killed.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from django.db import IntegrityError, OperationalError, connection
from django.db.models import CheckConstraint, Q

from gateway_project.demo.calls import SECOND, Call
from gateway_project.demo.fates import FIXED
from usage.models import UsageRecord

_BY_NAME: Final = {column.name: column for column in UsageRecord._meta.concrete_fields}
_TABLE: Final = UsageRecord._meta.db_table
_TIMES: Final = [
    f" {hour:02}:{minute:02}:{second:02}." for hour in range(24) for minute in range(60) for second in range(60)
]
_SECONDS_OF_DAY: Final = len(_TIMES)
_ROWS: Final = 10_000  # at a time
_LOW_128: Final = (1 << 128) - 1
_NULL: Final = "\\N"
_SPREAD: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd: makes 128 bits that look random of 74


class Store(Protocol):
    """Where records go, within the transaction that is open."""

    def encode(self, values: tuple[object, ...]) -> object:
        """Return what of the FIXED values can be prepared once for many records."""

    def write(self, calls: Sequence[Call]) -> None:
        """Write the records of `calls`."""

    def check(self) -> None:
        """Raise IntegrityError unless all records keep the constraints of their table. To be called last."""


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


# What of a record is each call's own, times as text: the first fields of a row
_OWN: Final = (
    "request_id", "admitted_at", "settled_at", "latency_us", "first_byte_us", "session", "session_opened", "execution",
    "provider_request_id",
)  # fmt: skip
_Own = tuple[str, str, str, int, int | None, str, bool, str, str]
_COLUMNS: Final = ", ".join(f'"{_BY_NAME[name].column}"' for name in (*_OWN, *FIXED))


class _Texts:
    """Calls as what their records say. Made for each of millions of them, so all of it is in one place."""

    def __init__(self) -> None:
        self._dates: dict[int, str] = {}

    def of(self, calls: Sequence[Call]) -> Iterator[tuple[_Own, object]]:
        """Yield what is each call's own, in the order of _OWN, and its template's tail.

        Ids are UUIDs of version 7 that hold the call's µs, so they sort as admissions do (RFC 9562, section 6.2,
        method 3).
        """
        dates = self._dates
        for at, noise, latency, jitter, template, execution, session, opened in calls:
            second, micro = divmod(at, SECOND)
            settled, settled_micro = divmod(at + latency, SECOND)
            day, second_of_day = divmod(second, _SECONDS_OF_DAY)
            settled_day, settled_second = divmod(settled, _SECONDS_OF_DAY)
            if settled_day not in dates:
                for number in (day, settled_day):
                    dates[number] = f"{datetime.fromtimestamp(number * _SECONDS_OF_DAY, UTC):%Y-%m-%d}"
            first = template.first_byte_us
            yield (
                (
                    f"{at // 1000 << 16 | 0x7000 | micro % 1000 << 2 | noise >> 72:016x}"
                    f"{1 << 63 | noise & 0x3FFF_FFFF_FFFF_FFFF:016x}",
                    f"{dates[day]}{_TIMES[second_of_day]}{micro:06}",
                    f"{dates[settled_day]}{_TIMES[settled_second]}{settled_micro:06}",
                    latency,
                    None if first is None else first + jitter,
                    session if template.read else "",
                    opened,
                    str(execution) if template.read else "",
                    f"req_{noise * _SPREAD & _LOW_128:032x}" if template.reached else "",
                ),
                template.tail,
            )


class _SQLiteStore:
    def __init__(self) -> None:
        marks = ", ".join("?" * (len(_OWN) + len(FIXED)))
        self._sql = f'INSERT INTO "{_TABLE}" ({_COLUMNS}) VALUES ({marks})'  # noqa: S608 - names of ours
        self._texts = _Texts()

    def encode(self, values: tuple[object, ...]) -> object:
        return values

    def write(self, calls: Sequence[Call]) -> None:
        # The driver's own cursor: with DEBUG on, Django's would keep every statement.
        with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
            # Row by row they take a third of the time; `check` asks for all of them at once.
            cursor.execute("PRAGMA ignore_check_constraints = ON")
            for at in range(0, len(calls), _ROWS):
                of = self._texts.of(calls[at : at + _ROWS])
                cursor.executemany(self._sql, [own + cast(tuple[object, ...], tail) for own, tail in of])
            cursor.execute("PRAGMA ignore_check_constraints = OFF")

    def check(self) -> None:
        kept = Q(*(one.condition for one in UsageRecord._meta.constraints if isinstance(one, CheckConstraint)))
        if UsageRecord.objects.filter(~kept).exists():
            raise IntegrityError("A record breaks a constraint of its table.")


class _PostgreSQLStore:
    def __init__(self) -> None:
        self._texts = _Texts()

    def encode(self, values: tuple[object, ...]) -> object:
        return "".join(f"\t{_copied(value)}" for value in values) + "\n"

    def write(self, calls: Sequence[Call]) -> None:
        statement = f'COPY "{_TABLE}" ({_COLUMNS}) FROM STDIN'
        with (
            connection.wrap_database_errors,
            closing(connection.connection.cursor()) as cursor,
            cursor.copy(statement) as copy,
        ):
            for at in range(0, len(calls), _ROWS):
                copy.write("".join([_line(own, tail) for own, tail in self._texts.of(calls[at : at + _ROWS])]))

    def check(self) -> None:
        """COPY has checked every row."""


def _line(own: _Own, tail: object) -> str:
    request_id, admitted, settled, latency, first, session, opened, execution, provider_id = own
    return (
        f"{request_id}\t{admitted}+00\t{settled}+00\t{latency}\t{_NULL if first is None else first}\t{session}\t"
        f"{'t' if opened else 'f'}\t{execution}\t{provider_id}{tail}"
    )


def _copied(value: object) -> str:
    """A value in COPY's text format."""
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
