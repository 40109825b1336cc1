import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from pricing.watch import WatchTableAgain

WATCHED = [WatchTableAgain(f"pricing_{table}") for table in ("provider", "model", "price")]


class Migration(migrations.Migration):
    dependencies = [
        ("pricing", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        *WATCHED,
        migrations.AddField(
            model_name="provider",
            name="billed_to_client",
            field=models.BooleanField(
                default=False,
                help_text="The provider bills a client, not you. It serves only clients that it is given to.",
                verbose_name="client's own account",
            ),
        ),
        migrations.AlterField(model_name="provider", name="name", field=models.CharField(max_length=100)),
        migrations.AlterField(
            model_name="provider",
            name="owner",
            field=models.ForeignKey(
                blank=True,
                help_text="Whose clients it serves; empty: everybody's.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="providers",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="model",
            name="scope",
            field=models.CharField(default="shared", editable=False, max_length=40),
        ),
        migrations.AlterField(
            model_name="model",
            name="name",
            field=models.CharField(
                help_text="What clients ask for. n8n's embedding node lists only names that contain “embed”.",
                max_length=200,
                validators=[
                    django.core.validators.RegexValidator(
                        "\\A[!-~]+\\Z", "Visible ASCII characters only, without spaces."
                    )
                ],
            ),
        ),
        migrations.AddField(
            model_name="price",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        *WATCHED,
    ]
