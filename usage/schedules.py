"""Cost reports that go out by the clock: what is asked for, when it is due, and what came of each.

A run is put down once for each period, whoever looks and however often, and whoever carries it out takes it first.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_email
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from clients.models import check_time_zone, default_time_zone
from clients.names import no_control_characters
from pricing import audit
from usage.days import month_before

OFFERED: Final = ("client", "model", "provider", "endpoint", "day", "week", "month", "workflow", "env")
"""All that `usage.costs` groups by but keys, which finance, who makes schedules, does not read."""
MOST_ADDRESSES: Final = 20
MADE_UP: Final = {"day": 7, "week": 4, "month": 3}
"""How many periods are made up when the worker was away, the one just over among them."""
MOST_ATTEMPTS: Final = 3
RETRIED_AFTER: Final = timedelta(minutes=10)
LEFT_AFTER: Final = timedelta(hours=1)
"""A run that is going on for longer has lost its worker."""
RUNS_KEPT: Final = 200  # of a schedule
_RESTARTS: Final = ("period", "zone", "at", "enabled")


class Span(NamedTuple):
    """The days of one period, both among it."""

    first: date
    last: date


class ExportSchedule(models.Model):
    """A cost report that goes out after each day, week or month."""

    class Period(models.TextChoices):
        DAY = "day", "The day before"
        WEEK = "week", "The week before, from Monday"
        MONTH = "month", "The month before"

    class Destination(models.TextChoices):
        MAIL = "mail", "By mail"
        FILE = "file", "To a file, to be taken from this page"

    name = models.CharField(max_length=100, unique=True, validators=[no_control_characters])
    group_by = models.CharField("a row for each", max_length=100, blank=True, default="client")
    period = models.CharField("report of", max_length=10, choices=Period, default=Period.MONTH)
    zone = models.CharField("days of", max_length=64, default=default_time_zone, validators=[check_time_zone])
    at = models.TimeField(
        "at", default=time(6), help_text="There, on the day after. Late enough that the last calls are recorded."
    )
    bom = models.BooleanField("for Excel", default=True, help_text="A byte order mark, so that it reads ü and €.")
    decimal_comma = models.BooleanField(default=False, help_text="0,5 for 0.5, and ; between columns.")
    destination = models.CharField("where to", max_length=10, choices=Destination, default=Destination.FILE)
    addresses = models.TextField(
        "to", blank=True, max_length=2_000, help_text="E-mail addresses, separated by commas. Only where it is mailed."
    )
    keep = models.PositiveSmallIntegerField(
        "files kept",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="The oldest beyond so many are deleted. Empty: all are kept.",
    )
    enabled = models.BooleanField(default=True)
    since = models.DateTimeField(editable=False, default=timezone.now)
    """What was due before is not made up: the schedule was another then, or none."""

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "usage"
        ordering = ["name"]
        verbose_name = "scheduled export"
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="export_schedule_named"),
            models.CheckConstraint(condition=Q(period__in=["day", "week", "month"]), name="export_period_known"),
            models.CheckConstraint(condition=Q(destination__in=["mail", "file"]), name="export_destination_known"),
            models.CheckConstraint(
                condition=Q(destination="file") | ~Q(addresses=""), name="export_mailed_to_somebody"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        """Save it. From a change of what decides when it is due, it counts as new."""
        if self.pk is not None:
            before = ExportSchedule.objects.filter(pk=self.pk).values(*_RESTARTS).first()
            if before and any(before[name] != getattr(self, name) for name in _RESTARTS):
                self.since = timezone.now()
        super().save(*args, **options)

    def clean(self) -> None:
        """Refuse what no report could be made of, or sent to."""
        super().clean()
        wrong: dict[str, str] = {}
        names = self.groups
        if unknown := [name for name in names if name not in OFFERED]:
            wrong["group_by"] = f"{unknown[0]!r:.50} is nothing to group by: use {', '.join(OFFERED)}."
        elif len(set(names)) != len(names):
            wrong["group_by"] = "Something is named twice to group by."
        self.group_by = ",".join(names)
        addresses = self.recipients
        if self.destination == self.Destination.MAIL and not addresses:
            wrong["addresses"] = "Say to whom it is mailed."
        elif len(addresses) > MOST_ADDRESSES:
            wrong["addresses"] = f"No more than {MOST_ADDRESSES} addresses: use a mailing list."
        for address in addresses:
            try:
                validate_email(address)
            except ValidationError:
                wrong["addresses"] = f"{address!r:.100} is no e-mail address."
        self.addresses = ", ".join(addresses)
        if wrong:
            raise ValidationError(wrong)

    @property
    def recipients(self) -> list[str]:
        """The addresses, one by one."""
        return [found for part in self.addresses.replace("\n", ",").split(",") if (found := part.strip())]

    @property
    def groups(self) -> tuple[str, ...]:
        """What rows are grouped by, in that order; empty for one row of all."""
        return tuple(name.strip() for name in self.group_by.split(",") if name.strip())

    def due_at(self, span: Span) -> datetime:
        """Return when the report of that period goes out."""
        return datetime.combine(span.last + timedelta(days=1), self.at, ZoneInfo(self.zone)).astimezone(UTC)

    def spans(self, now: datetime) -> Iterator[Span]:
        """Yield the periods that are over, the latest first, without end."""
        day = now.astimezone(ZoneInfo(self.zone)).date()
        while True:
            span = self._before(day)
            yield span
            day = span.first

    def next_at(self, now: datetime) -> datetime:
        """Return when the next report goes out, whether or not it is enabled."""
        latest = next(self.spans(now))
        if (due := self.due_at(latest)) > now:
            return due
        within = now.astimezone(ZoneInfo(self.zone)).date()
        while self._before(within) == latest:
            within += timedelta(days=1)
        return self.due_at(self._before(within))

    def _before(self, day: date) -> Span:
        """Return the last period that was over when `day` began."""
        if self.period == self.Period.MONTH:
            return Span(*month_before(day))
        if self.period == self.Period.WEEK:
            monday = day - timedelta(days=day.weekday() + 7)
            return Span(monday, monday + timedelta(days=6))
        return Span(day - timedelta(days=1), day - timedelta(days=1))


class ExportRun(models.Model):
    """One report of one period: put down, taken by a worker, done or not."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    schedule = models.ForeignKey(ExportSchedule, models.CASCADE, related_name="runs")
    first = models.DateField()
    last = models.DateField()
    by_hand = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    began_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    told = models.CharField(max_length=500, blank=True, help_text="What came of it, in words.")
    file_name = models.CharField(max_length=255, blank=True, help_text="In the folder of exports, while it is there.")

    class Meta:
        app_label = "usage"
        ordering = ["-made_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["schedule", "first", "last"], condition=Q(by_hand=False), name="export_run_once_a_period"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running", "done", "failed"]), name="export_run_state_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id}: {self.first} to {self.last}"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self.state == self.State.DONE or (self.state == self.State.FAILED and self.attempts >= MOST_ATTEMPTS)


def put_down_due(now: datetime) -> int:
    """Put down, once each, the runs that are due; return how many. What was missed is made up, within MADE_UP."""
    count = 0
    for schedule in ExportSchedule.objects.filter(enabled=True):
        spans = schedule.spans(now)
        for span in reversed([next(spans) for _ in range(MADE_UP[schedule.period])]):
            if schedule.since < schedule.due_at(span) <= now:
                _, new = ExportRun.objects.get_or_create(
                    schedule=schedule, first=span.first, last=span.last, by_hand=False
                )
                count += new
    return count


def run_now(schedule: ExportSchedule, now: datetime) -> ExportRun:
    """Put down a run of the latest period that is over, and return it; one that still waits is returned instead."""
    span = next(schedule.spans(now))
    with transaction.atomic():
        waiting = ExportRun.objects.filter(schedule=schedule, by_hand=True, state=ExportRun.State.WAITING).first()
        return waiting or ExportRun.objects.create(schedule=schedule, first=span.first, last=span.last, by_hand=True)


def take(now: datetime) -> ExportRun | None:
    """Return a run for the caller to carry out, which nobody else has; None where nothing is to be done."""
    state = ExportRun.State
    left = ExportRun.objects.filter(state=state.RUNNING, began_at__lte=now - LEFT_AFTER, attempts__gte=MOST_ATTEMPTS)
    if left.exists():  # without a writer's lock, as it is asked every few seconds
        told = "The worker ended before it was done, three times. Run it now by hand."
        left.update(state=state.FAILED, ended_at=now, told=told)
    open_ = Q(state=state.WAITING)
    open_ |= Q(state=state.FAILED, attempts__lt=MOST_ATTEMPTS, ended_at__lte=now - RETRIED_AFTER)
    open_ |= Q(state=state.RUNNING, attempts__lt=MOST_ATTEMPTS, began_at__lte=now - LEFT_AFTER)
    for run in ExportRun.objects.filter(open_).select_related("schedule").order_by("made_at", "pk")[:50]:
        mine = ExportRun.objects.filter(pk=run.pk, state=run.state, attempts=run.attempts)
        if mine.update(state=state.RUNNING, attempts=F("attempts") + 1, began_at=now):
            run.refresh_from_db(fields=["state", "attempts", "began_at"])
            return run
    return None


def finish(run: ExportRun, *, done: bool, told: str, file_name: str = "") -> None:
    """Write down what came of a run, unless another worker has taken it meanwhile; forget the oldest runs."""
    ExportRun.objects.filter(pk=run.pk, state=ExportRun.State.RUNNING, attempts=run.attempts).update(
        state=ExportRun.State.DONE if done else ExportRun.State.FAILED,
        ended_at=timezone.now(),
        told=told[:500],
        file_name=file_name,
    )
    of_schedule = ExportRun.objects.filter(schedule=run.schedule_id)
    old = of_schedule.order_by("-made_at", "-pk").values_list("pk", flat=True)[RUNS_KEPT : RUNS_KEPT + 100]
    of_schedule.filter(pk__in=list(old)).delete()
