"""The page that lays OpenAI's own exports beside our calls. Nothing of a file is kept, not even that it was here.

The file of a comparison is made from what the page carries itself, signed, so that nobody has to choose files twice.
"""

from datetime import date, timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from clients import access
from pricing.models import Provider
from pricing.money import format_sum
from usage.provider_exports import LARGEST, MEASURES, Export, merged, read
from usage.reconcile import Line, Report, compare, text, usual_providers

SHOWN: Final = 200
"""Lines of each table on the page; all of them are in the file."""
CARRIED: Final = 2_000_000  # characters, below what Django takes in a form
LASTS: Final = timedelta(days=1)
_SALT: Final = "usage.reconcile_page"
_TITLES: Final = {
    "requests": "Requests",
    "input_tokens": "Tokens in",
    "cached_tokens": "of these cached",
    "output_tokens": "Tokens out",
    "cost": "Cost, USD",
}


def _file(label: str, help_text: str) -> forms.FileField:
    kinds = forms.FileInput(attrs={"accept": ".csv,.json,.tsv,.txt,text/csv,application/json"})
    return forms.FileField(label=label, required=False, max_length=200, widget=kinds, help_text=help_text)


class ReconcileForm(forms.Form):
    """One file or two, and whose they are."""

    usage = _file("Usage", "Activity data grouped by model, or the answer of /v1/organization/usage/completions.")
    costs = _file("Costs", "Cost data grouped by line item, or the answer of /v1/organization/costs.")
    providers = forms.ModelMultipleChoiceField(
        Provider.objects.none(), label="Calls to", widget=UnfoldAdminCheckboxSelectMultipleWidget
    )

    def __init__(self, *args: Any, user: access.Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        seen = access.visible(user, Provider.objects.filter(kind=Provider.Kind.OPENAI))
        self.fields["providers"].queryset = seen  # type: ignore[attr-defined]
        self.fields["providers"].initial = [provider.pk for provider in usual_providers(seen)]

    def clean(self) -> dict[str, Any]:
        """Refuse no file at all, and what is too large before it is read."""
        found: dict[str, Any] = super().clean() or {}
        files = [found.get("usage"), found.get("costs")]
        if not any(files) and not self.errors:
            raise ValidationError("Choose a file: the export of usage, of costs, or both.")
        if any(file is not None and file.size > LARGEST for file in files):
            raise ValidationError(f"The file is larger than {LARGEST // 2**20} MB: export it in parts, or by day.")
        return found


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def reconcile_view(request: HttpRequest) -> HttpResponseBase:
    """Show the form, or what came of it, or that as a file. Raises PermissionDenied."""
    user = request.user
    if not user.has_perm("usage.view_reconciliation"):
        raise PermissionDenied
    if "compared" in request.POST:
        return _as_file(request)
    form = ReconcileForm(request.POST or None, request.FILES or None, user=user)
    if request.method == "POST" and form.is_valid():
        chosen = list(form.cleaned_data["providers"])
        try:
            files = [file for name in ("usage", "costs") if (file := form.cleaned_data[name])]
            export = merged([read(file.read()) for file in files])
            report = compare(export, chosen, user)
        except ValidationError as error:
            return _page(request, {"form": form, "problems": error.messages}, status=400)
        return _page(request, {"form": form, **_shown(report), "compared": _carried(export, chosen)})
    return _page(request, {"form": form}, status=400 if form.errors else 200)


def _as_file(request: HttpRequest) -> HttpResponseBase:
    try:
        export, providers = _taken(request.POST["compared"])
        chosen = access.visible(request.user, Provider.objects.filter(pk__in=providers))
        report = compare(export, list(chosen), request.user)
    except (signing.BadSignature, ValidationError):
        problem = "This comparison is more than a day old: choose the files again."
        return _page(request, {"form": ReconcileForm(user=request.user), "problems": [problem]}, status=400)
    answer = StreamingHttpResponse(text(report), content_type="text/csv; charset=utf-8")
    name = f"reconciliation-{report.first}-to-{report.last}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _carried(export: Export, providers: list[Provider]) -> str:
    """Return the export for the page to carry, '' where it is too long for that."""
    cells = [
        [(day - export.first).days, model, *(getattr(told, name) for name in MEASURES)]
        for (day, model), told in export.cells.items()
    ]
    whole = [export.first.isoformat(), export.last.isoformat(), cells, [one.pk for one in providers]]
    signed = signing.dumps(whole, salt=_SALT, compress=True)
    return signed if len(signed) <= CARRIED else ""


def _taken(signed: str) -> tuple[Export, list[int]]:
    """Return the export that a page carried, and the providers. Raises BadSignature."""
    first, last, cells, providers = signing.loads(signed, salt=_SALT, max_age=LASTS)
    export = Export(date.fromisoformat(first), date.fromisoformat(last))
    for days, model, *told in cells:
        export.add(export.first + timedelta(days=days), model, dict(zip(MEASURES, told, strict=True)))
    return export, providers


def _shown(report: Report) -> dict[str, Any]:
    differing = [line for line in report.lines if line.stands_out]
    agreeing = [line for line in report.lines if not line.stands_out]
    return {
        "report": report,
        "titles": [_TITLES[name] for name in report.told],
        "sums": [
            {
                "title": _TITLES[name],
                "theirs": _amount(name, theirs := getattr(report.theirs, name)),
                "ours": _amount(name, ours := getattr(report.ours, name)),
                "difference": _difference(name, theirs - ours),
            }
            for name in report.told
        ],
        "causes": [
            {
                "cause": cause,
                "count": count,
                "shares": [_difference(name, shares[name]) if name in shares else "" for name in report.told],
            }
            for cause, count, shares in report.causes
        ],
        "differing": [_row(line, report.told) for line in differing[:SHOWN]],
        "differing_count": len(differing),
        "agreeing": [_row(line, report.told) for line in agreeing[:SHOWN]],
        "agreeing_count": len(agreeing),
        "shown": SHOWN,
    }


def _row(line: Line, measures: tuple[str, ...]) -> dict[str, Any]:
    cells = [
        {
            "theirs": _amount(name, getattr(line.theirs, name) if line.theirs else None),
            "ours": _amount(name, getattr(line.ours, name) if line.ours else None),
            "difference": _difference(name, line.differences[name]),
        }
        for name in measures
    ]
    return {"day": line.day, "model": line.model, "cells": cells, "reasons": [one.cause for one in line.reasons]}


def _amount(name: str, value: int | None) -> str:
    if value is None:
        return "–"
    return format_sum(value) if name == "cost" else f"{value:,}"


def _difference(name: str, value: int) -> str:
    """Return a difference with its sign, '' where there is none."""
    return "" if not value else f"{'+' if value > 0 else '−'}{_amount(name, abs(value))}"


def _page(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    whole = {**admin.site.each_context(request), "title": "Reconciliation", **context}
    return TemplateResponse(request, "admin/usage/reconcile.html", whole, status=status)
