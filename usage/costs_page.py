"""The cost report as a page: its first rows to look at, and the same file that exportcosts prints."""

from datetime import date
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from clients import access
from clients.models import Client, default_time_zone, time_zones
from usage.cost_csv import Form, file_name, text
from usage.costs import DIMENSIONS, Question, preview, reads, whole_days
from usage.days import month_before
from usage.models import UsageRecord

SHOWN: Final = 100
"""Rows on the page; all of them are in the file."""


class CostForm(forms.Form):
    """What the report is asked. Everything stands in the address."""

    first = forms.DateField(label="From", widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}))
    to = forms.DateField(label="To", widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}))
    zone = forms.ChoiceField(
        label="Days of",
        choices=lambda: [(name, name) for name in sorted(time_zones())],
        widget=UnfoldAdminSelectWidget,
    )
    client = forms.ModelChoiceField(
        Client.objects.none(), required=False, empty_label="All", widget=UnfoldAdminSelectWidget
    )
    by = forms.MultipleChoiceField(
        label="A row for each", required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )
    bom = forms.BooleanField(
        label="For Excel",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="A byte order mark, so that it reads ü and €.",
    )
    decimal_comma = forms.BooleanField(
        label="Decimal comma",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="0,5 for 0.5, and ; between columns.",
    )

    def __init__(self, *args: Any, user: access.Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [(name, name) for name in DIMENSIONS if reads(user, name)]
        self.fields["by"].choices = offered  # type: ignore[attr-defined]
        self.fields["client"].queryset = access.visible(user, Client.objects.all())  # type: ignore[attr-defined]


@require_safe
def costs_view(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Show the report, or stream it. Raises PermissionDenied; Http404 for a client that is not the reader's."""
    user = request.user
    if not access.may(user, "view", UsageRecord):
        raise PermissionDenied
    usual = _usual()
    form = CostForm({**usual, **{name: request.GET.getlist(name) if name == "by" else request.GET[name]
                                 for name in request.GET}} if request.GET else usual, user=user)  # fmt: skip
    context: dict[str, Any] = {**admin.site.each_context(request), "title": "Costs", "form": form, "ranges": _ranges()}
    question = None
    if form.is_valid():
        try:
            question = _question(form.cleaned_data, user)
        except ValidationError as error:
            form.add_error(None, " ".join(error.messages))
    elif "client" in form.errors:
        raise Http404
    if question is None:
        return TemplateResponse(request, "admin/usage/costs.html", context, status=400)
    if "csv" in request.GET:
        return _file(question, Form(bom=form.cleaned_data["bom"], decimal_comma=form.cleaned_data["decimal_comma"]))
    found, whole = preview(question, SHOWN)
    query = request.GET.copy()
    for name, value in usual.items():
        if name not in query:
            query.setlist(name, value if isinstance(value, list) else [value])
    query["csv"] = "1"
    context |= {
        "question": question,
        "rows": found[:SHOWN],
        "more": len(found) > SHOWN,
        "total": whole,
        "file": f"?{query.urlencode()}",
        "sees_keys": reads(user, "key"),
    }
    return TemplateResponse(request, "admin/usage/costs.html", context)


def _usual() -> dict[str, Any]:
    today = timezone.localdate()
    zone = timezone.get_current_timezone_name()
    if zone not in time_zones():
        zone = default_time_zone()
    return {"first": today.replace(day=1).isoformat(), "to": today.isoformat(), "zone": zone, "by": ["client"]}


def _ranges() -> list[tuple[str, date, date]]:
    today = timezone.localdate()
    before = month_before(today)
    return [
        ("This month", today.replace(day=1), today),
        ("Last month", *before),
        ("The month before", *month_before(before[0])),
        ("This year", today.replace(month=1, day=1), today),
    ]


def _question(asked: dict[str, Any], user: access.Person) -> Question:
    if asked["to"] < asked["first"]:
        raise ValidationError("The range ends before it begins: exchange its days.")
    start, end = whole_days(asked["first"], asked["to"], asked["zone"])
    client = asked["client"].pk if asked["client"] else None
    return Question(start, end, asked["zone"], tuple(asked["by"]), client=client, reader=user)


def _file(question: Question, form: Form) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(text(question, form), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{file_name(question)}"'
    answer["Cache-Control"] = "no-store"
    return answer
