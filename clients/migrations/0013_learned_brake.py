"""A client's runaway brake may go by what is usual for it."""

import django.core.validators
from django.db import migrations, models

from pricing.watch import WatchTableAgain

WATCHED = WatchTableAgain("clients_client")  # SQLite makes the table anew, without its triggers


class Migration(migrations.Migration):
    dependencies = [("clients", "0012_logo"), ("pricing", "0004_names_once_per_scope")]

    operations = [
        WATCHED,
        migrations.AddField(
            model_name="client",
            name="brake_times",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="More than so many times the calls of its usual busy minute are a loop, too. Blank: off.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(2),
                    django.core.validators.MaxValueValidator(1000),
                ],
                verbose_name="beyond the usual",
            ),
        ),
        migrations.AddConstraint(
            model_name="client",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("brake_times", None),
                    models.Q(("brake_times__gte", 2), ("brake_times__lte", 1000)),
                    _connector="OR",
                ),
                name="client_brake_times_in_range",
            ),
        ),
        WATCHED,
    ]
