"""Prices in templates."""

from django import template

from pricing.rate_text import rate_text

register = template.Library()
register.filter("rate", rate_text)


@register.filter
def cut_underscores(name: str) -> str:
    """Return a field's name as words."""
    return name.replace("_", " ")
