"""Cost reports that go out by the clock, and what came of each."""

import datetime

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import clients.models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0007_outcome_in_indexes"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExportSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=100,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
                                "Control characters are not allowed.",
                                inverse_match=True,
                            )
                        ],
                    ),
                ),
                (
                    "group_by",
                    models.CharField(blank=True, default="client", max_length=100, verbose_name="a row for each"),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[
                            ("day", "The day before"),
                            ("week", "The week before, from Monday"),
                            ("month", "The month before"),
                        ],
                        default="month",
                        max_length=10,
                        verbose_name="report of",
                    ),
                ),
                (
                    "zone",
                    models.CharField(
                        default=clients.models.default_time_zone,
                        max_length=64,
                        validators=[clients.models.check_time_zone],
                        verbose_name="days of",
                    ),
                ),
                (
                    "at",
                    models.TimeField(
                        default=datetime.time(6, 0),
                        help_text="There, on the day after. Late enough that the last calls are recorded.",
                        verbose_name="at",
                    ),
                ),
                (
                    "bom",
                    models.BooleanField(
                        default=True, help_text="A byte order mark, so that it reads ü and €.", verbose_name="for Excel"
                    ),
                ),
                ("decimal_comma", models.BooleanField(default=False, help_text="0,5 for 0.5, and ; between columns.")),
                (
                    "destination",
                    models.CharField(
                        choices=[("mail", "By mail"), ("file", "To a file, to be taken from this page")],
                        default="file",
                        max_length=10,
                        verbose_name="where to",
                    ),
                ),
                (
                    "addresses",
                    models.TextField(
                        blank=True,
                        help_text="E-mail addresses, separated by commas. Only where it is mailed.",
                        max_length=2000,
                        verbose_name="to",
                    ),
                ),
                (
                    "keep",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        help_text="The oldest beyond so many are deleted. Empty: all are kept.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                        verbose_name="files kept",
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("since", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "verbose_name": "scheduled export",
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True), name="export_schedule_named"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("period__in", ["day", "week", "month"])), name="export_period_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("destination__in", ["mail", "file"])), name="export_destination_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("destination", "file"), models.Q(("addresses", ""), _negated=True), _connector="OR"
                        ),
                        name="export_mailed_to_somebody",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ExportRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first", models.DateField()),
                ("last", models.DateField()),
                ("by_hand", models.BooleanField(default=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("made_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("began_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("told", models.CharField(blank=True, help_text="What came of it, in words.", max_length=500)),
                (
                    "file_name",
                    models.CharField(
                        blank=True, help_text="In the folder of exports, while it is there.", max_length=255
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="runs", to="usage.exportschedule"
                    ),
                ),
            ],
            options={
                "ordering": ["-made_at", "-pk"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("by_hand", False)),
                        fields=("schedule", "first", "last"),
                        name="export_run_once_a_period",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["waiting", "running", "done", "failed"])),
                        name="export_run_state_known",
                    ),
                ],
            },
        ),
    ]
