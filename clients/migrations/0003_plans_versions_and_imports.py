import uuid

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from pricing.watch import WatchTableAgain

WATCHED = WatchTableAgain("clients_client")  # SQLite makes the table anew, without its triggers


class Migration(migrations.Migration):
    dependencies = [
        ("clients", "0002_membership"),
        ("pricing", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        WATCHED,
        migrations.AddField(
            model_name="client",
            name="changed_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.AddField(
            model_name="client",
            name="onboarding_token",
            field=models.UUIDField(
                blank=True,
                editable=False,
                help_text="Of the form that made it: sent twice, made once.",
                null=True,
                unique=True,
            ),
        ),
        migrations.AddField(
            model_name="client",
            name="plan_terms",
            field=models.TextField(
                blank=True,
                editable=False,
                help_text="What was last copied from the plan, as `clients.plans.terms` writes it.",
            ),
        ),
        migrations.AddField(
            model_name="client",
            name="provider",
            field=models.ForeignKey(
                blank=True,
                help_text="The client's own account at a provider. Blank: yours.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="clients_of_own",
                to="pricing.provider",
            ),
        ),
        migrations.AddField(
            model_name="client",
            name="version",
            field=models.PositiveBigIntegerField(
                default=0,
                editable=False,
                help_text="Moves up with every change, so that a form knows when it is out of date.",
            ),
        ),
        migrations.CreateModel(
            name="ImportDraft",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("file_name", models.CharField(max_length=200)),
                ("content", models.BinaryField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "sender",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Plan",
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
                ("description", models.TextField(blank=True, max_length=2000)),
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
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=django.db.models.lookups.GreaterThan(
                            django.db.models.functions.text.Length(django.db.models.functions.text.Trim("name")), 0
                        ),
                        name="plan_name_not_blank",
                        violation_error_message="The name must not be blank.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("markup_bp__gte", -10000), ("markup_bp__lte", 1000000)),
                        name="plan_markup_in_range",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="client",
            name="plan",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="clients",
                to="clients.plan",
            ),
        ),
        migrations.CreateModel(
            name="PlanLimit",
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
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="limits", to="clients.plan"
                    ),
                ),
            ],
            options={
                "ordering": ["plan", "metric", "cycle"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("metric__in", ["requests", "tokens", "credits", "sessions"])),
                        name="planlimit_metric_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycle__in", ["minute", "hour", "day", "week", "month", "total"])),
                        name="planlimit_cycle_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount__gte", 0)), name="planlimit_amount_not_negative"
                    ),
                    models.UniqueConstraint(
                        fields=("plan", "metric", "cycle"),
                        name="planlimit_once_per_metric_and_cycle",
                        violation_error_message="There is already a limit for this metric and cycle.",
                    ),
                ],
            },
        ),
        WATCHED,
    ]
