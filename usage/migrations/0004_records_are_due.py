"""Records that were there before rollups wait for them; the worker takes them from here."""

from itertools import islice

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def put_all_down(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """List all records as due, those of a time together."""
    records = apps.get_model("usage", "UsageRecord").objects.order_by("admitted_at")
    due = apps.get_model("usage", "RollupDue").objects
    found = records.values_list("request_id", "admitted_at").iterator(chunk_size=2_000)
    while some := list(islice(found, 2_000)):
        due.create(earliest=some[0][1], latest=some[-1][1], ids=b"".join(id.bytes for id, _ in some))


class Migration(migrations.Migration):
    dependencies = [("usage", "0003_rollups")]

    operations = [migrations.RunPython(put_all_down, migrations.RunPython.noop)]
