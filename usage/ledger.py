"""What every limit counter must be: the sum over all calls that consumed anything, counted by id.

A call is in the journal, in the records, or for a moment in both, because `ingest` moves it meanwhile.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.db.models import BigIntegerField, Count, F, Max, Q, QuerySet, Sum
from django.db.models.functions import TruncSecond

from pricing.quotes import microseconds
from usage import outcomes, segments
from usage.lines import BEGIN_PREFIX, BadLine, Begin, End, interrupted, moment, parse
from usage.models import ArchivedUse, ArchiveFile, UsageRecord
from usage.segments import State
from usage.snapshot import one_moment

SESSION_US: Final = 24 * 3600 * 1_000_000
_IDS: Final = 5_000  # a query
_CLIENTS: Final = 500  # above so many, filtering by client costs more than it saves


class Window(NamedTuple):
    """A counter asked for: what `client_id` spent of `metric` in calls admitted at `start_us` or later.

    With a `key_id` that is not 0, only in calls with that key.
    """

    client_id: int
    rule_key: int
    metric: str  # 'requests', 'tokens', 'credits' (picodollars of charge) or 'sessions' (opened)
    start_us: int  # 0 for all time
    by_second: bool = False  # also as buckets of one second, for a cycle that slides
    key_id: int = 0


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """What was asked for."""

    spent: dict[int, int] = field(default_factory=dict)  # rule_key -> amount; every rule_key asked for is there
    seconds: dict[int, dict[int, int]] = field(default_factory=dict)  # rule_key -> second since the epoch -> amount
    sessions: dict[int, dict[str, int]] = field(default_factory=dict)  # client_id -> session -> opened, µs


class _Sums(NamedTuple):
    requests: int
    tokens: int
    credits: int
    sessions: int


def last_settled(journal_dir: Path, latest: int) -> int:
    """When the last call on record was settled, in journal or records (µs; 0: none). A clock must not go on before it.

    What was settled after `latest` is a mistake and is passed over.
    """
    moments = [0]
    for path in segments.segments(journal_dir):
        contents = segments.read(path)
        if contents is None:
            continue
        moments.append(contents.modified_us)  # calls that a killed process had open end then
        for raw in contents.lines:
            if not raw.startswith(BEGIN_PREFIX):
                with suppress(BadLine):  # ingest reports it
                    line = parse(raw)
                    if line is not None and line["k"] == "e":
                        moments.append(line["end"])
    # After the journal, whose lines ingest moves there meanwhile; by what there is an index for.
    newest = UsageRecord.objects.filter(admitted_at__lte=moment(latest)).order_by("-admitted_at")
    moments += map(microseconds, newest.values_list("settled_at", flat=True)[:1000])
    return max(settled for settled in moments if settled <= latest)


def read_ledger(
    journal_dir: Path,
    windows: Iterable[Window | tuple[int, int, str, int]],
    until: int | None = None,
) -> LedgerCounts:
    """Sum up records and journal. With `until` (µs) only calls settled by then, for comparing with a live gateway.

    Calls that a live gateway has open are not in it: they are reservations. Calls left open by a dead one count as
    their estimates. `sessions` are those opened in the 24 hours before `until`, or before now. Call it outside of a
    transaction; it takes no lock that a writer would wait for.
    """
    asked = [Window(*window) for window in windows]
    opened_since = (time.time_ns() // 1000 if until is None else until) - SESSION_US
    # The order matters: a line that ingest moves between the two readings is then seen twice, and dropped by its id,
    # never missed.
    pending = _in_journal(journal_dir, until)
    with one_moment():
        pending = _without_recorded(pending)
        records = UsageRecord.objects.filter(outcome__in=sorted(outcomes.COUNTED))
        if until is not None:
            records = records.filter(settled_at__lte=moment(until))
        counts = LedgerCounts()
        _count_records(records, asked, counts)
        _count_archived(asked, counts)
        _find_sessions(records, opened_since, counts)
    _count_lines(pending, asked, counts)
    for end in pending:
        if end["so"] and end["s"] and end["at"] >= opened_since:
            _open_session(counts, end["c"], end["s"], end["at"])
    return counts


def _in_journal(directory: Path, until: int | None) -> list[End]:
    """The ends in the journal that count, once each, those of calls that died with their gateway among them."""
    ends: dict[str, End] = {}
    begins: dict[str, tuple[Begin, str]] = {}
    live: set[str] = set()
    died_us: dict[str, int] = defaultdict(int)
    for path in segments.segments(directory):
        contents = segments.read(path)
        if contents is None:
            continue
        tag = segments.tag(path)
        died_us[tag] = max(died_us[tag], contents.modified_us)
        if contents.state is State.LIVE:
            live.add(tag)
        for raw in contents.lines:
            if contents.state is not State.DEAD and raw.startswith(BEGIN_PREFIX):
                continue
            try:
                line = parse(raw)
            except BadLine:  # ingest reports it
                continue
            if line is None:
                continue
            if line["k"] == "e":
                ends.setdefault(line["id"], line)
            elif contents.state is State.DEAD:
                begins[line["id"]] = (line, tag)
    for call_id, (begin, tag) in begins.items():
        if call_id not in ends and tag not in live:
            ends[call_id] = interrupted(begin, died_us[tag])
    return [end for end in ends.values() if end["o"] in outcomes.COUNTED and (until is None or end["end"] <= until)]


def _without_recorded(ends: list[End]) -> list[End]:
    recorded: set[str] = set()
    for at in range(0, len(ends), _IDS):
        ids = [end["id"] for end in ends[at : at + _IDS]]
        found = UsageRecord.objects.filter(pk__in=ids).values_list("pk", flat=True)
        recorded.update(request_id.hex for request_id in found)
    return [end for end in ends if end["id"] not in recorded]


def _sums(records: "QuerySet[UsageRecord]", *by: str) -> Iterator[tuple[Any, ...]]:
    """Rows of `by` followed by the four sums of _Sums."""
    yield from (
        records.order_by()
        .values(*by)
        .annotate(
            _requests=Count("pk"),
            _tokens=Sum(F("input_tokens") + F("output_tokens"), output_field=BigIntegerField()),
            _credits=Sum("charge"),
            _sessions=Count("pk", filter=Q(session_opened=True)),
        )
        .values_list(*by, "_requests", "_tokens", "_credits", "_sessions")
    )


def _since(records: "QuerySet[UsageRecord]", start_us: int, clients: Collection[int]) -> "QuerySet[UsageRecord]":
    if start_us > 0:
        records = records.filter(admitted_at__gte=moment(start_us))
    return records.filter(client__in=clients) if len(clients) <= _CLIENTS else records


def _count_records(records: "QuerySet[UsageRecord]", windows: list[Window], counts: LedgerCounts) -> None:
    """One query for each start, whoever's it is: calendars make many clients share theirs; one more for keys'."""
    by_start: dict[tuple[int, bool, bool], list[Window]] = defaultdict(list)
    for window in windows:
        by_start[window.start_us, window.by_second, window.key_id != 0].append(window)
        counts.spent[window.rule_key] = 0
        if window.by_second:
            counts.seconds[window.rule_key] = defaultdict(int)
    for (start_us, by_second, by_key), group in by_start.items():
        by_client: dict[int, list[Window]] = defaultdict(list)
        for window in group:
            by_client[window.client_id].append(window)
        chosen = _since(records, start_us, by_client)
        if by_second:
            chosen = chosen.annotate(_second=TruncSecond("admitted_at", tzinfo=UTC))
        if by_key:
            keys = {window.key_id for window in group}
            chosen = chosen.filter(key__in=keys) if len(keys) <= _CLIENTS else chosen
        by = ["client_id", *(["key_id"] if by_key else []), *(["_second"] if by_second else [])]
        for client_id, *values in _sums(chosen, *by):
            key_id = values.pop(0) if by_key else 0
            second = microseconds(values.pop(0)) // 1_000_000 if by_second else None
            sums = _Sums(*(int(value) for value in values))
            for window in by_client.get(client_id, ()):
                if window.key_id == key_id:
                    _add(counts, window, getattr(sums, window.metric), second)


def _count_archived(windows: list[Window], counts: LedgerCounts) -> None:
    """Add what is in records no longer: of all time by their sums; of a start among them call by call.

    Nothing in the archive was settled lately, so `until` does not matter.
    """
    latest = ArchiveFile.objects.filter(taken__gt=0).aggregate(at=Max("latest"))["at"]
    if latest is None:
        return
    by_client: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        by_client[window.client_id].append(window)
    uses = ArchivedUse.objects.order_by()
    for use in uses.filter(client__in=by_client) if len(by_client) <= _CLIENTS else uses:
        sums = _Sums(use.requests, use.tokens, use.charge, use.sessions)
        for window in by_client.get(use.client_id, ()):
            if window.start_us <= 0 and window.key_id in (0, use.key_id):
                _add(counts, window, getattr(sums, window.metric), None)
    first = min((window.start_us for window in windows if window.start_us > 0), default=None)
    if first is None or latest < moment(first):
        return
    from usage.archive.reading import archived_calls  # noqa: PLC0415 - no cycle of a limit begins so long ago
    from usage.folding import AMOUNTS  # noqa: PLC0415 - likewise

    for call in archived_calls(moment(first), latest + timedelta(microseconds=1)):
        client_id, key_id, *_, outcome, _ = call.series
        if outcome not in outcomes.COUNTED:
            continue
        at, amounts = microseconds(call.at), dict(zip(AMOUNTS, call.amounts, strict=True))
        tokens = amounts["input_tokens"] + amounts["output_tokens"]
        sums = _Sums(1, tokens, amounts["charge"], amounts["sessions"])
        for window in by_client.get(client_id, ()):
            if 0 < window.start_us <= at and window.key_id in (0, key_id):
                _add(counts, window, getattr(sums, window.metric), at // 1_000_000)


def _count_lines(ends: list[End], windows: list[Window], counts: LedgerCounts) -> None:
    by_client: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        by_client[window.client_id].append(window)
    for end in ends:
        sums = _Sums(1, end["in"] + end["out"], end["charge"], end["so"])
        for window in by_client.get(end["c"], ()):
            if end["at"] >= window.start_us and window.key_id in (0, end["key"]):
                _add(counts, window, getattr(sums, window.metric), end["at"] // 1_000_000)


def _add(counts: LedgerCounts, window: Window, amount: int, second: int | None) -> None:
    counts.spent[window.rule_key] += amount
    if window.by_second and second is not None and amount:
        counts.seconds[window.rule_key][second] += amount


def _find_sessions(records: "QuerySet[UsageRecord]", opened_since: int, counts: LedgerCounts) -> None:
    opened = records.filter(session_opened=True, admitted_at__gte=moment(max(0, opened_since)))
    for client_id, session, admitted_at in opened.values_list("client_id", "session", "admitted_at"):
        _open_session(counts, client_id, session, microseconds(admitted_at))


def _open_session(counts: LedgerCounts, client_id: int, session: str, opened_us: int) -> None:
    of_client = counts.sessions.setdefault(client_id, {})
    of_client[session] = max(opened_us, of_client.get(session, 0))
