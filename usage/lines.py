"""The lines of the journal: one JSON object each, ended by a newline, keys short because every call writes two.

Pure: no Django, no input or output. Times are µs since the epoch (UTC), money is picodollars, flags are 0 or 1.
"""

from datetime import UTC, datetime, timedelta
from operator import itemgetter
from types import NoneType
from typing import Any, Final, Literal, TypedDict, cast

import orjson

from usage import outcomes

SEAL: Final = b'{"k":"s"}\n'
BEGIN_PREFIX: Final = b'{"k":"b",'

BIGINT_MAX: Final = 2**63 - 1  # the widest column of both databases
LATEST_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z, the last moment a datetime can hold

Begin = TypedDict(
    "Begin",
    {
        "k": Literal["b"],  # always the first key: readers tell the kind from the line's first bytes
        "id": str,  # 32 hex digits of a UUID 7
        "at": int,  # admitted, µs
        "c": int,  # client
        "key": int | None,
        "p": int | None,  # provider
        "m": int | None,  # model
        "ep": str,  # endpoint
        "ask": str,  # model asked for
        "price": int | None,
        "in": int,  # input tokens, estimated
        "out": int,  # output tokens, estimated
        "cost": int,  # estimated
        "charge": int,  # estimated
        "st": int,  # stream
        "s": str | None,  # hex digest of the session
        "w": str | None,  # workflow
        "x": str | None,  # execution
        "env": str | None,
        "so": int,  # this call opened the session
    },
)

End = TypedDict(
    "End",
    {
        "k": Literal["e"],
        "id": str,
        "at": int,
        "c": int,
        "key": int | None,
        "p": int | None,
        "m": int | None,
        "ep": str,
        "ask": str,
        "srv": str | None,  # model served
        "price": int | None,
        "in": int,  # input tokens, cached, cache write and audio among them
        "cached": int,
        "cw": int,  # cache write
        "out": int,  # output tokens, reasoning and audio among them
        "reason": int,
        "ain": int,  # audio input
        "aout": int,  # audio output
        "cost": int,
        "charge": int,
        "est": int,  # the counts are ours, not the provider's
        "o": str,  # one of usage.outcomes
        "status": int,  # HTTP status sent; 0 when none is known
        "err": str | None,  # error code
        "ms": int,  # latency, µs
        "ttfb": int | None,  # to the first byte, µs
        "st": int,
        "s": str | None,
        "so": int,
        "w": str | None,
        "x": str | None,
        "env": str | None,
        "tier": str | None,  # service tier
        "end": int,  # settled, µs
        "prid": str | None,  # the provider's request id
        "ip": str | None,  # the caller's address
        "ua": str | None,  # the caller's user agent
    },
)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(us: int) -> datetime:
    """The UTC datetime of µs since the epoch."""
    return _EPOCH + timedelta(microseconds=us)


class BadLine(ValueError):
    """A complete line that is no line of the journal."""


def encode(line: Begin | End) -> bytes:
    """The line as bytes, newline included. Text that UTF-8 cannot hold is replaced: no end is lost for it."""
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        clean = {name: _storable(value) for name, value in line.items()}
        return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE)


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return min(value, BIGINT_MAX)
    return value


def parse(raw: bytes) -> Begin | End | None:
    """The begin or end in `raw` (newline stripped or not); None for a seal; BadLine for anything else.

    What it returns fits the columns: integers are in range, required texts are text, the outcome is known.
    """
    try:
        line = orjson.loads(raw)
    except ValueError as error:
        raise BadLine("not JSON") from error
    kind = line.get("k") if isinstance(line, dict) else None
    if kind == "e":
        for name in ("ms", "ttfb"):  # a clock set back during the call must not cost the record
            if isinstance(line.get(name), int):
                line[name] = max(0, line[name])
        if not _plainly_good(line):
            _check(line, _END_CHECKS)
        if line["o"] not in outcomes.ALL:
            raise BadLine(f"unknown outcome {line['o']!r}")
        return cast(End, line)
    if kind == "b":
        _check(line, _BEGIN_CHECKS)
        return cast(Begin, line)
    if kind == "s":
        return None
    raise BadLine("unknown kind of line")


def opening_session(line: bytes) -> bytes:
    """A begin's line, of the same length, in which the call has opened its session."""
    begin: Begin = orjson.loads(line)
    begin["so"] = 1
    return encode(begin)


def interrupted(begin: Begin, settled_us: int) -> End:
    """The end of a call that was open when its gateway died, at `settled_us`: the estimate, marked so."""
    settled = max(settled_us, begin["at"])
    return {
        "k": "e",
        "id": begin["id"],
        "at": begin["at"],
        "c": begin["c"],
        "key": begin["key"],
        "p": begin["p"],
        "m": begin["m"],
        "ep": begin["ep"],
        "ask": begin["ask"],
        "srv": None,
        "price": begin["price"],
        "in": begin["in"],
        "cached": 0,
        "cw": 0,
        "out": begin["out"],
        "reason": 0,
        "ain": 0,
        "aout": 0,
        "cost": begin["cost"],
        "charge": begin["charge"],
        "est": 1,
        "o": outcomes.INTERRUPTED,
        "status": 0,
        "err": None,
        "ms": settled - begin["at"],
        "ttfb": None,
        "st": begin["st"],
        "s": begin["s"],
        "so": begin["so"],
        "w": begin["w"],
        "x": begin["x"],
        "env": begin["env"],
        "tier": None,
        "end": settled,
        "prid": None,
        "ip": None,
        "ua": None,
    }


_Check = tuple[str, type, int, bool]  # name, type, greatest integer, may be null

_COMMON_CHECKS: Final[tuple[_Check, ...]] = (
    ("id", str, 0, False),
    ("at", int, LATEST_US, False),
    ("c", int, BIGINT_MAX, False),
    ("key", int, BIGINT_MAX, True),
    ("p", int, BIGINT_MAX, True),
    ("m", int, BIGINT_MAX, True),
    ("ep", str, 0, False),
    ("ask", str, 0, False),
    ("price", int, BIGINT_MAX, True),
    ("in", int, BIGINT_MAX, False),
    ("out", int, BIGINT_MAX, False),
    ("cost", int, BIGINT_MAX, False),
    ("charge", int, BIGINT_MAX, False),
    ("st", int, 1, False),
    ("s", str, 0, True),
    ("so", int, 1, False),
    ("w", str, 0, True),
    ("x", str, 0, True),
    ("env", str, 0, True),
)
_BEGIN_CHECKS: Final = _COMMON_CHECKS
_END_CHECKS: Final[tuple[_Check, ...]] = (
    *_COMMON_CHECKS,
    ("srv", str, 0, True),
    ("cached", int, BIGINT_MAX, False),
    ("cw", int, BIGINT_MAX, False),
    ("reason", int, BIGINT_MAX, False),
    ("ain", int, BIGINT_MAX, False),
    ("aout", int, BIGINT_MAX, False),
    ("est", int, 1, False),
    ("o", str, 0, False),
    ("status", int, 999, False),
    ("err", str, 0, True),
    ("ms", int, BIGINT_MAX, False),
    ("ttfb", int, BIGINT_MAX, True),
    ("tier", str, 0, True),
    ("end", int, LATEST_US, False),
    ("prid", str, 0, True),
    ("ip", str, 0, True),
    ("ua", str, 0, True),
)
_HEX: Final = frozenset("0123456789abcdef")


_required_integers: Final = itemgetter(
    *(name for name, kind, _, nullable in _END_CHECKS if kind is int and not nullable)
)
_texts: Final = itemgetter(*(name for name, kind, _, _ in _END_CHECKS if kind is str))
_optional_integers: Final = itemgetter(*(name for name, kind, _, nullable in _END_CHECKS if kind is int and nullable))
_required_texts: Final = itemgetter(*(name for name, kind, _, nullable in _END_CHECKS if kind is str and not nullable))


def _plainly_good(line: dict[str, Any]) -> bool:
    """Whether an end passes _check at first sight, as nearly all do, in a third of the time; False if in doubt."""
    try:
        integers = _required_integers(line)
        texts = _texts(line)
        optional = [value for value in _optional_integers(line) if value is not None]
    except KeyError:
        return False
    return (
        {*map(type, integers), *map(type, optional)} == {int}
        and {*map(type, texts)} <= {str, NoneType}
        and None not in _required_texts(line)
        and min(integers) >= 0
        and max(integers) <= BIGINT_MAX
        and (not optional or (min(optional) >= 0 and max(optional) <= BIGINT_MAX))
        and line["at"] <= LATEST_US
        and line["end"] <= LATEST_US
        and line["status"] <= 999
        and max(line["st"], line["so"], line["est"]) <= 1
        and len(line["id"]) == 32
        and _HEX.issuperset(line["id"])
    )


def _check(line: dict[str, Any], checks: tuple[_Check, ...]) -> None:
    for name, kind, greatest, nullable in checks:
        value = line.setdefault(name, None)
        if value is None:
            if not nullable:
                raise BadLine(f"{name} is missing")
        elif not isinstance(value, kind):
            raise BadLine(f"{name} is {type(value).__name__}")
        elif isinstance(value, int) and not 0 <= value <= greatest:
            raise BadLine(f"{name} is out of range")
    if len(line["id"]) != 32 or not _HEX.issuperset(line["id"]):
        raise BadLine("id is not 32 hex digits")
