"""What statements say of the agency."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clients", "0007_agency_settings"),
    ]

    operations = [
        migrations.AddField(
            model_name="agency",
            name="address",
            field=models.TextField(
                blank=True,
                help_text="On statements, below the name; a tax number too where one has to be told.",
                max_length=500,
            ),
        ),
        migrations.AddField(
            model_name="agency",
            name="tax_label",
            field=models.CharField(
                blank=True,
                help_text="Such as VAT 19 %, on statements.",
                max_length=40,
                validators=[
                    django.core.validators.RegexValidator(
                        "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
                        "Control characters are not allowed.",
                        inverse_match=True,
                    )
                ],
                verbose_name="tax",
            ),
        ),
        migrations.AddField(
            model_name="agency",
            name="tax_points",
            field=models.PositiveIntegerField(
                default=0,
                help_text="In hundredths of a percent: 1900 is 19 %.",
                validators=[django.core.validators.MaxValueValidator(10000)],
                verbose_name="tax rate",
            ),
        ),
    ]
