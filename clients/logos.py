"""The agency's logo, as it is kept.

A logo is never changed or deleted: statements keep the one of the day when they were made.
"""

from django.db import models

_SHOWN = (220, 56)  # pixels, at most


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

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height on a page, in its pixels."""
        scale = min(1, _SHOWN[0] / self.width, _SHOWN[1] / self.height)
        return round(self.width * scale), round(self.height * scale)
