from django.db import migrations, models

from pricing.watch import WatchTableAgain

WATCHED = [WatchTableAgain(f"pricing_{table}") for table in ("provider", "model")]


class Migration(migrations.Migration):
    dependencies = [("pricing", "0003_models_in_their_scope")]

    operations = [
        *WATCHED,
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.UniqueConstraint(
                condition=models.Q(("owner", None)),
                fields=("name",),
                name="provider_name_once_shared",
                violation_error_message="There is already a provider of that name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.UniqueConstraint(
                fields=("owner", "name"),
                name="provider_name_once_per_owner",
                violation_error_message="There is already a provider of that name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "sandbox"), _negated=True),
                    models.Q(("billed_to_client", False), ("owner__isnull", True)),
                    _connector="OR",
                ),
                name="provider_sandbox_shared",
                violation_error_message="The sandbox is everybody's: it has no owner and bills nobody.",
            ),
        ),
        migrations.AddConstraint(
            model_name="model",
            constraint=models.UniqueConstraint(fields=("scope", "name"), name="model_name_once_per_scope"),
        ),
        *WATCHED,
    ]
