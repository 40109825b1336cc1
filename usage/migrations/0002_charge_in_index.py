"""The charge stands in the index of clients: the list of clients sums it without reading the records."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["client", "admitted_at", "charge"], name="usage_by_client_with_charge"),
        ),
        migrations.RemoveIndex(model_name="usagerecord", name="usage_by_client"),
    ]
