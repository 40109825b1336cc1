"""Rollups of usage, and the list of the records that wait for them."""

import django.db.models.deletion
import django.db.models.functions.comparison
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clients", "0004_audit_entries"),
        ("keys", "0003_limits_of_keys"),
        ("pricing", "0004_names_once_per_scope"),
        ("usage", "0002_charge_in_index"),
    ]

    operations = [
        migrations.CreateModel(
            name="RollupDue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "grain",
                    models.CharField(
                        default="all", help_text="'all', 'hour', or the time zone of the days.", max_length=64
                    ),
                ),
                ("earliest", models.DateTimeField(help_text="No record among them was admitted before.")),
                ("latest", models.DateTimeField(help_text="Nor after.")),
                ("ids", models.BinaryField(help_text="Request ids, 16 bytes each.")),
            ],
            options={
                "verbose_name_plural": "rollups due",
            },
        ),
        migrations.CreateModel(
            name="UsageSeries",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("endpoint", models.CharField(max_length=60)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("ok", "OK"),
                            ("client_gone", "Client hung up"),
                            ("broken", "Stream broke"),
                            ("rejected", "Rejected by the provider"),
                            ("interrupted", "Interrupted"),
                            ("refused", "Refused"),
                            ("upstream_error", "Provider error"),
                        ],
                        max_length=20,
                    ),
                ),
                ("estimated", models.BooleanField()),
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
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="keys.apikey",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="pricing.model",
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="pricing.provider",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "usage series",
            },
        ),
        migrations.CreateModel(
            name="UsageRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("part", models.PositiveSmallIntegerField(default=0)),
                ("calls", models.BigIntegerField(default=0)),
                ("sessions", models.BigIntegerField(default=0, help_text="Opened.")),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("cached_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                ("audio_input_tokens", models.BigIntegerField(default=0)),
                ("audio_output_tokens", models.BigIntegerField(default=0)),
                ("cost", models.BigIntegerField(default=0)),
                ("charge", models.BigIntegerField(default=0)),
                ("grain", models.CharField(help_text="'hour', or the time zone whose day it is.", max_length=64)),
                ("start", models.DateTimeField()),
                ("latency", models.BinaryField(default=b"", help_text="A histogram of usage.histograms.")),
                ("first_byte", models.BinaryField(default=b"", help_text="A histogram of usage.histograms.")),
                (
                    "series",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="usage.usageseries",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="RolledZone",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("zone", models.CharField(max_length=64)),
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
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("client", "zone"), name="usage_rolled_zone_once")],
            },
        ),
        migrations.CreateModel(
            name="TagRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("part", models.PositiveSmallIntegerField(default=0)),
                ("calls", models.BigIntegerField(default=0)),
                ("sessions", models.BigIntegerField(default=0, help_text="Opened.")),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("cached_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                ("audio_input_tokens", models.BigIntegerField(default=0)),
                ("audio_output_tokens", models.BigIntegerField(default=0)),
                ("cost", models.BigIntegerField(default=0)),
                ("charge", models.BigIntegerField(default=0)),
                ("grain", models.CharField(help_text="The time zone whose day it is.", max_length=64)),
                ("start", models.DateTimeField()),
                ("tag", models.CharField(choices=[("workflow", "Workflow"), ("env", "Environment")], max_length=10)),
                ("value", models.CharField(max_length=200)),
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
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("grain", "start", "client", "tag", "value", "part"), name="usage_tag_rollup_once"
                    )
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="usageseries",
            constraint=models.UniqueConstraint(
                models.F("client"),
                django.db.models.functions.comparison.Coalesce("key", 0, output_field=models.BigIntegerField()),
                django.db.models.functions.comparison.Coalesce("provider", 0, output_field=models.BigIntegerField()),
                django.db.models.functions.comparison.Coalesce("model", 0, output_field=models.BigIntegerField()),
                models.F("endpoint"),
                models.F("outcome"),
                models.F("estimated"),
                name="usage_series_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="usagerollup",
            constraint=models.UniqueConstraint(fields=("grain", "start", "series", "part"), name="usage_rollup_once"),
        ),
    ]
