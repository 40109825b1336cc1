"""What is usual for a client is learned, and gateways take it up."""

import django.db.models.deletion
from django.db import migrations, models

from pricing.watch import WatchTable


class Migration(migrations.Migration):
    dependencies = [("clients", "0013_learned_brake"), ("usage", "0014_agency_logo")]

    operations = [
        migrations.CreateModel(
            name="UsualPace",
            fields=[
                (
                    "client",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="usual_pace",
                        serialize=False,
                        to="clients.client",
                    ),
                ),
                ("workflows", models.JSONField(default=dict, help_text="By workflow.")),
                ("user", models.PositiveIntegerField(help_text="Of one WhatsApp user.", null=True)),
                ("learned_at", models.DateTimeField()),
            ],
        ),
        WatchTable("usage_usualpace"),
    ]
