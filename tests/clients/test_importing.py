"""Many clients from a file: all or none, and whatever is wrong with the file is told by line."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from clients.importing import LARGEST, Preview, commit, read
from clients.models import Client
from clients.onboarding import create_client
from clients.plans import deviations
from tests.clients.test_plans import make_plan

pytestmark = pytest.mark.django_db

WHOLE = """name,email,company,phone,plan,markup,time_zone,cycle_start_day,notes,limits
Acme,a@acme.example,"Acme, Inc",+49 30 1,Basic,12.5,Asia/Kolkata,31,"two
lines",requests=500/day;sessions=30/month
=cmd|' /C calc'!A0,,,,,,,,@SUM(1),
"""


def problems(data: bytes) -> list[str]:
    preview = read(data)
    with pytest.raises(ValidationError):
        commit(preview)
    return [str(problem) for problem in preview.problems]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_makes_its_clients(start: bytes, end: str) -> None:
    make_plan("Basic", "requests=100/day", "credits=25/month", markup_bp=2000)
    preview = read(start + WHOLE.replace("\n", end).encode())
    assert (preview.problems, [row.line for row in preview.rows]) == ((), [2, 4])
    assert not Client.objects.exists()
    acme, formula = commit(preview)
    acme.refresh_from_db()
    assert (acme.email, acme.company, acme.phone) == ("a@acme.example", "Acme, Inc", "+49 30 1")
    assert (acme.markup_bp, acme.time_zone, acme.cycle_start_day) == (1250, "Asia/Kolkata", 31)
    assert acme.notes.split() == ["two", "lines"]
    assert {str(limit) for limit in acme.limits.all()} == {
        "500 requests a day",
        "25.00 USD a month",
        "30 WhatsApp sessions a month",
    }
    assert len(deviations(acme)) == 3
    formula.refresh_from_db()
    assert (formula.name, formula.notes, formula.markup_bp, formula.time_zone, formula.plan) == (
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        0,
        "UTC",
        None,
    )


def test_a_client_of_a_plan_needs_nothing_but_its_name() -> None:
    make_plan("Basic", "requests=100/day", markup_bp=2000)
    (client,) = commit(read(b"Plan,NAME\nBasic,Acme\n"))
    assert (client.markup_bp, [str(limit) for limit in client.limits.all()]) == (2000, ["100 requests a day"])
    assert deviations(Client.objects.get()) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (",,", ""),
        ('" ",x@y.example,', "line 3, name: This field cannot be blank."),
        ("Taken,,", "line 3, name: There is a client of this name."),
        ("Acme,,", "line 3, name: Line 2 has this name too."),
        ("B,nobody,", "line 3, email: Enter a valid email address."),
        ("B,,requests=1/day;requests=2/day", "line 3, limits: There are two limits of requests a day: give one."),
        ("B,,calls=1/day", "line 3, limits: Unknown metric 'calls'"),
        ("B,,requests=none/day", "line 3, limits: requests=none/day takes away a limit that there is not"),
        ("B,,,", "line 3: 4 values for 3 columns"),
        ("B", "line 3: 1 values for 3 columns"),
        (f"{'x' * 201},,", "line 3, name: Ensure this value has at most 200 characters"),
        ("emcA\u202e,,", "line 3, name: Control characters"),
        ('"B,,', "line 3: The quotes don't match"),
        ('"B"x,,', "line 3: The quotes don't match"),
        (f"B,,{'x' * 200_000}", "line 3: A value from this line on is too long"),
    ],
)
def test_what_is_wrong_is_told_by_line_and_column(line: str, told: str) -> None:
    create_client("Taken")
    data = f"name,email,limits\nAcme,,\n{line}\n".encode()
    if not told:  # a blank line is no client
        assert len(read(data).rows) == 1
        return
    (problem,) = problems(data)
    assert problem.startswith(told)
    assert Client.objects.count() == 1


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ("Gold,,,", "plan"),
        (",lots,,", "markup"),
        (",-100.01,,", "markup"),
        (",,Mars/Olympus,", "time_zone"),
        (",,,0", "cycle_start_day"),
        (",,,x", "cycle_start_day"),
        (",,,٣", "cycle_start_day"),
    ],
)
def test_each_column_is_judged(cells: str, column: str) -> None:
    (problem,) = problems(f"name,plan,markup,time_zone,cycle_start_day\nAcme,{cells}\n".encode())
    assert problem.startswith(f"line 2, {column}: ")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "no column"),
        (b" \n\n", "empty"),
        (b"name\n", "no client below"),
        ("name\nAcme\n".encode("utf-16"), "UTF-16"),
        ("name\nAcme\n".encode("utf-16-le"), "UTF-16"),
        ("name\nAcme\n".encode("utf-16-be"), "UTF-16"),
        (b"PK\x03\x04\x14\x00\x06\x00", "workbook"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary"),
        ("name\nAcme\nM\u00fcller\n".encode("latin-1"), "line 3: This line is not UTF-8"),
        (b"name;email\nAcme;a@b.example\n", "line 1: The columns are separated by semicolons"),
        (b"name\temail\nAcme\ta@b.example\n", "line 1: The columns are separated by tabs"),
        (b"email,phone\na@b.example,1\n", "line 1: There is no column"),
        (b"name,nmae\nAcme,1\n", "line 1: The column \u201cnmae\u201d is unknown".encode().decode()),
        (b"name,Name\nAcme,1\n", "line 1: There are two columns"),
        (b"name\n" + b"x" * LARGEST, "larger than 5 MB"),
        (b"name\n" + b"".join(b"n%d\n" % n for n in range(100_000)), "10,000 clients at most"),
    ],
)
def test_what_is_no_csv_of_clients_is_told_in_words(data: bytes, told: str) -> None:
    (problem,) = problems(data)
    assert told in problem


def test_a_large_file_asks_the_database_for_all_clients_at_once(django_assert_max_num_queries: Any) -> None:
    make_plan("Basic", "requests=100/day", "credits=25/month")
    data = b"name,plan,email\n" + b"".join(b"Client %d,Basic,c%d@c.example\n" % (n, n) for n in range(2_000))
    with django_assert_max_num_queries(200):
        assert len(commit(read(data))) == 2_000
    assert Client.objects.count() == 2_000


def test_problems_without_end_are_counted_not_listed() -> None:
    preview = read(b"name,email\n" + b"A,x\n" * 5_000)
    assert (len(preview.problems), preview.untold) == (200, 9_799)  # 5,000 addresses, 4,999 names


def test_of_a_file_with_one_wrong_line_nothing_is_made() -> None:
    preview = read(b"name,email\nAcme,\nB,nobody\n")
    assert len(preview.rows) == 1
    with pytest.raises(ValidationError):
        commit(preview)
    assert not Client.objects.exists()


def test_a_name_taken_after_the_preview_makes_none() -> None:
    preview = read(b"name,limits\nFirst,requests=1/day\nAcme,\n")
    create_client("Acme")
    with pytest.raises(ValidationError, match="Send the file again"):
        commit(preview)
    assert [client.name for client in Client.objects.all()] == ["Acme"]


def test_nothing_to_import_is_no_import() -> None:
    with pytest.raises(ValidationError):
        commit(Preview((), (), 0))


def test_the_command_imports_after_a_dry_run(tmp_path: Path) -> None:
    file = tmp_path / "clients.csv"
    file.write_text("name\nAcme\nOther\n")
    out = io.StringIO()
    call_command("importclients", str(file), "--dry-run", stdout=out)
    assert (out.getvalue(), Client.objects.count()) == ("2\n", 0)
    call_command("importclients", str(file), stdout=out)
    assert (out.getvalue(), Client.objects.count()) == ("2\n2\n", 2)
    errors = io.StringIO()
    with pytest.raises(CommandError, match="2 things are wrong"):
        call_command("importclients", str(file), stderr=errors)
    assert errors.getvalue().splitlines() == [
        "line 2, name: There is a client of this name.",
        "line 3, name: There is a client of this name.",
    ]
    with pytest.raises(CommandError, match="can't be read"):
        call_command("importclients", str(tmp_path / "none.csv"))
