"""The agency that runs this installation: its name, and what it demands of everybody who works here."""

from typing import Final

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q

from clients.logos import Logo
from clients.names import no_control_characters
from pricing import audit

LONGEST_NAME: Final = 100


class Agency(models.Model):
    """The one row of settings that owners change; without it, all is as its defaults say."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    name = models.CharField(
        "agency name",
        max_length=LONGEST_NAME,
        blank=True,
        validators=[no_control_characters],
        help_text="Clients see it where a key is handed over, colleagues where they are invited.",
    )
    address = models.TextField(
        max_length=500,
        blank=True,
        help_text="On statements, below the name; a tax number too where one has to be told.",
    )
    tax_label = models.CharField(
        "tax",
        max_length=40,
        blank=True,
        validators=[no_control_characters],
        help_text="Such as VAT 19 %, on statements.",
    )
    tax_points = models.PositiveIntegerField(
        "tax rate",
        default=0,
        validators=[MaxValueValidator(10_000)],
        help_text="In hundredths of a percent: 1900 is 19 %.",
    )
    logo = models.ForeignKey(
        Logo, models.PROTECT, null=True, blank=True, related_name="+", help_text="On statements and on clients' pages."
    )
    second_factor_required = models.BooleanField(
        "second factor for everyone",
        default=False,
        help_text="Nobody works here without an app or a passkey; without one you set it up first.",
    )

    record_months = models.PositiveSmallIntegerField(
        "months of records in the database",
        null=True,
        blank=True,
        validators=[MinValueValidator(3), MaxValueValidator(240)],
        help_text="Older records move to Parquet files in the archive, 3 months at the earliest; sums stay exact. "
        "Empty keeps all in the database.",
    )

    objects = audit.Audited.as_manager()

    class Meta:
        app_label = "clients"
        verbose_name = verbose_name_plural = "settings"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="agency_single_row")]

    def __str__(self) -> str:
        return "of the agency"

    def clean(self) -> None:
        """Trim the name."""
        self.name = self.name.strip()


def agency() -> Agency:
    """Return the agency's settings; not saved yet where nobody has changed any."""
    return Agency.objects.select_related("logo").first() or Agency()


def second_factor_is_required() -> bool:
    """Tell whether nobody works here without a second factor: REQUIRE_SECOND_FACTOR says so, or an owner has."""
    return settings.REQUIRE_SECOND_FACTOR or Agency.objects.filter(second_factor_required=True).exists()


@transaction.atomic
def change_agency(**values: str | bool | int | Logo | None) -> Agency:
    """Change some of the settings and return them all. Raises ValidationError."""
    row, _ = Agency.objects.select_for_update().get_or_create(pk=1)
    for name, value in values.items():
        setattr(row, name, value)
    row.full_clean()
    row.save()
    return row
