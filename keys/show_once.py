"""The one page that ever shows a key, with all that its holder needs to make the first call.

Between the POST that makes a key and that page, its text waits in the session, encrypted.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from clients import access
from keys.models import APIKey
from pricing.credentials import UnreadableCredential, decrypt, encrypt
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately
from pricing.models import Model

WAITING = "keys_to_show"
"""Session entry: encrypted texts of new keys that were not shown yet, by key id."""
TAGS = "workflow={{ $workflow.id }},execution={{ $execution.id }}"
"""The value of `x-gateway-tags` in n8n's credential, an expression of n8n's."""
MOST_MODELS = 200


def keep_to_show(request: HttpRequest, key: APIKey, plain: str) -> HttpResponse:
    """Keep the text for the page, and lead to it."""
    request.session[WAITING] = {**request.session.get(WAITING, {}), str(key.pk): encrypt(plain)}
    return HttpResponseRedirect(reverse("admin:keys_apikey_show_once", args=[key.pk]))


@require_GET  # a HEAD would use up the one showing
@never_cache
def show_once(request: HttpRequest, model_admin: Any, key_id: int) -> HttpResponse:
    """Show the text of a new key to the session that made it, the first time it asks after a fresh sign-in."""
    key = get_object_or_404(model_admin.get_queryset(request), pk=key_id)
    waiting = dict(request.session.get(WAITING, {}))
    if str(key.pk) in waiting and not signed_in_lately(request):
        return ask_to_sign_in_again(request)
    token = waiting.pop(str(key.pk), None)
    request.session[WAITING] = waiting
    request.session.save()  # before the key leaves: were the session lost later, it would be shown again
    try:
        plain = decrypt(token) if token else None
    except UnreadableCredential:
        plain = None
    root = base_url(request)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "key": key,
        "original": key,
        "plain": plain,
        "title": f"New key of {key.client}",
        "base_url": root,
        "credential": credential(plain or "", root),
        "curl": _curl(plain or "", root),
        "models": _models(request),
    }
    return TemplateResponse(request, "admin/keys/apikey/show_once.html", context)


def _models(request: HttpRequest) -> list[str]:
    usable = access.visible(request.user, Model.objects.filter(enabled=True, provider__enabled=True))
    return list(usable.order_by("name").values_list("name", flat=True).distinct()[:MOST_MODELS])


def base_url(request: HttpRequest) -> str:
    """Return what automations enter as base URL."""
    return f"{settings.PUBLIC_URL or request.build_absolute_uri('/').rstrip('/')}/v1"


def credential(plain: str, root: str) -> str:
    """Return n8n's credential as text to copy from."""
    return (
        f"n8n → Credentials → New → OpenAI\n\nAPI Key: {plain}\nBase URL: {root}\n"
        f"Add Custom Header: on\n  Name: x-gateway-tags\n  Value (expression): {TAGS}\n"
    )


def _curl(plain: str, root: str) -> str:
    return (
        f"curl {root}/chat/completions \\\n  -H 'Authorization: Bearer {plain}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        """  -d '{"model": "sandbox", "messages": [{"role": "user", "content": "Hello"}]}'"""
    )
