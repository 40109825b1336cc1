"""Terms of clients, and statements, which nobody changes."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from clients.append_only import STATEMENTS_SAY, AppendOnly


class Migration(migrations.Migration):
    dependencies = [
        ("clients", "0008_statement_settings"),
        ("usage", "0009_packed_rollups"),
    ]

    operations = [
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("monthly_fee", models.BigIntegerField(default=0)),
                (
                    "included",
                    models.BigIntegerField(
                        default=0,
                        help_text="So much of what calls are charged is in the fee.",
                        verbose_name="included usage",
                    ),
                ),
                ("minimum", models.BigIntegerField(default=0, help_text="A month costs no less.")),
                ("session_price", models.BigIntegerField(default=0, verbose_name="price of a WhatsApp session")),
                (
                    "currency",
                    models.CharField(
                        default="USD",
                        help_text="What statements are made out in, such as EUR.",
                        max_length=3,
                        validators=[
                            django.core.validators.RegexValidator("^[A-Z]{3}$", "Three capital letters, such as EUR.")
                        ],
                    ),
                ),
                (
                    "rate",
                    models.BigIntegerField(
                        default=1000000,
                        help_text="Millionths of a unit of the currency for one US dollar.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000000),
                        ],
                    ),
                ),
                ("number", models.PositiveIntegerField(unique=True)),
                ("client_name", models.CharField(max_length=200)),
                ("client_company", models.CharField(blank=True, max_length=200)),
                ("month", models.DateField(help_text="Its first day.")),
                ("start", models.DateTimeField()),
                ("end", models.DateTimeField()),
                ("zone", models.CharField(max_length=64)),
                ("agency_name", models.CharField(blank=True, max_length=100)),
                ("agency_address", models.TextField(blank=True)),
                ("tax_label", models.CharField(blank=True, max_length=40)),
                ("tax_points", models.PositiveIntegerField(default=0, help_text="Hundredths of a percent.")),
                ("net", models.BigIntegerField(help_text="In the smallest unit of the currency; so below.")),
                ("tax", models.BigIntegerField()),
                ("gross", models.BigIntegerField()),
                ("closed_at", models.DateTimeField()),
                ("closed_by", models.CharField(blank=True, max_length=150)),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="statements", to="clients.client"
                    ),
                ),
            ],
            options={
                "ordering": ["-number"],
            },
        ),
        migrations.CreateModel(
            name="StatementLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("usage", "usage"),
                            ("included", "included"),
                            ("sessions", "sessions"),
                            ("fee", "fee"),
                            ("minimum", "minimum"),
                            ("adjustment", "adjustment"),
                            ("workflow", "workflow"),
                        ],
                        max_length=10,
                    ),
                ),
                ("title", models.CharField(max_length=300)),
                ("month", models.DateField(help_text="Whose usage it is for: an earlier one's in an adjustment.")),
                ("calls", models.BigIntegerField(default=0)),
                ("sessions", models.BigIntegerField(default=0)),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                (
                    "cost",
                    models.BigIntegerField(
                        default=0, help_text="What providers took, picodollars. Never shown to the client."
                    ),
                ),
                ("charge", models.BigIntegerField(default=0, help_text="What the calls were charged, picodollars.")),
                ("amount", models.BigIntegerField(default=0, help_text="What is paid for it, picodollars.")),
                ("minor", models.BigIntegerField(default=0, help_text="The same in the currency's smallest unit.")),
                (
                    "statement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="lines", to="usage.statement"
                    ),
                ),
            ],
            options={
                "ordering": ["statement", "position"],
            },
        ),
        migrations.CreateModel(
            name="Terms",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("monthly_fee", models.BigIntegerField(default=0)),
                (
                    "included",
                    models.BigIntegerField(
                        default=0,
                        help_text="So much of what calls are charged is in the fee.",
                        verbose_name="included usage",
                    ),
                ),
                ("minimum", models.BigIntegerField(default=0, help_text="A month costs no less.")),
                ("session_price", models.BigIntegerField(default=0, verbose_name="price of a WhatsApp session")),
                (
                    "currency",
                    models.CharField(
                        default="USD",
                        help_text="What statements are made out in, such as EUR.",
                        max_length=3,
                        validators=[
                            django.core.validators.RegexValidator("^[A-Z]{3}$", "Three capital letters, such as EUR.")
                        ],
                    ),
                ),
                (
                    "rate",
                    models.BigIntegerField(
                        default=1000000,
                        help_text="Millionths of a unit of the currency for one US dollar.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000000),
                        ],
                    ),
                ),
                (
                    "since",
                    models.DateField(help_text="The first month that they hold for.", verbose_name="from the month of"),
                ),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="terms", to="clients.client"
                    ),
                ),
            ],
            options={
                "verbose_name": "terms",
                "verbose_name_plural": "terms",
                "ordering": ["client", "-since"],
            },
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.UniqueConstraint(fields=("client", "month"), name="statement_once_a_month"),
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.CheckConstraint(condition=models.Q(("number__gte", 1)), name="statement_numbered"),
        ),
        migrations.AddConstraint(
            model_name="statementline",
            constraint=models.UniqueConstraint(fields=("statement", "position"), name="statement_line_once"),
        ),
        migrations.AddConstraint(
            model_name="terms",
            constraint=models.UniqueConstraint(fields=("client", "since"), name="terms_once_a_month"),
        ),
        migrations.AddConstraint(
            model_name="terms",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("included__gte", 0),
                    ("included__lte", 1000000000000000000),
                    ("minimum__gte", 0),
                    ("minimum__lte", 1000000000000000000),
                    ("monthly_fee__gte", 0),
                    ("monthly_fee__lte", 1000000000000000000),
                    ("session_price__gte", 0),
                    ("session_price__lte", 1000000000000000000),
                ),
                name="terms_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="terms",
            constraint=models.CheckConstraint(condition=models.Q(("rate__gte", 1)), name="terms_rate_positive"),
        ),
        AppendOnly("usage_statement", STATEMENTS_SAY),
        AppendOnly("usage_statementline", STATEMENTS_SAY),
    ]
