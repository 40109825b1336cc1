"""The one row of settings that owners change."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clients", "0006_runaway_brake"),
    ]

    operations = [
        migrations.CreateModel(
            name="Agency",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                (
                    "name",
                    models.CharField(
                        blank=True,
                        help_text="Clients see it where a key is handed over, colleagues where they are invited.",
                        max_length=100,
                        validators=[
                            django.core.validators.RegexValidator(
                                "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
                                "Control characters are not allowed.",
                                inverse_match=True,
                            )
                        ],
                        verbose_name="agency name",
                    ),
                ),
                (
                    "second_factor_required",
                    models.BooleanField(
                        default=False,
                        help_text="Nobody works here without an app or a passkey; without one you set it up first.",
                        verbose_name="second factor for everyone",
                    ),
                ),
            ],
            options={
                "verbose_name": "settings",
                "verbose_name_plural": "settings",
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="agency_single_row")],
            },
        ),
    ]
