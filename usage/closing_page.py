"""The page that closes a month: what each client's statement would say and what is odd, and then all at one act."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from clients import access
from clients.models import Client
from usage.closing import CLOSED, Draft, close, drafts, month_to_close
from usage.statements import month_of
from usage.terms import digits_of


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def closing_view(request: HttpRequest) -> HttpResponse:
    """Show what a month comes to, or close it for the clients that were chosen. Raises PermissionDenied."""
    user = request.user
    if access.role_of(user) not in access.BOOKKEEPERS:
        raise PermissionDenied
    now = timezone.now()
    try:
        asked = request.GET.get("month", "")
        month = month_of(asked) if asked else month_to_close(now)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(reverse("admin:closing"))
    clients = access.visible(user, Client.objects.order_by("name", "pk"))
    if request.method == "POST":
        chosen = [int(pk) for pk in request.POST.getlist("client") if pk.isdecimal() and len(pk) < 19]
        _close_all(request, drafts(clients.filter(pk__in=chosen), month, now))
        return HttpResponseRedirect(f"{reverse('admin:closing')}?month={month:%Y-%m}")
    found = drafts(clients, month, now, to_look_at=True)
    open_ones = [draft for draft in found if not draft.refused]
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Close a month",
        "month": month,
        "open": [_shown(draft) for draft in open_ones],
        "closed": sum(draft.refused == CLOSED for draft in found),
        "waiting": [draft for draft in found if draft.refused not in {"", CLOSED}],
        "odd": sum(bool(draft.odd) for draft in open_ones),
    }
    return TemplateResponse(request, "admin/usage/closing.html", context)


def _close_all(request: HttpRequest, chosen: list[Draft]) -> None:
    made = 0
    for draft in chosen:
        try:
            close(draft, request.user if isinstance(request.user, User) else None, timezone.now())
            made += 1
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
    if made:
        messages.success(request, f"{made} {'statement was' if made == 1 else 'statements were'} made.")
    elif not chosen:
        messages.error(request, "Choose whose month is to be closed.")


def _shown(draft: Draft) -> dict[str, Any]:
    digits = digits_of(draft.terms.currency)
    whole, part = divmod(draft.net, 10**digits) if draft.net >= 0 else (draft.net, 0)
    total = draft.used.total
    return {
        "draft": draft,
        "calls": total.calls,
        "charge": total.charge,
        "net": f"{whole:,}" + (f".{part:0{digits}}" if digits else ""),
        "margin": draft.amount - draft.cost,
    }
