"""A client's own page, for whoever has its link, and the page that makes the link, for the team."""

from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from clients import access
from clients.agency import agency
from clients.models import Client
from pricing.credentials import UnreadableCredential, decrypt, encrypt
from usage import client_links, overview
from usage.analytics import Slice, read
from usage.client_links import ClientLink
from usage.figures import Figures
from usage.models import Statement
from usage.standings import foreseen, of_client
from usage.statement_pdf import pdf_answer

STATEMENTS_SHOWN = 36
WAITING = "usage_link_to_show"
"""Session entry: the client's id, and the link, encrypted."""


@never_cache
@require_safe
def client_view(request: HttpRequest, token: str) -> HttpResponse:
    """Show the client its month, its limits and its last 30 days, by its own calendar."""
    link = client_links.find(token)
    if link is None:
        answer: HttpResponse = TemplateResponse(request, "usage/client.html", {"agency": agency()}, status=404)
    else:
        with timezone.override(link.client.zone):
            context = {**_context(link.client), "token": token}
            answer = TemplateResponse(request, "usage/client.html", context).render()
    answer["X-Robots-Tag"] = "noindex"
    answer["Referrer-Policy"] = "no-referrer"
    return answer


@never_cache
@require_safe
def statement_view(request: HttpRequest, token: str, number: int) -> HttpResponse:
    """Hand out a statement of the client that the link is of, as PDF. Raises Http404."""
    link = client_links.find(token)
    statement = Statement.objects.filter(client=link.client_id, number=number).first() if link else None
    if statement is None:
        raise Http404
    answer = pdf_answer(statement)
    answer["X-Robots-Tag"] = "noindex"
    answer["Referrer-Policy"] = "no-referrer"
    return answer


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def link_view(request: HttpRequest, client_id: int) -> HttpResponse:
    """Make or end a client's link; a new one is shown once, on the page after. Raises Http404, PermissionDenied."""
    user = request.user
    client = access.visible(user, Client.objects.filter(pk=client_id)).first()
    if client is None:
        raise Http404
    if not access.may(user, "change", client):
        raise PermissionDenied
    if request.method == "POST":
        try:
            if request.POST.get("act") == "revoke":
                client_links.revoke(client)
                messages.success(request, "The link shows nothing any more.")
            else:
                _, token = client_links.make(client, user if isinstance(user, User) else None)
                root = settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
                request.session[WAITING] = [client.pk, encrypt(root + reverse("client_usage", args=[token]))]
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(reverse("admin:client_usage_link", args=[client.pk]))
    context = {
        **admin.site.each_context(request),
        "title": f"Usage link of {client}",
        "client": client,
        "link": ClientLink.objects.filter(client=client).first(),
        "address": _waiting(request, client),
        "days": client_links.LASTS.days,
    }
    return TemplateResponse(request, "admin/usage/client_link.html", context)


def _context(client: Client) -> dict[str, Any]:
    today = timezone.localdate()
    days = overview.charge_by_day(client, today)
    most = max((charge for _, _, charge in days), default=0) or 1
    month = overview.day_start(today.replace(day=1))
    figures = Figures()
    until = overview.day_start(today + timedelta(days=1))
    for row in read(Slice(month, until, client.time_zone, group_by=("outcome",), only={"client": [client.pk]})):
        figures.add(row.group[0], row.sums)
    return {
        "client": client,
        "agency": agency(),
        "now": timezone.now(),
        "month_start": month,
        "month": figures,
        "sessions": figures.sums.sessions,
        "standings": foreseen(of_client(client) or [], client),
        "days": [_drawn(number, day, charge, most) for number, (day, _, charge) in enumerate(days)],
        "charged": sum(charge for _, _, charge in days),
        "statements": [
            (one, one.money(one.gross)) for one in Statement.objects.filter(client=client)[:STATEMENTS_SHOWN]
        ],
    }


def _drawn(number: int, day: date, charge: int, most: int) -> dict[str, Any]:
    """A bar of the chart, which is 60 high."""
    height = charge * 60 // most
    return {"day": day, "charge": charge, "x": number * 10, "top": 60 - height, "height": height}


def _waiting(request: HttpRequest, client: Client) -> str | None:
    pk, ciphertext = request.session.get(WAITING, [None, ""])
    if pk != client.pk:
        return None
    del request.session[WAITING]
    try:
        return decrypt(ciphertext)
    except UnreadableCredential:
        return None
