"""Scheduled exports: once for each period, whole or not at all, made up within bounds, and told what came of them."""

import csv
import os
import signal
import smtplib
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from clients.access import Role
from clients.models import AuditEntry
from clients.onboarding import create_client
from tests.conftest import browser_of
from tests.usage.test_pages import call
from usage import scheduled_exports, schedules
from usage.costs import DIMENSIONS
from usage.models import ExportRun, ExportSchedule
from usage.scheduled_exports import export_due, write
from usage.schedules import OFFERED, put_down_due, run_now, take

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 26, 14, 37, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.EXPORTS_DIR = tmp_path / "exports"
    return settings.EXPORTS_DIR


def made(**fields: Any) -> ExportSchedule:
    values = {"name": "To the accountant", "zone": "UTC", "period": "day", "since": NOW - timedelta(days=400)}
    schedule = ExportSchedule(**values | fields)
    schedule.full_clean()
    schedule.save()
    return schedule


def spans(schedule: ExportSchedule) -> list[tuple[str, str]]:
    runs = ExportRun.objects.filter(schedule=schedule, by_hand=False).order_by("first")
    return [(str(run.first), str(run.last)) for run in runs]


def test_it_groups_by_all_that_the_report_does_but_keys() -> None:
    assert set(OFFERED) == set(DIMENSIONS) - {"key"}


def test_a_file_of_the_day_before_is_written_whole_and_once(folder: Path) -> None:
    acme = create_client("=Acme")
    call(acme, charge=3 * 10**12 + 1, admitted_at=datetime(2026, 11, 25, 23, 59, tzinfo=UTC)).save(force_insert=True)
    call(acme, charge=10**12, admitted_at=datetime(2026, 11, 26, tzinfo=UTC)).save(force_insert=True)
    schedule = made(since=NOW - timedelta(hours=12), decimal_comma=True)
    assert export_due(NOW) == 1
    assert export_due(NOW) == 0
    [run] = ExportRun.objects.all()
    assert (run.state, run.attempts, str(run.first)) == ("done", 1, "2026-11-25")
    [path] = folder.iterdir()
    assert path.name == f"to-the-accountant-{schedule.pk}-costs-by-client-2026-11-25-to-2026-11-25-UTC.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        [row] = csv.DictReader(file, delimiter=";")
    assert (row["client"], row["charge_usd"]) == ("'=Acme", "3,000000000001")
    assert path.stat().st_mode & 0o007 == 0


def test_looking_for_what_is_due_writes_nothing_where_nothing_is(folder: Path) -> None:
    made()
    export_due(NOW)
    with CaptureQueriesContext(connection) as asked:
        assert export_due(NOW) == 0
    assert asked.captured_queries
    assert {query["sql"].split()[0] for query in asked.captured_queries} == {"SELECT"}


@pytest.mark.parametrize(
    ("period", "zone", "now", "due", "span"),
    [
        ("day", "Europe/Berlin", datetime(2026, 11, 26, 4, 59, tzinfo=UTC), False, ("2026-11-25", "2026-11-25")),
        ("day", "Europe/Berlin", datetime(2026, 11, 26, 5, 0, tzinfo=UTC), True, ("2026-11-25", "2026-11-25")),
        ("week", "UTC", datetime(2026, 11, 23, 6, 0, tzinfo=UTC), True, ("2026-11-16", "2026-11-22")),
        ("week", "UTC", datetime(2026, 11, 23, 5, 59, tzinfo=UTC), False, ("2026-11-16", "2026-11-22")),
        ("month", "Pacific/Kiritimati", datetime(2026, 2, 28, 16, 0, tzinfo=UTC), True, ("2026-02-01", "2026-02-28")),
        ("month", "Pacific/Pago_Pago", datetime(2026, 3, 1, 16, 59, tzinfo=UTC), False, ("2026-02-01", "2026-02-28")),
        ("month", "UTC", datetime(2027, 1, 1, 6, 0, tzinfo=UTC), True, ("2026-12-01", "2026-12-31")),
    ],
)
def test_it_is_due_on_the_day_after_by_the_zones_clock(
    period: str, zone: str, now: datetime, due: bool, span: tuple[str, str]
) -> None:
    schedule = made(period=period, zone=zone, since=now - timedelta(hours=1))
    put_down_due(now)
    assert (spans(schedule) == [span]) is due
    assert bool(spans(schedule)) is due


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_the_next_is_the_first_that_comes(period: str) -> None:
    schedule = made(period=period, zone="Europe/Berlin", at=time(2, 30))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(500):
        at = schedule.next_at(now)
        assert now < at <= now + {"day": timedelta(days=1, hours=1), "week": timedelta(days=7, hours=1),
                                  "month": timedelta(days=31, hours=1)}[period]  # fmt: skip
        assert at.astimezone(ZoneInfo("Europe/Berlin")).time() in {time(2, 30), time(3, 30), time(1, 30)}
        ExportRun.objects.all().delete()
        schedule.since = at - timedelta(seconds=1)
        ExportSchedule.objects.update(since=schedule.since)
        put_down_due(at - timedelta(milliseconds=1))
        assert not spans(schedule)
        put_down_due(at)
        assert len(spans(schedule)) == 1
        now += timedelta(hours=17)


def test_what_was_missed_is_made_up_within_bounds_and_the_oldest_first() -> None:
    schedule = made()
    assert export_due(NOW) == 7
    assert spans(schedule) == [(f"2026-11-{day}",) * 2 for day in range(19, 26)]
    began = list(ExportRun.objects.order_by("pk").values_list("first", flat=True))
    assert began == sorted(began)
    schedule = made(name="New", since=NOW)
    assert export_due(NOW) == 0
    assert not spans(schedule)


def test_a_schedule_that_changes_counts_as_new() -> None:
    schedule = made(enabled=False)
    assert export_due(NOW) == 0
    with time_machine.travel(NOW, tick=False):
        schedule.enabled = True
        schedule.save()
    assert export_due(NOW) == 0
    assert export_due(NOW + timedelta(days=1)) == 1
    schedule.name = "Renamed"
    schedule.save()
    schedule.refresh_from_db()
    assert schedule.since == NOW


def test_two_workers_never_carry_out_the_same_run() -> None:
    made()
    assert put_down_due(NOW) == 7
    assert put_down_due(NOW) == 0
    taken = [take(NOW) for _ in range(8)]
    assert len({run.pk for run in taken if run}) == 7
    assert taken[7] is None


def test_a_run_that_another_took_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made(since=NOW - timedelta(hours=12))
    put_down_due(NOW)
    real, raced = ExportRun.objects.filter, []

    def filter_(*args: Any, **fields: Any) -> Any:
        if "attempts" in fields and not raced:  # between looking and taking
            raced.append(True)
            real(pk=fields["pk"]).update(state="running", attempts=1, began_at=NOW)
        return real(*args, **fields)

    monkeypatch.setattr(ExportRun.objects, "filter", filter_)
    assert take(NOW) is None
    assert raced


def test_a_run_whose_worker_was_killed_is_taken_over_and_the_late_one_changes_nothing() -> None:
    made(since=NOW - timedelta(hours=12))
    put_down_due(NOW)
    first = take(NOW)
    assert first is not None
    assert take(NOW + timedelta(minutes=59)) is None
    second = take(NOW + timedelta(hours=1))
    assert second is not None
    assert (second.pk, second.attempts) == (first.pk, 2)
    schedules.finish(first, done=False, told="late")
    assert ExportRun.objects.get().state == "running"
    schedules.finish(second, done=True, told="done")
    assert ExportRun.objects.get().told == "done"


def test_a_run_that_kills_every_worker_is_given_up() -> None:
    made(since=NOW - timedelta(hours=12))
    put_down_due(NOW)
    for hours in range(3):
        assert take(NOW + timedelta(hours=hours)) is not None
    assert take(NOW + timedelta(hours=3)) is None
    run = ExportRun.objects.get()
    assert (run.state, run.is_final) == ("failed", True)
    assert "by hand" in run.told


def test_a_process_killed_while_it_writes_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    killing = (
        "import os, signal, sys\nfrom pathlib import Path\nimport django\ndjango.setup()\n"
        "from usage.scheduled_exports import write\n"
        "def pieces():\n    yield b'x' * 100_000\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(Path(sys.argv[1]), 'whole.csv', pieces())\n"
    )
    folder = tmp_path / "exports"
    env = os.environ | {"DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "gateway_project.settings"}
    ended = subprocess.run([sys.executable, "-c", killing, str(folder)], cwd=ROOT, env=env, check=False)
    assert ended.returncode == -signal.SIGKILL
    [left] = folder.iterdir()
    assert left.name.startswith(".")
    old = (NOW - timedelta(days=2)).timestamp()
    os.utime(left, (old, old))
    assert write(folder, "whole.csv", iter([b"a", b"b"])) == 2
    assert [path.name for path in folder.iterdir()] == ["whole.csv"]
    assert (folder / "whole.csv").read_bytes() == b"ab"


def test_a_file_that_fails_half_way_leaves_the_one_before(folder: Path) -> None:
    write(folder, "report.csv", iter([b"before"]))

    def pieces() -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write(folder, "report.csv", pieces())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"report.csv": b"before"}


def test_a_run_that_fails_says_why_and_is_tried_again(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    made(since=NOW - timedelta(hours=12))
    for attempt in range(1, 4):
        with time_machine.travel(NOW + timedelta(minutes=11 * attempt), tick=False):
            assert export_due() == 0
            run = ExportRun.objects.get()
            assert (run.state, run.attempts) == ("failed", attempt)
            assert "could not be written to DATA_DIR/exports" in run.told
    with time_machine.travel(NOW + timedelta(hours=5), tick=False):
        folder.unlink()
        assert export_due() == 0
    assert run.is_final


def test_it_is_mailed_with_the_file(settings: Any) -> None:
    call(create_client("Büro"), charge=10**12, admitted_at=NOW - timedelta(days=1)).save(force_insert=True)
    made(destination="mail", addresses="a@example.com,\nb@example.com", since=NOW - timedelta(hours=12))
    assert export_due(NOW) == 1
    [sent] = mail.outbox
    assert sent.to == ["a@example.com", "b@example.com"]
    assert "2026-11-25" in sent.subject
    [(name, content, kind)] = sent.attachments
    assert name.endswith("2026-11-25-to-2026-11-25-UTC.csv")
    assert kind == "text/csv"
    assert content.startswith("\ufeff") if isinstance(content, str) else content.startswith(b"\xef\xbb\xbf")
    assert ExportRun.objects.get().told.startswith("Mailed to a@example.com, b@example.com")


def test_mail_that_does_not_go_out_says_why(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made(destination="mail", addresses="a@example.com", since=NOW - timedelta(hours=12))

    def refuse(*_: Any, **__: Any) -> None:
        raise smtplib.SMTPRecipientsRefused({})

    monkeypatch.setattr(scheduled_exports.EmailMessage, "send", refuse)
    export_due(NOW)
    assert "SMTPRecipientsRefused" in ExportRun.objects.get().told
    monkeypatch.setattr(scheduled_exports, "MOST_MAILED", 10)
    run_now(ExportSchedule.objects.get(), NOW)
    export_due(NOW)
    assert "too large to be mailed" in ExportRun.objects.first().told  # type: ignore[union-attr]
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    run_now(ExportSchedule.objects.get(), NOW)
    export_due(NOW)
    assert "set EMAIL_URL" in ExportRun.objects.first().told  # type: ignore[union-attr]


def test_no_more_files_are_kept_than_asked_for(folder: Path) -> None:
    schedule = made(keep=2)
    other = made(name="Other", since=NOW - timedelta(hours=12))
    export_due(NOW)
    kept = sorted(path.name for path in folder.iterdir() if f"-{other.pk}-costs" not in path.name)
    assert [name.partition("client-")[2][:10] for name in kept] == ["2026-11-24", "2026-11-25"]
    assert ExportRun.objects.filter(schedule=schedule, file_name="").count() == 5
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "a\r\nBcc: x@example.com"}, "Control characters"),
        ({"name": ""}, "blank"),
        ({"zone": "Mars/Olympus"}, "IANA"),
        ({"period": "year"}, "not a valid choice"),
        ({"group_by": "key"}, "nothing to group by"),
        ({"group_by": "client,client"}, "twice"),
        ({"destination": "mail"}, "to whom"),
        ({"destination": "mail", "addresses": "nobody"}, "no e-mail address"),
        ({"destination": "mail", "addresses": "a@example.com\r\nBcc: b@example.com"}, "no e-mail address"),
        ({"destination": "mail", "addresses": ",".join(["a@example.com"] * 21)}, "mailing list"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"keep": 101}, "less than or equal to 100"),
    ],
)
def test_what_makes_no_schedule_is_told(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        made(**fields)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/", "a\\b", "名前", "<b>", "." * 90])
def test_names_of_files_are_safe(folder: Path, name: str) -> None:
    made(name=name, since=NOW - timedelta(hours=12))
    assert export_due(NOW) == 1
    [path] = folder.iterdir()
    assert path.name.replace("-", "").replace("_", "").removesuffix(".csv").isalnum()
    assert path.name.isascii()


def test_finance_makes_a_schedule_runs_it_and_takes_the_file() -> None:
    with time_machine.travel(NOW, tick=False):
        browser = browser_of(Role.FINANCE)
        form = {"name": "Monthly", "enabled": "on", "group_by": ["month", "client"], "period": "month", "zone": "UTC",
                "at": "06:00", "destination": "file", "addresses": "", "keep": ""}  # fmt: skip
        answer = browser.post(reverse("admin:usage_exportschedule_add"), form)
        assert answer.status_code == 302, answer.context["errors"]
        schedule = ExportSchedule.objects.get()
        assert schedule.groups == ("month", "client")
        assert AuditEntry.objects.get_for_object(schedule).exists()
        page = reverse("admin:usage_exportschedule_change", args=[schedule.pk])
        assert "None yet" in browser.get(page).content.decode()
        run_page = reverse("admin:usage_exportschedule_run", args=[schedule.pk])
        assert browser.get(run_page).status_code == 405
        for _ in range(2):  # clicked twice
            assert browser.post(run_page, follow=True).status_code == 200
        assert export_due() == 1
        shown = browser.get(page).content.decode()
        assert "1 Oct 2026 to 31 Oct 2026" in shown
        run = ExportRun.objects.get()
        file = reverse("admin:usage_exportschedule_file", args=[schedule.pk, run.pk])
        assert file in shown
        answer = browser.get(file)
        content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
        assert content.startswith(b"month,client,requests")
        assert "attachment" in answer["Content-Disposition"]
        assert browser.post(file).status_code == 405
        assert "Written" in browser.get(reverse("admin:usage_exportschedule_changelist")).content.decode()
        other = made(name="Other")
        assert browser.get(reverse("admin:usage_exportschedule_file", args=[other.pk, run.pk])).status_code == 404
        for role in (Role.OPERATOR, Role.VIEWER):
            assert browser_of(role).get(file).status_code in {403, 404}
        ExportRun.objects.update(file_name="../gateway.sqlite3")
        assert browser.get(file).status_code == 404


def test_a_schedule_is_mailed_only_to_addresses(admin_client: Browser) -> None:
    form = {"name": "Monthly", "period": "month", "zone": "UTC", "at": "06:00", "destination": "mail"}
    answer = admin_client.post(reverse("admin:usage_exportschedule_add"), form)
    assert "Say to whom it is mailed" in answer.content.decode()
    answer = admin_client.post(reverse("admin:usage_exportschedule_add"), form | {"group_by": "key"})
    assert "not one of the available choices" in answer.content.decode()


def test_days_are_those_of_the_zone() -> None:
    schedule = made(zone="Pacific/Kiritimati", since=NOW - timedelta(hours=30))
    put_down_due(NOW)
    assert spans(schedule)[-1] == ("2026-11-25", "2026-11-25")


AT_ONCE = """
import sys, django
django.setup()
from datetime import datetime, timedelta
from django.utils import timezone
from usage.models import ExportSchedule, ExportRun
from usage.scheduled_exports import export_due
now = datetime.fromisoformat("2026-11-26T14:37:00+00:00")
if sys.argv[1] == "make":
    ExportSchedule.objects.create(name="Daily", period="day", zone="UTC", since=now - timedelta(days=30))
elif sys.argv[1] == "tell":
    for run in ExportRun.objects.order_by("first"):
        print(run.first, run.state, run.attempts)
else:
    print("ready", flush=True)
    sys.stdin.readline()
    print(export_due(now))
"""


def test_four_workers_at_once_make_each_report_once(installation: Any) -> None:
    made = installation.start("-c", AT_ONCE, "make")
    assert made.communicate(timeout=60)[1] == ""
    workers = [installation.start("-c", AT_ONCE, "work") for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    ended = [worker.communicate(timeout=60) for worker in workers]
    assert not any(errors for _, errors in ended), ended
    assert sum(int(out) for out, _ in ended) == 7
    told = installation.start("-c", AT_ONCE, "tell").communicate(timeout=60)[0].splitlines()
    assert told == [f"2026-11-{day} done 1" for day in range(19, 26)]
    files = [path.name for path in (installation.data_dir / "exports").iterdir()]
    assert len(files) == 7
    assert not any(name.startswith(".") for name in files)


def test_a_new_schedule_begins_in_the_zone_of_the_installation(admin_client: Browser, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    form = admin_client.get(reverse("admin:usage_exportschedule_add")).context["adminform"].form
    assert form["zone"].value() == "Europe/Berlin"
    assert form["group_by"].value() == ["client"]
