"""The analytics page: what it is asked for stands in its address, so that a link shows a colleague the same."""

from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from clients import access, spreadsheet
from clients.models import default_time_zone, time_zones
from usage import dashboard, periods
from usage.asked import BY, NAMED, WORKFLOW, Asked, names, splits
from usage.figures import METRICS, Figures
from usage.models import UsageRecord
from usage.tables import Table, address, calls_link, money, tables

_MOST_VALUES: Final = 20  # that one dimension is narrowed to
_SHOWN: Final = 100  # rows; a file has all
_LONGEST: Final = {"endpoint": 60, WORKFLOW: 200}
"""Characters."""


@require_safe
def analytics_view(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Show the page, or one of its tables as CSV. Raises PermissionDenied; Http404 for what is not the reader's."""
    user: Any = request.user
    if not access.may(user, "view", UsageRecord):
        raise PermissionDenied
    zone = default_time_zone()  # whose days are rolled up of everybody; another is the reader's choice, and slower
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Analytics",
        "presets": periods.PRESETS,
        "metrics": METRICS,
        "zones": sorted(time_zones()),  # hundreds: drawn by a tag of ours, Django's own take longer than the sums
    }
    try:
        asked = _asked(request.GET, user, zone)
        wanted = request.GET.get("csv")
        answer = dashboard.ask(asked, None if wanted else _SHOWN)
    except ValidationError as error:
        plain = Asked(periods.parse({}, zone, timezone.now()), "charge", "client", {}, user)
        context |= {"error": " ".join(error.messages), "asked": plain, **_choices(plain)}
        return TemplateResponse(request, "admin/usage/analytics.html", context, status=400)
    if wanted:
        return _csv(next((table for table in tables(asked, answer) if table.id == wanted), None), asked)
    found = tables(asked, answer, _SHOWN)
    context |= {
        "asked": asked,
        "answer": answer,
        "tables": found,
        "charts": {table.id: table.chart for table in found if table.chart},
        "figures": _figures(asked, answer.total, answer.before),
        "saved": None if answer.saved is None else money(answer.saved).shown,
        "calls_link": calls_link(asked),
        **_choices(asked),
    }
    return TemplateResponse(request, "admin/usage/analytics.html", context)


def _asked(query: QueryDict, user: access.Person, zone: str) -> Asked:
    """Return what the address asks for. Raises ValidationError, Http404."""
    period = periods.parse(query.dict(), zone, timezone.now())  # type: ignore[arg-type]  # of one value each
    metric, by = query.get("metric") or "charge", query.get("by") or "client"
    if metric not in METRICS:
        raise ValidationError(f"There is nothing like {metric!r:.30} to show: use {', '.join(METRICS)}.")
    if by not in BY:
        raise ValidationError(f"{by!r:.30} is nothing to split by: use {', '.join(BY)}.")
    only: dict[str, list[Any]] = {}
    for name in BY:
        values = query.getlist(name)[:_MOST_VALUES]
        if not values:
            continue
        if name in NAMED:
            ids = [int(value) for value in values if value.isdecimal() and len(value) < 19]
            if len(ids) < len(values) or len(names(name, ids, user)) < len(set(ids)):
                raise Http404
            only[name] = ids
        else:
            only[name] = [value[: _LONGEST[name]] for value in values]
    return Asked(period, metric, by, only, user)


def _choices(asked: Asked) -> dict[str, Any]:
    """What can be changed from here, with the addresses that do."""
    chips = []
    for name, values in asked.only.items():
        known = names(name, values, asked.reader)
        for value in values:
            rest = [other for other in values if other != value]
            chips.append((name, known.get(value, value), address(asked, None, **{name: rest or None})))
    dates = {"from": None, "to": None}
    return {
        "ranges": [
            (label, address(asked, **dates, range=name), asked.period.name == name)
            for name, label in periods.PRESETS.items()
        ],
        "bys": [(by, address(asked, by), by == asked.by) for by in splits(asked)],
        "chips": chips,
        "kept": [(name, value) for name, values in asked.only.items() for value in values],
    }


def _figures(asked: Asked, total: Figures, before: Figures | None) -> list[tuple[str, str, str]]:
    """Return what stands above the charts: its name, its value, how it compares with the range before."""
    rows = []
    for name, label in METRICS.items():
        now = total.amount(name)
        shown = money(now).shown if name in ("charge", "cost", "margin") else f"{now:,}"
        rows.append((label, shown, _compared(now, None if before is None else before.amount(name))))
    for label, name in (("Refused", "refused"), ("Failed", "failed")) if WORKFLOW not in asked.only else ():
        now = getattr(total, name)
        rows.append((label, f"{now:,}", _compared(now, None if before is None else getattr(before, name))))
    return rows


def _compared(now: int, then: int | None) -> str:
    if then is None:
        return "no whole range before"
    if then <= 0:
        return "none before" if now else "as before"
    change = (now - then) * 100 // then
    return "as before" if not change else f"{change:+,} % on the range before"


def _csv(table: Table | None, asked: Asked) -> StreamingHttpResponse:
    if table is None:
        raise Http404
    rows = ([cell.plain for cell in row] for row in table.rows)
    answer = StreamingHttpResponse(spreadsheet.lines(table.head, rows), content_type="text/csv; charset=utf-8")
    name = f"{table.id}-{asked.period.first_day}-to-{asked.period.last_day}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "no-store"
    return answer
