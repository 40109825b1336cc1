import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from pricing.watch import WatchTable


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0001_initial"),
        ("pricing", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="keyuse",
            name="last_address",
            field=models.CharField(blank=True, help_text="From where it was last used.", max_length=45),
        ),
        migrations.AddField(
            model_name="keyuse",
            name="last_user_agent",
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.CreateModel(
            name="AllowedModel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="allowed_models", to="keys.apikey"
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="pricing.model"
                    ),
                ),
            ],
        ),
        # It has no column, and SQLite would make the table anew for it, without its triggers
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="apikey",
                    name="models",
                    field=models.ManyToManyField(
                        blank=True,
                        help_text="The only models that may be used with it; none chosen: all.",
                        related_name="+",
                        through="keys.AllowedModel",
                        to="pricing.model",
                    ),
                ),
            ]
        ),
        migrations.CreateModel(
            name="ExpiryNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("days", models.PositiveSmallIntegerField()),
                ("sent_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="expiry_notices", to="keys.apikey"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Handover",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                ("ciphertext", models.TextField(blank=True, editable=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("opened_at", models.DateTimeField(editable=False, null=True)),
                ("opened_address", models.CharField(blank=True, editable=False, max_length=45)),
                ("opened_user_agent", models.CharField(blank=True, editable=False, max_length=200)),
                ("told_at", models.DateTimeField(editable=False, help_text="When the opening was mailed.", null=True)),
                ("withdrawn_at", models.DateTimeField(editable=False, null=True)),
                (
                    "key",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="handover", to="keys.apikey"
                    ),
                ),
                (
                    "made_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "hand-over link",
            },
        ),
        migrations.AddConstraint(
            model_name="allowedmodel",
            constraint=models.UniqueConstraint(fields=("key", "model"), name="allowed_model_once_per_key"),
        ),
        migrations.AddConstraint(
            model_name="expirynotice",
            constraint=models.UniqueConstraint(fields=("key", "days"), name="expiry_notice_once"),
        ),
        migrations.AddConstraint(
            model_name="handover",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("digest"), 32),
                name="handover_digest_is_sha256",
            ),
        ),
        migrations.AddConstraint(
            model_name="handover",
            constraint=models.CheckConstraint(
                condition=models.Q(("expires_at__gt", models.F("created_at"))), name="handover_expires_after_creation"
            ),
        ),
        migrations.AddConstraint(
            model_name="handover",
            constraint=models.CheckConstraint(
                condition=models.Q(("opened_at__isnull", True), ("withdrawn_at__isnull", True), _connector="OR"),
                name="handover_opened_or_withdrawn",
            ),
        ),
        migrations.AddConstraint(
            model_name="handover",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("ciphertext", ""),
                    models.Q(("opened_at__isnull", True), ("withdrawn_at__isnull", True)),
                    _connector="OR",
                ),
                name="handover_over_holds_nothing",
            ),
        ),
        WatchTable("keys_allowedmodel"),
    ]
