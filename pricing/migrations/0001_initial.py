import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import pricing.fields
from pricing.watch import WatchTable


def start_counting(apps, schema_editor):
    """An installation that nothing was configured in has a version too: 0."""
    apps.get_model("pricing", "ConfigVersion").objects.using(schema_editor.connection.alias).get_or_create(id=1)


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ConfigVersion",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("version", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="config_version_single_row")
                ],
            },
        ),
        migrations.CreateModel(
            name="Provider",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("openai", "OpenAI-compatible"),
                            ("sandbox", "Sandbox (answered by the gateway itself)"),
                        ],
                        default="openai",
                        max_length=20,
                    ),
                ),
                (
                    "base_url",
                    models.CharField(
                        blank=True,
                        help_text="Ends in the version: https://api.openai.com/v1. Blank for the sandbox.",
                        max_length=500,
                        verbose_name="base URL",
                    ),
                ),
                ("credential_encrypted", models.TextField(blank=True, editable=False)),
                ("credential_hint", models.CharField(blank=True, editable=False, max_length=4)),
                (
                    "connect_timeout",
                    models.PositiveIntegerField(
                        default=5, help_text="Seconds.", validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "first_byte_timeout",
                    models.PositiveIntegerField(
                        default=600, help_text="Seconds.", validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "idle_timeout",
                    models.PositiveIntegerField(
                        default=300,
                        help_text="Seconds between two pieces of an answer.",
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                (
                    "total_timeout",
                    models.PositiveIntegerField(
                        default=1800,
                        help_text="Seconds for a whole call.",
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="providers",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Model",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="What clients ask for. n8n's embedding node lists only names that contain “embed”.",
                        max_length=200,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[!-~]+\\Z", "Visible ASCII characters only, without spaces."
                            )
                        ],
                    ),
                ),
                (
                    "upstream_name",
                    models.CharField(
                        blank=True, help_text="The provider's own name, where it is another one.", max_length=200
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                (
                    "free",
                    models.BooleanField(
                        default=False, help_text="Costs nothing. A model neither free nor priced is refused."
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="models", to="pricing.provider"
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Price",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("effective_from", models.DateTimeField(default=django.utils.timezone.now)),
                ("service_tier", models.CharField(default="default", max_length=30)),
                (
                    "above_tokens",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="0, or a long-context step: these rates hold for whole calls with more input tokens.",
                    ),
                ),
                ("input", pricing.fields.RateField()),
                ("cached_input", pricing.fields.RateField(blank=True, null=True)),
                ("cache_write", pricing.fields.RateField(blank=True, null=True)),
                ("output", pricing.fields.RateField()),
                ("audio_input", pricing.fields.RateField(blank=True, null=True)),
                ("audio_output", pricing.fields.RateField(blank=True, null=True)),
                (
                    "source",
                    models.CharField(
                        choices=[("catalogue", "Catalogue"), ("operator", "Operator")],
                        default="operator",
                        editable=False,
                        max_length=20,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="prices", to="pricing.model"
                    ),
                ),
            ],
            options={
                "ordering": ["model", "service_tier", "-effective_from", "above_tokens"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("model", "service_tier", "above_tokens", "effective_from"), name="price_one_per_step"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("service_tier", ""), _negated=True),
                            models.Q(("service_tier", "auto"), _negated=True),
                        ),
                        name="price_tier_named",
                        violation_error_message="A price is for a tier that serves calls; “auto” is not one.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("above_tokens__gte", 0)), name="price_above_tokens_not_negative"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("source__in", ["catalogue", "operator"])), name="price_source_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("input__gte", 0), ("input__lte", 1000000000000)),
                        name="price_input_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("output__gte", 0), ("output__lte", 1000000000000)),
                        name="price_output_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("cached_input__gte", 0), ("cached_input__lte", 1000000000000)),
                            ("cached_input__isnull", True),
                            _connector="OR",
                        ),
                        name="price_cached_input_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("cache_write__gte", 0), ("cache_write__lte", 1000000000000)),
                            ("cache_write__isnull", True),
                            _connector="OR",
                        ),
                        name="price_cache_write_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("audio_input__gte", 0), ("audio_input__lte", 1000000000000)),
                            ("audio_input__isnull", True),
                            _connector="OR",
                        ),
                        name="price_audio_input_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("audio_output__gte", 0), ("audio_output__lte", 1000000000000)),
                            ("audio_output__isnull", True),
                            _connector="OR",
                        ),
                        name="price_audio_output_in_range",
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True), name="provider_name_given"
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "sandbox"), ("base_url", "")),
                    models.Q(("kind", "openai"), models.Q(("base_url", ""), _negated=True)),
                    _connector="OR",
                ),
                name="provider_base_url_by_kind",
                violation_error_message="The sandbox has no base URL, every other provider has one.",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(("base_url__endswith", "/"), _negated=True), name="provider_base_url_no_slash"
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("credential_hint", ""), models.Q(("credential_encrypted", ""), _negated=True), _connector="OR"
                ),
                name="provider_hint_of_credential",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("connect_timeout__gte", 1),
                    ("first_byte_timeout__gte", 1),
                    ("idle_timeout__gte", 1),
                    ("total_timeout__gte", 1),
                ),
                name="provider_timeouts_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="model",
            constraint=models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="model_name_given"),
        ),
        WatchTable("pricing_provider"),
        WatchTable("pricing_model"),
        WatchTable("pricing_price"),
        migrations.RunPython(start_counting, migrations.RunPython.noop),
    ]
