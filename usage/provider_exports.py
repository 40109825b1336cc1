"""Reads what OpenAI itself says was used, or was to be paid: exports of its dashboard, answers of its API.

Known are, as of November 2026: CSV of the dashboard's usage page (activity and cost data, also with tabs), and JSON of
`GET /v1/organization/usage/…` and `/v1/organization/costs`. Days are days of UTC, as OpenAI's are. Whatever else it is
refused, line by line, in words.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NoReturn

from django.core.exceptions import ValidationError

from clients.names import no_control_characters
from pricing.money import PICO

LARGEST: Final = 20 * 1024 * 1024
"""Bytes of a file."""
MOST_LINES: Final = 200_000
MOST_CELLS: Final = 20_000  # pairs of a day and a model
MOST_DAYS: Final = 400
MOST_PROBLEMS: Final = 20
"""How many are told; the others are counted."""
MEASURES: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost")
"""What may be told of a day and a model; cost in picodollars."""

_BUCKET: Final = ("start_time", "end_time", "start_time_iso", "end_time_iso")
_USAGE: Final = ("start_time", "num_model_requests", "model", "input_tokens")
_COSTS: Final = ("start_time", "amount_value", "amount_currency")
_FIGURES: Final = (
    *("num_model_requests", "input_tokens", "output_tokens"),
    *("amount_value", "amount_currency", "line_item", "quantity"),
)
_COUNT: Final = re.compile(r"(\d{1,15})(?:\.0{1,30})?", re.ASCII)  # the dashboard writes 3.0 calls
_AMOUNT: Final = re.compile(r"-?\d{1,9}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_EARLIEST, _LATEST = datetime(2015, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_BINARIES: Final = (b"PK\x03\x04", b"%PDF", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")
_WHERE: Final = "Export it anew on OpenAI's usage page, or take the answer of its API, and leave it as it is."


@dataclass(slots=True)
class Told:
    """What was told of one day and one model; None is what the file does not tell."""

    requests: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost: int | None = None

    def add(self, **more: int | None) -> None:
        """Add what is told."""
        for name, value in more.items():
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)

    def only(self, measures: Iterable[str]) -> dict[str, int | None]:
        """Return what is told of some measures, by name."""
        return {name: getattr(self, name) for name in measures}


@dataclass(slots=True)
class Export:
    """A file, read: what it tells by day and by the provider's name of the model, '' where it tells none."""

    first: date
    last: date
    cells: dict[tuple[date, str], Told] = field(default_factory=dict)
    has_more: bool = False
    """It is one page of several."""

    def add(self, day: date, model: str, told: Mapping[str, int | None]) -> None:
        """Add to a cell. Raises ValidationError where the file has too many."""
        cell = self.cells.get((day, model))
        if cell is None:
            if len(self.cells) >= MOST_CELLS:
                raise ValidationError(
                    f"The file has more than {MOST_CELLS:,} pairs of day and model: export it in parts."
                )
            cell = self.cells[day, model] = Told()
        cell.add(**told)


def read(data: bytes) -> Export:
    """Return what a file tells. Raises ValidationError, with a message for each line that is wrong."""
    text = _text(data)
    reading = _Reading()
    if text.lstrip()[:1] in ("{", "["):
        _read_json(text, reading)
    else:
        _read_csv(text, reading)
    return reading.export()


def merged(exports: list[Export]) -> Export:
    """Return files of the same days as one. Raises ValidationError where they tell the same twice."""
    whole = Export(min(one.first for one in exports), max(one.last for one in exports))
    if any((one.first, one.last) != (whole.first, whole.last) for one in exports):
        raise ValidationError("The files are about different days: export both for the same.")
    usage = [one for one in exports if _tells(one, "requests")]
    costs = [one for one in exports if _tells(one, "cost")]
    if len(usage) > 1 or len(costs) > 1:
        raise ValidationError("The files tell the same twice: load one of usage, and one of costs.")
    for one in exports:
        whole.has_more |= one.has_more
        # Costs may tell tokens as well, by what they are billed for; usage tells them once and for all
        told_here = ("cost",) if usage and one not in usage else MEASURES
        for (day, model), told in one.cells.items():
            whole.add(day, model, told.only(told_here))
    return whole


def _tells(export: Export, measure: str) -> bool:
    return any(getattr(told, measure) is not None for told in export.cells.values())


class _Wrong(Exception):
    """Something is wrong with one line."""


class _Reading:
    """A file being read: what it has told so far, and what is wrong with it."""

    def __init__(self) -> None:
        self._export: Export | None = None
        self._problems: list[str] = []
        self._untold = 0
        self.has_more = False

    def bucket(self, start: Any, end: Any) -> date:
        """Note a bucket, and return its day."""
        began = _moment(start, "start_time")
        ended = began + timedelta(days=1) if _is_empty(end) else _moment(end, "end_time")
        day = began.date()
        if not began < ended:
            raise _Wrong("end_time is not after start_time")
        if (ended - timedelta(seconds=1)).date() != day:
            raise _Wrong("start_time and end_time are of different days of UTC: export it by day, or by less")
        if self._export is None:
            self._export = Export(day, day)
        self._export.first, self._export.last = min(self._export.first, day), max(self._export.last, day)
        return day

    def add(self, day: date, model: str, told: Mapping[str, int | None]) -> None:
        """Add what a line tells."""
        assert self._export is not None
        self._export.add(day, model, told)

    def wrong(self, where: str, what: str) -> None:
        """Note what is wrong."""
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(f"{where}: {what}.")
        else:
            self._untold += 1

    def export(self) -> Export:
        """Return all of it. Raises ValidationError."""
        if self._problems:
            more = [f"And {self._untold:,} more."] if self._untold else []
            raise ValidationError([*self._problems, *more])
        if self._export is None:
            _refuse("There is no usage in the file: not one day.")
        if self._export.last - self._export.first > timedelta(days=MOST_DAYS):
            _refuse(f"The file is about more than {MOST_DAYS} days: export it in parts.")
        self._export.has_more = self.has_more
        return self._export


def _read_csv(text: str, reading: _Reading) -> None:
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = _rows(text, delimiter)
    _, header = next(rows, (0, []))
    header = [name.strip().lower() for name in header]
    kind = _kind(header)
    if len(set(header)) != len(header):
        _refuse("A column is named twice in the first line.")
    for line, cells in rows:
        if line > MOST_LINES:
            _refuse(f"The file has more than {MOST_LINES:,} lines: export it in parts, or by day.")
        try:
            if len(cells) != len(header):
                raise _Wrong(f"has {len(cells)} cells where the first line has {len(header)}")
            row = dict(zip(header, cells, strict=True))
            day = reading.bucket(row["start_time"], row.get("end_time"))
            if all(_is_empty(row.get(name)) for name in _FIGURES):
                continue  # a day without usage
            if kind == "costs":
                told, item = _cost(row["amount_value"], row["amount_currency"]), row.get("line_item", "")
                if row.get("quantity_unit", "").strip().lower() == "tokens":
                    told |= _tokens_of(item, row.get("quantity", ""))
                reading.add(day, _model_of(item), told)
            else:
                reading.add(day, _name(row["model"]), _usage(row))
        except _Wrong as error:
            reading.wrong(f"Line {line}", str(error))


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValidationError(f"Line {reader.line_num} is no CSV: {error}. {_WHERE}") from error


def _kind(header: list[str]) -> str:
    """Return 'usage' or 'costs', by the columns. Raises ValidationError."""
    if header and set(header) <= set(_BUCKET) and "start_time" in header:
        return "usage"  # exported of days without any
    if "amount_value" in header:
        kind, needed = "costs", list(_COSTS)
    elif "num_model_requests" in header or "input_tokens" in header:
        kind, needed = "usage", list(_USAGE)
    else:
        _refuse(
            "These are not the columns of OpenAI's exports, of usage (start_time, num_model_requests, model, "
            f"input_tokens, …) or of costs (start_time, amount_value, amount_currency, line_item, …). {_WHERE}"
        )
    missing = [name for name in needed if name not in header]
    if missing:
        hint = " Choose “group by model” when exporting." if missing == ["model"] else f" {_WHERE}"
        _refuse(f"The column{'s'[: len(missing) != 1]} {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
                f"missing.{hint}")  # fmt: skip
    return kind


def _read_json(text: str, reading: _Reading) -> None:
    try:
        # Numbers as they are written: floats would lose digits of money, and a long integer takes for ever
        whole = json.loads(text, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except RecursionError:
        _refuse(f"The JSON is nested too deep. {_WHERE}")
    except ValueError as error:
        raise ValidationError(f"The file is no JSON: {str(error)[:200]}. {_WHERE}") from error
    count = 0
    for number, bucket in enumerate(_buckets(whole, reading), start=1):
        results = bucket.get("results", bucket.get("result"))
        if not isinstance(results, list):
            _refuse(f"Bucket {number} has no list of results. {_WHERE}")
        try:
            day = reading.bucket(bucket.get("start_time"), bucket.get("end_time"))
        except _Wrong as error:
            reading.wrong(f"Bucket {number}", str(error))
            continue
        for at, result in enumerate(results, start=1):
            count += 1
            if count > MOST_LINES:
                _refuse(f"The file has more than {MOST_LINES:,} results: export it in parts, or by day.")
            try:
                _read_result(result, day, reading)
            except _Wrong as error:
                reading.wrong(f"Bucket {number}, result {at}", str(error))


def _buckets(whole: Any, reading: _Reading) -> Iterator[dict[str, Any]]:
    """Yield the buckets of a page, of a list of pages, or of a list of buckets. Raises ValidationError."""
    pages = whole if isinstance(whole, list) else [whole]
    for at, page in enumerate(pages):
        if not isinstance(page, dict):
            _refuse(f"The JSON has no buckets where OpenAI's answers have them. {_WHERE}")
        if "error" in page:
            _refuse("The file is an error that OpenAI answered, not usage: ask again with an admin key.")
        if "data" not in page and ("results" in page or "result" in page):
            yield page
            continue
        data = page.get("data")
        if not isinstance(data, list) or not all(isinstance(bucket, dict) for bucket in data):
            _refuse(f"The JSON has no list of buckets under “data”. {_WHERE}")
        if at == len(pages) - 1:
            reading.has_more = page.get("has_more") is True
        yield from data


def _read_result(result: Any, day: date, reading: _Reading) -> None:
    if not isinstance(result, dict):
        raise _Wrong("is no object")
    if "amount" in result:
        amount = result["amount"]
        if not isinstance(amount, dict):
            raise _Wrong("has an amount without value and currency")
        item = result.get("line_item") or ""
        reading.add(day, _model_of(item), _cost(amount.get("value"), amount.get("currency")))
    elif "input_tokens" in result or "num_model_requests" in result:
        reading.add(day, _name(result.get("model") or ""), _usage(result))
    else:
        raise _Wrong("has neither tokens nor an amount: usage of completions, embeddings and costs are read")


def _usage(row: Mapping[str, Any]) -> dict[str, int | None]:
    found: dict[str, int | None] = {
        "requests": _count(row.get("num_model_requests"), "num_model_requests"),
        "input_tokens": _count(row.get("input_tokens"), "input_tokens"),
        # Embeddings have neither
        "cached_tokens": _count(row.get("input_cached_tokens"), "input_cached_tokens", missing=0),
        "output_tokens": _count(row.get("output_tokens"), "output_tokens", missing=0),
    }
    if (found["cached_tokens"] or 0) > (found["input_tokens"] or 0):
        raise _Wrong("input_cached_tokens are more than input_tokens, which they are among")
    return found


def _cost(value: Any, currency: Any) -> dict[str, int | None]:
    if not isinstance(currency, str) or currency.strip().lower() != "usd":
        raise _Wrong(f"the currency is {str(currency)!r:.20}, not usd")
    written = value.strip() if isinstance(value, str) else ""
    if not _AMOUNT.fullmatch(written):
        raise _Wrong(f"{str(value)!r:.50} is no amount below a billion dollars")
    amount = Decimal(written)
    if abs(amount) >= 10**9:
        raise _Wrong(f"{written!r:.50} is no amount below a billion dollars")
    return {"cost": int((amount * PICO).to_integral_value(ROUND_HALF_EVEN))}


def _tokens_of(item: str, quantity: str) -> dict[str, int | None]:
    """Return the tokens that a line of costs is about: `gpt-4o-2024-08-06, cached input` are 1,000 of them."""
    if not quantity.strip():
        return {}
    kind = item.partition(",")[2].lower().replace("_", " ").replace("tokens", "").strip()
    tokens = _count(quantity, "quantity")
    if kind == "output":
        return {"output_tokens": tokens}
    if kind in {"cached input", "input cached"}:
        return {"input_tokens": tokens, "cached_tokens": tokens}
    return {"input_tokens": tokens} if kind == "input" else {}


def _model_of(item: Any) -> str:
    """Return the model that a line of costs is about: what stands before the comma."""
    return _name(item).partition(",")[0].strip()


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("the model's name is no text")
    name = value.strip()
    if len(name) > 200:
        raise _Wrong("the model's name is longer than 200 characters")
    try:
        no_control_characters(name)
    except ValidationError:
        raise _Wrong("the model's name has control characters in it") from None
    return name


def _count(value: Any, name: str, missing: int | None = None) -> int:
    if _is_empty(value) and missing is not None:
        return missing
    number = _whole(value)
    if number is None:
        raise _Wrong(f"{name} is {str(value)!r:.50}, not a whole number of 0 or more, of no more than 15 digits")
    return number


def _moment(value: Any, name: str) -> datetime:
    seconds = _whole(value)
    if seconds is None or not _EARLIEST.timestamp() <= seconds < _LATEST.timestamp():
        raise _Wrong(f"{name} is {str(value)!r:.50}, not seconds since 1970, such as 1790553600")
    return datetime.fromtimestamp(seconds, UTC)


def _whole(value: Any) -> int | None:
    found = _COUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if found is None else int(found[1])


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(data: bytes) -> str:
    if len(data) > LARGEST:
        _refuse(f"The file is larger than {LARGEST // 2**20} MB: export it in parts, or by day.")
    if not data.strip():
        _refuse("The file is empty.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(f"The file is UTF-16, not UTF-8. {_WHERE}")
    if data.startswith(_BINARIES) or b"\0" in data:
        _refuse(f"This is neither CSV nor JSON but a workbook, an archive or another binary file. {_WHERE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValidationError(f"Line {line} is not UTF-8. {_WHERE}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse(message: str) -> NoReturn:
    raise ValidationError(message)
