"""A client may have a runaway brake."""

import django.core.validators
from django.db import migrations, models

from pricing.watch import WatchTableAgain

WATCHED = WatchTableAgain("clients_client")  # SQLite makes the table anew, without its triggers


class Migration(migrations.Migration):
    dependencies = [("clients", "0005_access_tokens")]

    operations = [
        WATCHED,
        migrations.AddField(
            model_name="client",
            name="brake_action",
            field=models.CharField(
                choices=[("slow", "slow it down to that rate"), ("stop", "stop it until it was quiet for 5 minutes")],
                default="slow",
                max_length=4,
                verbose_name="above it",
            ),
        ),
        migrations.AddField(
            model_name="client",
            name="brake_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="A workflow, or a WhatsApp user, with more calls a minute is taken for a loop. Blank: off.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(100_000),
                ],
                verbose_name="runaway brake",
            ),
        ),
        migrations.AddConstraint(
            model_name="client",
            constraint=models.CheckConstraint(
                condition=models.Q(brake_per_minute=None)
                | models.Q(brake_per_minute__gte=1, brake_per_minute__lte=100_000),
                name="client_brake_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="client",
            constraint=models.CheckConstraint(
                condition=models.Q(brake_action__in=["slow", "stop"]), name="client_brake_known"
            ),
        ),
        WATCHED,
    ]
