"""Carries out what `usage.schedules` has put down: a file that is there whole or not at all, or a mail."""

import os
import smtplib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import DatabaseError
from django.utils import timezone
from django.utils.text import slugify

from clients.agency import agency
from clients.invitations import mails_are_sent
from clients.sentences import sentence
from usage.cost_csv import Form, file_name, text
from usage.costs import Question, whole_days
from usage.schedules import ExportRun, ExportSchedule, finish, put_down_due, take

MOST_MAILED: Final = 15 * 1024 * 1024
"""Bytes of a file that is mailed: servers refuse more than 20 to 25 MB, in an encoding that takes a third more."""
_UNFINISHED: Final = ".part"
_ABANDONED_AFTER: Final = timedelta(days=1)


class NotSent(Exception):
    """A report that did not go out; says why, and what to do."""


def export_due(now: datetime | None = None) -> int:
    """Carry out all that is due; return how many runs were done. Safe to run anywhere, any number at once."""
    moment = now or timezone.now()
    put_down_due(moment)
    count = 0
    while run := take(moment):
        count += carry_out(run)
    return count


def carry_out(run: ExportRun) -> bool:
    """Carry out a run that was taken, and write down what came of it; return whether it is done."""
    try:
        told, written = _send(run)
    except NotSent as error:
        finish(run, done=False, told=str(error))
    except ValidationError as error:
        finish(run, done=False, told=sentence(error))
    except (OSError, smtplib.SMTPException) as error:
        finish(run, done=False, told=_in_words(run.schedule, error))
    except DatabaseError as error:
        finish(run, done=False, told=f"The database did not answer it ({type(error).__name__}).")
    else:
        finish(run, done=True, told=told, file_name=written)
        if written:
            prune(run.schedule)
        return True
    return False


def path_of(run: ExportRun) -> Path | None:
    """Return where the file of a run is, None where there is none any more."""
    if not run.file_name or Path(run.file_name).name != run.file_name:
        return None
    path = Path(settings.EXPORTS_DIR, run.file_name)
    return path if path.is_file() else None


def prune(schedule: ExportSchedule) -> int:
    """Delete the files of a schedule beyond the number that it keeps, the oldest period first; return how many."""
    if schedule.keep is None:
        return 0
    written = ExportRun.objects.filter(schedule=schedule).exclude(file_name="")
    names = dict.fromkeys(written.order_by("-last", "-first", "-pk").values_list("file_name", flat=True))
    count = 0
    for name in list(names)[schedule.keep :]:
        with suppress(FileNotFoundError):
            Path(settings.EXPORTS_DIR, Path(name).name).unlink()
            count += 1
        written.filter(file_name=name).update(file_name="", told="Deleted, as newer files are kept in its place.")
    return count


def _send(run: ExportRun) -> tuple[str, str]:
    """Return what was done, in words, and the name of the file that was written, '' where none was."""
    schedule = run.schedule
    question = Question(*whole_days(run.first, run.last, schedule.zone), schedule.zone, schedule.groups)
    name = f"{slugify(schedule.name)[:60] or 'export'}-{schedule.pk}-{file_name(question)}"
    pieces = (piece.encode() for piece in text(question, Form(bom=schedule.bom, decimal_comma=schedule.decimal_comma)))
    if schedule.destination == ExportSchedule.Destination.MAIL:
        size = _mail(schedule, run, name, pieces)
        return f"Mailed to {', '.join(schedule.recipients)} ({size:,} bytes)", ""
    size = write(Path(settings.EXPORTS_DIR), name, pieces)
    return f"Written ({size:,} bytes)", name


def write(directory: Path, name: str, pieces: Iterator[bytes]) -> int:
    """Write a file that appears whole, on the disk, under its name; return its bytes. Raises OSError."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    _sweep(directory)
    unfinished = directory / f".{uuid4().hex}{_UNFINISHED}"
    size = 0
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(directory / name)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)  # else the name may be gone after a power cut
    finally:
        os.close(handle)
    return size


def _sweep(directory: Path) -> None:
    """Delete what workers left that were killed while writing."""
    before = (timezone.now() - _ABANDONED_AFTER).timestamp()
    for left in directory.glob(f".*{_UNFINISHED}"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < before:
                left.unlink()


def _mail(schedule: ExportSchedule, run: ExportRun, name: str, pieces: Iterator[bytes]) -> int:
    if not mails_are_sent():
        raise NotSent("No mail is sent: set EMAIL_URL where the gateway runs, or have it kept as a file.")
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > MOST_MAILED:
            raise NotSent(
                f"The report is larger than {MOST_MAILED // 2**20} MB, too large to be mailed: group it by less, "
                "or have it kept as a file."
            )
    days = f"{run.first}" if run.first == run.last else f"{run.first} to {run.last}"
    name_of_agency = agency().name
    message = EmailMessage(
        f"{schedule.name}: {days}",
        f"Attached is what calls cost and what was charged, {days}, days of {schedule.zone}.\n"
        f"Scheduled as “{schedule.name}” in the LLM gateway{' of ' + name_of_agency if name_of_agency else ''}.\n",
        settings.DEFAULT_FROM_EMAIL,
        schedule.recipients,
    )
    message.attach(name, bytes(content), "text/csv")
    message.send()
    return len(content)


def _in_words(schedule: ExportSchedule, error: Exception) -> str:
    if schedule.destination == ExportSchedule.Destination.MAIL:
        return (
            f"The mail server did not take it ({type(error).__name__}). Try the test mail on the settings page, and "
            "look at the addresses."
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"The file could not be written to DATA_DIR/exports: {reason}."
