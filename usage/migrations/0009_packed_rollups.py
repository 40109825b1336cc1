"""Rollups keep all series of a client in one row. They are made anew: all records are due."""

from itertools import islice

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def list_all_anew(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Empty what else is rolled up, and list all records as due, those of a time together."""
    apps.get_model("usage", "TagRollup").objects.all().delete()
    due = apps.get_model("usage", "RollupDue").objects
    due.all().delete()
    records = apps.get_model("usage", "UsageRecord").objects.order_by("admitted_at")
    found = records.values_list("request_id", "admitted_at").iterator(chunk_size=2_000)
    while some := list(islice(found, 2_000)):
        due.create(earliest=some[0][1], latest=some[-1][1], ids=b"".join(id.bytes for id, _ in some))


class Migration(migrations.Migration):
    dependencies = [("clients", "0007_agency_settings"), ("usage", "0008_scheduled_exports")]

    operations = [
        migrations.DeleteModel("UsageRollup"),
        migrations.CreateModel(
            name="UsageRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("grain", models.CharField(help_text="'hour', or the time zone whose day it is.", max_length=64)),
                ("start", models.DateTimeField()),
                (
                    "client",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="clients.client",
                    ),
                ),
                ("rows", models.BinaryField(help_text="Series with their amounts: a pack of usage.packs.")),
                ("latency", models.BinaryField(help_text="Their histograms, one behind the other.")),
                ("first_byte", models.BinaryField(help_text="Likewise.")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("grain", "start", "client"), name="usage_rollup_once")],
            },
        ),
        migrations.RunPython(list_all_anew, list_all_anew),
    ]
