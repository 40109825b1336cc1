"""The page that makes a hand-over link, for the team, and the page that the link leads to, for everybody who has it."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from clients.agency import agency
from keys import handover
from keys.models import APIKey
from keys.show_once import base_url, credential
from keys.tokens import digest


@never_cache
@require_POST
@sensitive_post_parameters("key")
def make_view(request: HttpRequest, model_admin: Any, key: APIKey) -> HttpResponse:
    """Make a link for the key whose text is sent along; nothing else proves that whoever asks has it."""
    plain = request.POST.get("key", "")[:200]
    if digest(plain.encode()) != bytes(key.digest):
        raise Http404
    try:
        link, token = handover.make(key, plain, request.user if isinstance(request.user, User) else None)
    except ValidationError as error:
        context: dict[str, Any] = {"error": " ".join(error.messages)}
    else:
        root = settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
        context = {"link": root + reverse("handover", args=[token]), "until": link.expires_at}
    whole = model_admin.admin_site.each_context(request) | {
        "opts": model_admin.opts,
        "original": key,
        "key": key,
        "title": f"Hand-over link for {key}",
    }
    return TemplateResponse(request, "admin/keys/apikey/handover.html", whole | context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def handover_view(request: HttpRequest, token: str) -> HttpResponse:
    """Show a key once, after a click: the previews that chats make of links must not use it up."""
    plain: str | None = None
    link = handover.look(token[:200])
    ready = link is not None and link.state(timezone.now()) == "ready"
    if ready and request.method == "POST":
        plain = handover.open_once(token[:200], _address(request), request.headers.get("user-agent", ""))
    root = base_url(request)
    context = {
        "ready": ready and request.method != "POST",
        "plain": plain,
        "client": link.key.client if link is not None and (ready or plain) else None,
        "agency": agency(),
        "base_url": root,
        "credential": credential(plain, root) if plain else "",
    }
    answer = TemplateResponse(request, "keys/handover.html", context, status=200 if ready else 404)
    answer["X-Robots-Tag"] = "noindex"
    return answer


def _address(request: HttpRequest) -> str:
    """Where the request comes from, as the gateway in front says, which lets no caller's own word through."""
    forwarded: str = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded or str(request.META.get("REMOTE_ADDR", ""))
