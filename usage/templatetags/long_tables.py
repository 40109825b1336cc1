"""What pages have thousands of: Django's own loops take longer for it than the database does."""

from collections.abc import Iterable, Sequence

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from usage.tables import Cell

register = template.Library()


@register.simple_tag
def table_rows(rows: Iterable[Sequence[Cell]]) -> SafeString:
    """Return the body of a table."""
    drawn = (format_html_join("", "{}", ((_cell(cell),) for cell in row)) for row in rows)
    return format_html_join("", "<tr>{}</tr>", ((row,) for row in drawn))


@register.simple_tag
def options(values: Iterable[str], chosen: str) -> SafeString:
    """Return the options of a choice."""
    return format_html_join("", "<option{}>{}</option>", ((_SELECTED[value == chosen], value) for value in values))


_SELECTED = {True: SafeString(" selected"), False: SafeString("")}


def _cell(cell: Cell) -> SafeString:
    if cell.link:
        look = "text-primary-600 underline dark:text-primary-500"
        return format_html('<td><a class="{}" href="{}">{}</a></td>', look, cell.link, cell.shown)
    if cell.number:
        return format_html('<td><span class="rate">{}</span></td>', cell.shown)
    return format_html("<td>{}</td>", cell.shown)
