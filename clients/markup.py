"""Markups as people write and read them: percent, two decimals at most; stored in basis points. Pure."""

import re
from decimal import Decimal

from django.core.exceptions import ValidationError


def parse_markup(percent: str) -> int:
    """Return a markup given in percent (`25`, `-10`, `12.5`) in basis points.

    Raises ValidationError where it is no number with two decimals at most.
    """
    if not re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]{1,2})?", percent.strip()):
        raise ValidationError(f"A markup is a percentage such as 25 or 12.5, two decimals at most, not {percent!r}.")
    return int(Decimal(percent.strip()) * 100)


def format_markup(basis_points: int) -> str:
    """Return basis points in percent, as `parse_markup` reads them: 1250 is `12.5`."""
    return f"{(Decimal(basis_points) / 100).normalize():f}"
