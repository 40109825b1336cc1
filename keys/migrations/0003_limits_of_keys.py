import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from pricing.watch import WatchTable


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0002_hand_over_and_allowed_models"),
    ]

    operations = [
        migrations.CreateModel(
            name="KeyLimit",
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
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="limits", to="keys.apikey"
                    ),
                ),
            ],
            options={
                "verbose_name": "limit of a key",
                "verbose_name_plural": "limits of keys",
                "ordering": ["key", "metric", "cycle"],
                "abstract": False,
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("metric__in", ["requests", "tokens", "credits", "sessions"])),
                        name="keylimit_metric_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycle__in", ["minute", "hour", "day", "week", "month", "total"])),
                        name="keylimit_cycle_known",
                    ),
                    models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="keylimit_amount_not_negative"),
                    models.UniqueConstraint(
                        fields=("key", "metric", "cycle"),
                        name="keylimit_once_per_metric_and_cycle",
                        violation_error_message="There is already a limit for this metric and cycle.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("metric", "sessions"), _negated=True),
                        name="keylimit_not_of_sessions",
                        violation_error_message="WhatsApp sessions are limited for a client, whose keys share them.",
                    ),
                ],
            },
        ),
        WatchTable("keys_keylimit"),
    ]
