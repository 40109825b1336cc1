import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import clients.models
from pricing.watch import WatchTable


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("pricing", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Client",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=200,
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
                ("email", models.EmailField(blank=True, max_length=254)),
                (
                    "company",
                    models.CharField(
                        blank=True,
                        max_length=200,
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
                    "phone",
                    models.CharField(
                        blank=True,
                        max_length=50,
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
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended"), ("inactive", "Archived")],
                        default="active",
                        max_length=10,
                    ),
                ),
                (
                    "status_reason",
                    models.CharField(
                        blank=True,
                        max_length=200,
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
                    "markup_bp",
                    models.IntegerField(
                        default=0,
                        help_text="On the provider's cost, in hundredths of a percent.",
                        validators=[
                            django.core.validators.MinValueValidator(-10000),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                        verbose_name="markup",
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(
                        default=clients.models.default_time_zone,
                        help_text="Days and longer cycles follow the calendar there.",
                        max_length=64,
                        validators=[clients.models.check_time_zone],
                    ),
                ),
                (
                    "cycle_start_day",
                    models.PositiveSmallIntegerField(
                        default=1,
                        help_text="Of months (31: the last day); of weeks, 1 is Monday, 8 again.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(31),
                        ],
                    ),
                ),
                ("notes", models.TextField(blank=True, max_length=10000)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="clients",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=django.db.models.lookups.GreaterThan(
                            django.db.models.functions.text.Length(django.db.models.functions.text.Trim("name")), 0
                        ),
                        name="client_name_not_blank",
                        violation_error_message="The name must not be blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["active", "suspended", "inactive"])),
                        name="client_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("markup_bp__gte", -10000), ("markup_bp__lte", 1000000)),
                        name="client_markup_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycle_start_day__gte", 1), ("cycle_start_day__lte", 31)),
                        name="client_start_day_in_month",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("time_zone", ""), _negated=True), name="client_time_zone_given"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "metric",
                    models.CharField(
                        choices=[
                            ("requests", "Requests"),
                            ("tokens", "Tokens"),
                            ("credits", "Credits (USD charged)"),
                            ("sessions", "WhatsApp sessions"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "amount",
                    models.BigIntegerField(
                        help_text="Credits: picodollars of charge.",
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                (
                    "cycle",
                    models.CharField(
                        choices=[
                            ("minute", "a minute"),
                            ("hour", "an hour"),
                            ("day", "a day"),
                            ("week", "a week"),
                            ("month", "a month"),
                            ("total", "in total"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="limits", to="clients.client"
                    ),
                ),
            ],
            options={
                "ordering": ["client", "metric", "cycle"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("client", "metric", "cycle"),
                        name="limit_once_per_metric_and_cycle",
                        violation_error_message="There is already a limit for this metric and cycle.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("metric__in", ["requests", "tokens", "credits", "sessions"])),
                        name="limit_metric_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycle__in", ["minute", "hour", "day", "week", "month", "total"])),
                        name="limit_cycle_known",
                    ),
                    models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="limit_amount_not_negative"),
                ],
            },
        ),
        WatchTable("clients_client"),
        WatchTable("clients_limit"),
    ]
