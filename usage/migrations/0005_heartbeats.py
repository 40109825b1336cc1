"""Signs of life of the processes that nobody calls."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0004_records_are_due"),
    ]

    operations = [
        migrations.CreateModel(
            name="Heartbeat",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("process", models.CharField(choices=[("ingest", "ingest"), ("worker", "worker")], max_length=10)),
                ("host", models.CharField(max_length=255)),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["process", "host"],
                "constraints": [
                    models.UniqueConstraint(fields=("process", "host"), name="heartbeat_once_per_host"),
                    models.CheckConstraint(
                        condition=models.Q(("process__in", ["ingest", "worker"])), name="heartbeat_process_known"
                    ),
                ],
            },
        ),
    ]
