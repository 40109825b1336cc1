import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.db.models.lookups
import django.utils.timezone
from django.db import migrations, models

from pricing.watch import WatchTable


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("pricing", "0001_initial"),
        ("clients", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="APIKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        blank=True,
                        help_text="What it is used for, such as the n8n instance that holds it.",
                        max_length=200,
                        validators=[
                            django.core.validators.RegexValidator(
                                "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
                                "Control characters are not allowed.",
                                inverse_match=True,
                            )
                        ],
                    ),
                ),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                ("hint", models.CharField(editable=False, max_length=24)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "revoked_reason",
                    models.CharField(
                        blank=True,
                        max_length=200,
                        validators=[
                            django.core.validators.RegexValidator(
                                "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
                                "Control characters are not allowed.",
                                inverse_match=True,
                            )
                        ],
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="keys", to="clients.client"
                    ),
                ),
                (
                    "replaced_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="replaces",
                        to="keys.apikey",
                    ),
                ),
            ],
            options={
                "verbose_name": "key",
                "ordering": ["-created_at", "-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("digest"), 32),
                        name="key_digest_is_sha256",
                    ),
                    models.CheckConstraint(condition=models.Q(("hint", ""), _negated=True), name="key_hint_given"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_at__isnull", True), ("expires_at__gt", models.F("created_at")), _connector="OR"
                        ),
                        name="key_expires_after_creation",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("revoked_reason", ""), ("revoked_at__isnull", False), _connector="OR"),
                        name="key_reason_only_if_revoked",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("replaced_by__isnull", True),
                            models.Q(("replaced_by", models.F("id")), _negated=True),
                            _connector="OR",
                        ),
                        name="key_not_replaced_by_itself",
                    ),
                    models.UniqueConstraint(fields=("replaced_by",), name="key_replaces_one_at_most"),
                ],
            },
        ),
        migrations.CreateModel(
            name="KeyUse",
            fields=[
                (
                    "key",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="use",
                        serialize=False,
                        to="keys.apikey",
                    ),
                ),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("calls", models.BigIntegerField(default=0)),
                ("tokens", models.BigIntegerField(default=0)),
                ("charge", models.BigIntegerField(default=0, help_text="Picodollars.")),
            ],
            options={
                "verbose_name": "use of a key",
                "verbose_name_plural": "uses of keys",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("calls__gte", 0), ("charge__gte", 0), ("tokens__gte", 0)),
                        name="key_use_not_negative",
                    )
                ],
            },
        ),
        WatchTable("keys_apikey"),
    ]
