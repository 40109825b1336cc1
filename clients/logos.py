"""The agency's logo, as it is kept.

A logo is never changed or deleted: statements keep the one of the day when they were made.
"""

from django.db import models


class Logo(models.Model):
    """A picture, as PNG, and the SHA-256 of it."""

    digest = models.CharField(max_length=64, unique=True)
    png = models.BinaryField()
    width = models.PositiveSmallIntegerField()
    height = models.PositiveSmallIntegerField()

    class Meta:
        app_label = "clients"

    def __str__(self) -> str:
        return f"{self.width} × {self.height} pixels ({self.digest[:8]})"
