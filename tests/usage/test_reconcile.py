"""Reconciliation: our own records in the provider's shape differ by nothing, and every difference has its name."""

import csv
import io
import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.models import Client
from pricing.models import Model, Provider
from pricing.money import format_dollars
from tests.usage.test_pages import call
from usage import due
from usage.models import RollupDue, UsageRecord, UsageRollup
from usage.provider_exports import Told, merged, read
from usage.reconcile import ALL_MODELS, Cause, base_name, compare, text, usual_providers
from usage.rollups import roll_due

pytestmark = pytest.mark.django_db

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SNAPSHOTS = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-3.5-turbo": "gpt-3.5-turbo-0125", "o1": "o1"}


class Books:
    """A provider with its models, calls to it, and what it says itself."""

    def __init__(self) -> None:
        self.client = Client.objects.create(name="Acme")
        self.openai = Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
        self.other = Provider.objects.create(name="Other", base_url="https://llm.example.com/v1")
        self.models = {
            "gpt-4o-mini": Model.objects.create(name="fast", upstream_name="gpt-4o-mini", provider=self.openai),
            "gpt-3.5-turbo": Model.objects.create(name="gpt-3.5-turbo-0125", provider=self.openai),
            "o1": Model.objects.create(name="o1", provider=self.openai),
        }

    def call(self, name: str = "gpt-4o-mini", at: datetime = NOON, **fields: Any) -> UsageRecord:
        told = {"input_tokens": 1_000, "output_tokens": 100, "cost": 5 * 10**9, "provider": self.openai}
        record = call(self.client, **told | {"model": self.models[name], "admitted_at": at} | fields)
        record.save(force_insert=True)
        due.put_down([(record.pk, record.admitted_at)])
        return record

    def compare(self, *files: bytes) -> Any:
        return compare(merged([read(file) for file in files]), [self.openai])


@pytest.fixture
def books() -> Books:
    return Books()


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


Cells = dict[tuple[date, str], dict[str, int]]


def cells_of(records: list[UsageRecord]) -> Cells:
    found: Cells = defaultdict(lambda: dict.fromkeys(("requests", "input", "cached", "output", "cost"), 0))
    for record in records:
        assert record.model is not None
        cell = found[record.admitted_at.date(), SNAPSHOTS[base_name(record.model.upstream)]]
        for name, value in (
            ("requests", int(record.outcome in {"ok", "client_gone", "broken", "interrupted"})),
            ("input", record.input_tokens),
            ("cached", record.cached_tokens),
            ("output", record.output_tokens),
            ("cost", record.cost),
        ):
            cell[name] += value
    return found


def usage_json(cells: Cells, days: list[date]) -> bytes:
    buckets = [
        {
            "object": "bucket",
            "start_time": seconds(day),
            "end_time": seconds(day) + 86_400,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": cell["input"],
                    "input_cached_tokens": cell["cached"],
                    "output_tokens": cell["output"],
                    "num_model_requests": cell["requests"],
                    "model": model,
                    "project_id": None,
                }
                for (of_day, model), cell in cells.items()
                if of_day == day
            ],
        }
        for day in days
    ]
    return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None}).encode()


def costs_json(cells: Cells, days: list[date]) -> bytes:
    buckets = ", ".join(
        f'{{"object": "bucket", "start_time": {seconds(day)}, "end_time": {seconds(day) + 86_400}, "results": ['
        + ", ".join(
            f'{{"object": "organization.costs.result", "amount": {{"value": {format_dollars(cell["cost"])}, '
            f'"currency": "usd"}}, "line_item": "{model}, input", "project_id": null}}'
            for (of_day, model), cell in cells.items()
            if of_day == day
        )
        + "]}"
        for day in days
    )
    return f'{{"object": "page", "data": [{buckets}], "has_more": false}}'.encode()


USAGE_HEADER = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens"
)
COSTS_HEADER = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,"
    "user_id,api_key_id,project_id,organization_id,project_name,organization_name,user_email,api_source"
)


def written(header: str, rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, header.split(","), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def bucket(day: date, **fields: Any) -> dict[str, Any]:
    return {"start_time": seconds(day), "end_time": seconds(day) + 86_400, "start_time_iso": f"{day}T00:00:00+00:00",
            "end_time_iso": f"{day + timedelta(days=1)}T00:00:00+00:00", **fields}  # fmt: skip


def usage_csv(cells: Cells, days: list[date], delimiter: str = ",") -> bytes:
    rows = [bucket(day) for day in days]  # as the dashboard has them for days without usage
    for (day, model), cell in cells.items():
        half = {name: value // 2 for name, value in cell.items()}  # in two rows, as of two keys
        for part in (half, {name: value - half[name] for name, value in cell.items()}):
            rows.append(
                bucket(
                    day, num_model_requests=f"{part['requests']}.0", model=model, input_tokens=part["input"],
                    output_tokens=part["output"], input_cached_tokens=min(part["cached"], part["input"]),
                )
            )  # fmt: skip
    return written(USAGE_HEADER, rows, delimiter)


def costs_csv(cells: Cells, days: list[date]) -> bytes:
    rows = [bucket(day) for day in days]
    for (day, model), cell in cells.items():
        rows += [
            bucket(
                day, amount_value=format_dollars(part) + "0" * 18, amount_currency="usd", line_item=f"{model}, {kind}"
            )
            for kind, part in (("input", cell["cost"] // 3), ("output", cell["cost"] - cell["cost"] // 3))
        ]
    return written(COSTS_HEADER, rows)


made_calls = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(sorted(SNAPSHOTS)),
            "outcome": st.sampled_from(["ok", "client_gone", "interrupted", "rejected", "refused"]),
            "estimated": st.booleans(),
            "input_tokens": st.integers(0, 10**9).map(lambda half: half * 2),
            "output_tokens": st.integers(0, 10**9),
            "cost": st.integers(0, 10**16),
            "at": st.datetimes(datetime(2026, 11, 10), datetime(2026, 11, 14, 23, 59, 59), timezones=st.just(UTC)),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=made_calls, rolled=st.booleans())
def test_our_own_records_in_the_providers_shape_differ_by_nothing(
    books: Books, calls: list[dict[str, Any]], rolled: bool
) -> None:
    for model in (UsageRecord, RollupDue, UsageRollup):
        model.objects.all().delete()
    records = [books.call(**{**made, "cached_tokens": made["input_tokens"] // 2}) for made in calls]
    books.call(provider=books.other, at=datetime(2026, 11, 12, tzinfo=UTC))  # of no concern
    books.call(at=datetime(2026, 11, 9, 23, 59, 59, tzinfo=UTC))
    if rolled:
        roll_due(60)
    cells, days = cells_of(records), [date(2026, 11, day) for day in range(10, 15)]
    for files in (
        [usage_json(cells, days)],
        [costs_json(cells, days)],
        [usage_csv(cells, days)],
        [usage_csv(cells, days, "\t")],
        [costs_csv(cells, days)],
        [usage_csv(cells, days), costs_json(cells, days)],
    ):
        report = books.compare(*files)
        assert report.agrees, [line for line in report.lines if line.reasons]
        assert all(not any(line.differences.values()) for line in report.lines)
        assert not report.causes
        for name in report.told:
            assert getattr(report.theirs, name) == getattr(report.ours, name)
    assert report.told == ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost")
    assert report.ours.cost == sum(record.cost for record in records)


def reasons(report: Any) -> dict[str, dict[str, int]]:
    return {reason.cause.name: reason.shares for line in report.lines for reason in line.reasons}


def cell(
    requests: int = 1, input_: int = 1_000, output: int = 100, cost: int = 5 * 10**9, cached: int = 0
) -> dict[str, int]:
    return {"requests": requests, "input": input_, "cached": cached, "output": output, "cost": cost}


def both(told: dict[str, int], model: str = "gpt-4o-mini-2024-07-18") -> list[bytes]:
    cells = {(DAY, model): told}
    return [usage_json(cells, [DAY]), costs_json(cells, [DAY])]


def test_a_wrong_price_is_called_price(books: Books) -> None:
    books.call()
    books.call(estimated=True)  # which cannot be it: the tokens are the same
    assert reasons(books.compare(*both(cell(2, 2_000, 200, 11 * 10**9)))) == {"PRICE": {"cost": 10**9}}


def test_costs_alone_cannot_tell_price_from_tokens(books: Books) -> None:
    books.call()
    [costs] = both(cell(cost=6 * 10**9))[1:]
    assert reasons(books.compare(costs)) == {"PRICE_OR_TOKENS": {"cost": 10**9}}


def test_less_than_a_millionth_of_a_dollar_is_rounding(books: Books) -> None:
    books.call()
    report = books.compare(*both(cell(cost=5 * 10**9 - 10**6)))
    assert reasons(report) == {"ROUNDING": {"cost": -(10**6)}}
    assert report.agrees
    assert not books.compare(*both(cell(cost=5 * 10**9 - 10**6 - 1))).agrees


def test_estimated_calls_account_for_no_more_than_themselves(books: Books) -> None:
    books.call()
    books.call(estimated=True, input_tokens=300, output_tokens=0, cost=10**9)
    report = books.compare(*both(cell(2, 1_200, 100, 5 * 10**9 + 7 * 10**8)))
    assert reasons(report) == {"ESTIMATED": {"input_tokens": -100, "cost": -3 * 10**8}}
    report = books.compare(*both(cell(2, 2_000, 100, 6 * 10**9)))
    assert reasons(report) == {"ESTIMATED": {"input_tokens": 300}, "UNEXPLAINED": {"input_tokens": 400}}
    report = books.compare(*both(cell(2, 1_200, 100, 8 * 10**9)))  # fewer tokens do not cost more
    assert reasons(report) == {"ESTIMATED": {"input_tokens": -100}, "PRICE": {"cost": 2 * 10**9}}


def test_interrupted_calls_may_not_have_been_counted(books: Books) -> None:
    books.call()
    books.call(outcome="interrupted", estimated=True, input_tokens=400, output_tokens=50, cost=2 * 10**9)
    report = books.compare(*both(cell()))
    expected = {"requests": -1, "input_tokens": -400, "output_tokens": -50, "cost": -2 * 10**9}
    assert reasons(report) == {"INTERRUPTED": expected}
    assert report.causes == ((Cause.INTERRUPTED, 1, expected),)


def test_calls_that_one_side_has_are_missing_on_the_other(books: Books) -> None:
    for _ in range(2):
        books.call()
    more = {"requests": 1, "input_tokens": 1_000, "output_tokens": 100, "cost": 5 * 10**9}
    assert reasons(books.compare(*both(cell(3, 3_000, 300, 15 * 10**9)))) == {"MISSING_HERE": more}
    less = {name: -value for name, value in more.items()}
    assert reasons(books.compare(*both(cell()))) == {"MISSING_THERE": less}


def test_calls_around_midnight_are_the_next_day_there(books: Books) -> None:
    days = [DAY, DAY + timedelta(days=1)]
    books.call()
    books.call(at=datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC), input_tokens=70)
    books.call(at=NOON + timedelta(days=1))
    model = "gpt-4o-mini-2024-07-18"
    report = books.compare(usage_json({(days[0], model): cell(), (days[1], model): cell(2, 1_070, 200)}, days))
    assert [reason.cause for line in report.lines for reason in line.reasons] == [Cause.NEXT_DAY] * 2
    assert report.causes[0][2] == {"requests": 0, "input_tokens": 0, "output_tokens": 0}
    report = books.compare(usage_json({(days[0], model): cell(), (days[1], model): cell(2, 1_071, 200)}, days))
    assert [one.name for one, _, _ in report.causes] == ["MISSING_HERE", "MISSING_THERE"]


def test_a_model_that_one_side_has_is_missing_whole(books: Books) -> None:
    books.call("o1")
    report = books.compare(*both(cell()))
    assert [(line.model, [reason.cause for reason in line.reasons]) for line in report.lines] == [
        ("gpt-4o-mini", [Cause.MISSING_HERE]),
        ("o1", [Cause.MISSING_THERE]),
    ]
    assert report.lines[0].ours is None
    assert report.lines[1].theirs is None


def test_days_without_usage_there_are_compared_as_well(books: Books) -> None:
    books.call(at=NOON + timedelta(days=1))
    report = books.compare(usage_json({}, [DAY, DAY + timedelta(days=1)]))
    assert [(line.day, line.reasons[0].cause) for line in report.lines] == [
        (DAY + timedelta(days=1), Cause.MISSING_THERE)
    ]


def test_a_file_without_models_is_compared_by_day(books: Books) -> None:
    books.call()
    books.call("o1")
    report = books.compare(costs_json({(DAY, ""): cell(cost=10**10)}, [DAY]).replace(b'", input"', b'""'))
    [line] = books.compare(written(COSTS_HEADER, [bucket(DAY, amount_value="0.01", amount_currency="usd")])).lines
    assert (line.model, line.differences) == (ALL_MODELS, {"cost": 0})
    assert report.agrees
    assert any("group by model" in note for note in report.notes)


def test_tokens_of_cost_lines_are_read_where_they_are_told(books: Books) -> None:
    books.call(cached_tokens=400)
    lines = (("input", "600.0", "0.003"), ("cached input", 400, "0.001"), ("output", 100, "1e-3"))
    rows = [
        bucket(DAY, amount_value=amount, amount_currency="usd", quantity=quantity, quantity_unit="tokens",
               line_item=f"gpt-4o-mini-2024-07-18, {kind}")
        for kind, quantity, amount in lines
    ]  # fmt: skip
    report = books.compare(written(COSTS_HEADER, rows))
    assert report.told == ("input_tokens", "cached_tokens", "output_tokens", "cost")
    assert report.agrees
    tools = bucket(DAY, amount_value="0.5", amount_currency="usd", line_item="web search tool calls", quantity="20",
                   quantity_unit="calls")  # fmt: skip
    report = books.compare(written(COSTS_HEADER, [*rows, tools]))
    assert report.causes == ((Cause.MISSING_HERE, 1, {"cost": 5 * 10**11}),)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("GPT-4o mini", "gpt-4o-mini"),
        ("text-embedding-ada-002", "text-embedding-ada-002"),
        ("text-embedding-3-small", "text-embedding-3-small"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
        ("o1", "o1"),
    ],
)
def test_snapshots_are_their_models(name: str, base: str) -> None:
    assert base_name(name) == base


def test_a_page_of_several_and_a_day_that_is_not_over_are_told(books: Books) -> None:
    today = datetime.now(UTC).date()
    file = usage_json({}, [today]).replace(b'"has_more": false', b'"has_more": true')
    notes = " ".join(books.compare(file).notes)
    assert "one page of several" in notes
    assert "not over" in notes
    pages = b"[" + file + b"," + usage_json({}, [today - timedelta(days=1)]) + b"]"
    assert "several" not in " ".join(books.compare(pages).notes)


def test_the_usual_provider_is_openai_itself(books: Books) -> None:
    assert usual_providers([books.openai, books.other]) == [books.openai]
    assert usual_providers([books.other]) == [books.other]


def test_the_csv_is_read_by_any_parser_and_runs_nothing(books: Books) -> None:
    books.call()
    report = books.compare(*both(cell(), "=cmd|' /C calc'!A0"))
    whole = "".join(text(report))
    assert whole.count("\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    assert [row["model"] for row in rows] == ["'=cmd|'-/c-calc'!a0", "gpt-4o-mini"]
    assert (rows[0]["provider_cost_usd"], rows[0]["gateway_cost_usd"]) == ("0.005", "")
    assert rows[1]["difference_requests"] == "-1"
    assert rows[1]["put_down_to"] == "missing there"


USAGE_ROW = bucket(
    DAY, num_model_requests=1, model="gpt-4o-mini", input_tokens=5, output_tokens=1, input_cached_tokens=0
)
COSTS_ROW = bucket(DAY, amount_value="0.5", amount_currency="usd", line_item="gpt-4o, input")
EXACTLY = b'{"object": "page", "data": [%s]}'
BUCKET = b'{"start_time": 1763596800, "end_time": 1763683200, "results": [%s]}'


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"PK\x03\x04 a workbook", "binary"),
        (b"%PDF-1.7", "binary"),
        (b"a,b\n\0,1", "binary"),
        ("start_time,ä".encode("utf-16"), "UTF-16"),
        (f"{USAGE_HEADER}\nä".encode("latin-1"), "Line 2 is not UTF-8"),
        (b"x" * (20 * 2**20 + 1), "larger than 20 MB"),
        (b"name,email\na,b\n", "not the columns"),
        (b"start_time\n1763596800\n", ""),
        (b"start_time,input_tokens\n1763596800,5\n", "columns num_model_requests, model are missing"),
        (b"start_time,num_model_requests,input_tokens\n", "column model is missing. Choose"),
        (b"amount_value,line_item\n1,x\n", "columns start_time, amount_currency are missing"),
        (USAGE_HEADER.encode() + b",model\n", "named twice"),
        (USAGE_HEADER.encode() + b"\n", "not one day"),
        (USAGE_HEADER.encode() + b'\n1,"2\n', "no CSV"),
        (USAGE_HEADER.encode() + b"\n1763596800,2,3\n", "Line 2: has 3 cells where the first line has 15"),
        (written(USAGE_HEADER, [USAGE_ROW | {"input_tokens": -5}]), "Line 2: input_tokens is '-5'"),
        (written(USAGE_HEADER, [USAGE_ROW, USAGE_ROW | {"output_tokens": "1.5"}]), "Line 3: output_tokens is '1.5'"),
        (written(USAGE_HEADER, [USAGE_ROW | {"input_tokens": "9" * 5_000}]), "no more than 15 digits"),
        (written(USAGE_HEADER, [USAGE_ROW | {"input_tokens": "=1+1"}]), "'=1\\+1'"),
        (written(USAGE_HEADER, [USAGE_ROW | {"input_tokens": "٣"}]), "not a whole number"),
        (written(USAGE_HEADER, [USAGE_ROW | {"num_model_requests": ""}]), "num_model_requests is ''"),
        (written(USAGE_HEADER, [USAGE_ROW | {"input_cached_tokens": 6}]), "more than input_tokens"),
        (written(USAGE_HEADER, [USAGE_ROW | {"model": "a" * 201}]), "longer than 200"),
        (written(USAGE_HEADER, [USAGE_ROW | {"model": "a\x1bb"}]), "control characters"),
        (written(USAGE_HEADER, [USAGE_ROW | {"start_time": "2026-11-20"}]), "seconds since 1970"),
        (written(USAGE_HEADER, [USAGE_ROW | {"start_time": "9" * 15}]), "seconds since 1970"),
        (written(USAGE_HEADER, [USAGE_ROW | {"end_time": seconds(DAY)}]), "not after"),
        (written(USAGE_HEADER, [USAGE_ROW | {"end_time": seconds(DAY) + 86_401}]), "different days"),
        (written(USAGE_HEADER, [USAGE_ROW, USAGE_ROW | bucket(DAY + timedelta(days=401))]), "more than 400 days"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_currency": "eur"}]), "currency is 'eur'"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_value": "NaN"}]), "no amount"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_value": "1e99"}]), "below a billion"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_value": "9" * 10}]), "below a billion"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_value": "1,5"}]), "no amount"),
        (written(COSTS_HEADER, [COSTS_ROW | {"amount_value": ""}]), "no amount"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON|too deep"),
        (b"[1]", "no buckets"),
        (b"{}", "no list of buckets"),
        (b'{"error": {"message": "Incorrect API key"}}', "an error that OpenAI answered"),
        (b'{"data": [1]}', "no list of buckets"),
        (b'{"data": []}', "not one day"),
        (EXACTLY % b'{"start_time": 1763596800}', "Bucket 1 has no list of results"),
        (EXACTLY % b'{"start_time": null, "results": []}', "Bucket 1: start_time"),
        (EXACTLY % (BUCKET % b"1"), "Bucket 1, result 1: is no object"),
        (EXACTLY % (BUCKET % b'{"images": 3}'), "neither tokens nor an amount"),
        (EXACTLY % (BUCKET % b'{"input_tokens": -1, "num_model_requests": 1}'), "input_tokens is '-1'"),
        (EXACTLY % (BUCKET % b'{"input_tokens": 1, "num_model_requests": 1, "model": [7]}'), "no text"),
        (EXACTLY % (BUCKET % (b'{"num_model_requests": 1, "input_tokens": ' + b"9" * 10_000 + b"}")), "15 digits"),
        (EXACTLY % (BUCKET % b'{"input_tokens": Infinity}'), "no JSON"),
        (EXACTLY % (BUCKET % b'{"amount": 5}'), "value and currency"),
        (EXACTLY % (BUCKET % b'{"amount": {"value": true, "currency": "usd"}}'), "no amount"),
    ],
)
def test_what_is_no_export_is_told(file: bytes, said: str, tmp_path: Any) -> None:
    Provider.objects.create(name="OpenAI", base_url="https://api.openai.com/v1")
    path = tmp_path / "export"
    path.write_bytes(file)
    if not said:
        call_command("reconcile", str(path))
        return
    with pytest.raises(CommandError, match=said):
        call_command("reconcile", str(path))


def test_of_many_wrong_lines_the_first_are_told() -> None:
    file = written(USAGE_HEADER, [USAGE_ROW | {"input_tokens": -5}] * 100)
    with pytest.raises(Exception, match="no more") as caught:
        read(file)
    assert len(caught.value.messages) == 21  # type: ignore[attr-defined]
    assert caught.value.messages[-1] == "And 80 more."  # type: ignore[attr-defined]


def test_lines_and_pairs_are_bounded() -> None:
    head = "start_time,num_model_requests,model,input_tokens\n"
    line = f"{seconds(DAY)},1,gpt-4o,1\n"
    assert read((head + line * 199_999).encode()).cells == {(DAY, "gpt-4o"): Told(199_999, 199_999, 0, 0)}
    with pytest.raises(Exception, match="more than 200,000 lines"):
        read((head + line * 200_000).encode())
    with pytest.raises(Exception, match="20,000 pairs"):
        read((head + "".join(f"{seconds(DAY)},1,model-{n},1\n" for n in range(20_001))).encode())


def test_money_keeps_its_digits() -> None:
    value = b'{"amount": {"value": 0.003835980000000000000000000000, "currency": "USD"}, "line_item": "gpt-4o, input"}'
    assert read(EXACTLY % (BUCKET % value)).cells[date(2025, 11, 20), "gpt-4o"].cost == 3_835_980_000
    credit = b'{"amount": {"value": "-1.5", "currency": "usd"}, "line_item": null}'
    assert read(EXACTLY % (BUCKET % credit)).cells[date(2025, 11, 20), ""].cost == -15 * 10**11


def test_files_of_other_days_or_of_the_same_are_not_laid_together() -> None:
    one, other = usage_json({}, [DAY]), usage_json({}, [DAY + timedelta(days=1)])
    with pytest.raises(Exception, match="different days"):
        merged([read(one), read(other)])
    full = read(usage_json({(DAY, "o1"): cell()}, [DAY]))
    with pytest.raises(Exception, match="twice"):
        merged([full, full])


def test_the_command_tells_sums_and_causes(books: Books, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    books.call()
    path = tmp_path / "costs.json"
    path.write_bytes(both(cell(cost=6 * 10**9))[1])
    call_command("reconcile", str(path))
    told = capsys.readouterr().out
    assert "0.006 USD" in told
    assert "0.001 USD" in told
    assert "price or tokens, 1 line:" in told
    call_command("reconcile", str(path), "--csv", "--provider", "OpenAI")
    assert capsys.readouterr().out.startswith("day,model,provider_cost_usd")
    with pytest.raises(CommandError, match="no provider 'Nobody'"):
        call_command("reconcile", str(path), "--provider", "Nobody")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("reconcile", str(tmp_path / "missing"))
