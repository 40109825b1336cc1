"""What settings name of the REST API: the token that signs in, its scopes, and problem details (RFC 9457)."""

from typing import Any, Final

from django.core.exceptions import ValidationError
from django_ratelimit.core import get_usage
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from clients.access import role_of
from clients.access_tokens import AccessToken, find

PROBLEM = "application/problem+json"
WRONG_TOKENS: Final = "20/m"
"""From one address; then further wrong ones are told to wait, and right ones are let in all the same."""
CALLS: Final = "600/m"
"""With one token."""


class BearerToken(BaseAuthentication):
    """Signs in by `Authorization: Bearer llm_api_…`, and by nothing else: no cookie, so nothing to forge."""

    def authenticate(self, request: Request) -> tuple[Any, AccessToken] | None:
        """Return the person and the token; None without the header. Raises AuthenticationFailed."""
        kind, _, text = get_authorization_header(request).partition(b" ")
        if not kind:
            return None
        token = find(text.decode("latin-1").strip()) if kind.lower() == b"bearer" else None
        if token is None or role_of(token.user) is None:
            _slow_down(request, "wrong tokens", "ip", WRONG_TOKENS)
            raise exceptions.AuthenticationFailed("This token is unknown, expired or revoked. Make a new one.")
        _slow_down(request, "calls", lambda *_: str(token.pk), CALLS)
        request._request.user = token.user  # the audit log names him
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return "Bearer"


def _slow_down(request: Request, group: str, key: Any, rate: str) -> None:
    """Count a call. Raises Throttled beyond the rate."""
    usage = get_usage(request._request, group=f"api {group}", key=key, rate=rate, increment=True)
    if usage and usage["should_limit"]:
        raise exceptions.Throttled(max(1, usage["time_left"]))


class HasScope(BasePermission):
    """Deny first: a view names the scope of each method in `scopes`, and the token must hold it."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the token was given the scope that the method asks for. Raises PermissionDenied."""
        scope = getattr(view, "scopes", {}).get(request.method)
        if scope is None or not isinstance(request.auth, AccessToken):
            return False
        if not request.auth.allows(scope):
            raise exceptions.PermissionDenied(f"This token does not have the scope {scope}.")
        return True


def problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """Render what was raised as problem details, with `errors` by field where there are any."""
    from rest_framework.views import exception_handler  # noqa: PLC0415 - its views read the settings that name this

    if isinstance(error, ValidationError):
        told = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        error = exceptions.ValidationError(told)
    response = exception_handler(error, context)
    if response is None:
        return None
    body: dict[str, Any] = {"type": "about:blank", "status": response.status_code, "title": response.status_text}
    if isinstance(error, exceptions.ValidationError):
        body["errors"] = response.data
    elif isinstance(response.data, dict):
        body["detail"] = response.data.get("detail", response.status_text)
    response.data = body
    response.content_type = PROBLEM
    return response
