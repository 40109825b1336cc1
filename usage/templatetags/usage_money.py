"""Money in templates."""

from django import template

from pricing.money import format_dollars

register = template.Library()


@register.filter
def usd(picodollars: int) -> str:
    """Return picodollars as USD, exactly."""
    return format_dollars(picodollars)
