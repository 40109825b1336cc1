from django.db import migrations


def into_scopes(apps, schema_editor):
    """Give the models of operators' own providers their scope, and the sandbox to everybody."""
    using = schema_editor.connection.alias
    providers = apps.get_model("pricing", "Provider").objects.using(using)
    models = apps.get_model("pricing", "Model").objects.using(using)
    for provider in providers.exclude(owner=None):
        if provider.kind == "sandbox":
            provider.owner = None
            provider.save()
        else:
            models.filter(provider=provider).update(scope=f"owner:{provider.owner_id}")


class Migration(migrations.Migration):
    dependencies = [("pricing", "0002_whose_providers")]

    operations = [migrations.RunPython(into_scopes, migrations.RunPython.noop)]
