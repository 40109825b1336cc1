"""Outcome and charge stand in the indexes of clients and keys: a month of either is summed without its records."""

from django.db import migrations, models

SUMMED = ["admitted_at", "outcome", "charge"]


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_client_links")]

    operations = [
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["client", *SUMMED], name="usage_by_client_summed"),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["key", *SUMMED], name="usage_by_key_summed"),
        ),
        migrations.RemoveIndex(model_name="usagerecord", name="usage_by_client_with_charge"),
        migrations.RemoveIndex(model_name="usagerecord", name="usage_by_key"),
    ]
