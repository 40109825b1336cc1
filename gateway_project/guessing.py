"""Slows down whoever guesses passwords, by address and by account, on the pages that take one.

These pages are django-ratelimit's, and allauth's own limits on them are off (ACCOUNT_RATE_LIMITS): one page, one
mechanism. Allauth's stay where it alone knows whose try it is: codes of a second factor, which come after a right
password, passkeys, and changing a password. Both count in the cache, which counts on while Redis is away.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django_ratelimit.core import get_usage

View = Callable[..., HttpResponse]
AccountOf = Callable[[HttpRequest], str]

KNOWN: Final = "known_browser"
"""Cookie of a browser that has signed in here: its tries are counted apart, so that strangers lock nobody out of it."""
_KNOWN_SECONDS: Final = 90 * 24 * 3600
_MOMENT: Final = 60  # said where the mechanism does not tell how long
_log = logging.getLogger(__name__)


def by_typed(field: str) -> AccountOf:
    """Return what finds the account by the name or address typed into `field`: one account, however it is named."""

    def account(request: HttpRequest) -> str:
        typed = request.POST.get(field, "").replace("\0", "").strip()[:254]
        user = User.objects.filter(Q(username__iexact=typed) | Q(email__iexact=typed)).order_by("pk").first()
        if user is None:
            return f"name {typed.casefold()}"
        known = request.get_signed_cookie(KNOWN, default="", salt=KNOWN, max_age=_KNOWN_SECONDS)
        return f"known {user.pk}" if known == str(user.pk) else f"user {user.pk}"

    return account


def by_session(request: HttpRequest) -> str:
    """Find the account by who is signed in; nobody's tries are counted by address alone."""
    return f"user {request.user.pk}"


def slowed(view: View, page: str, account: AccountOf, *, per_address: str, per_account: str) -> View:
    """Return the view with so many forms taken as the two rates say ("20/m"), and a 429 for those beyond.

    The time of a rate is how long strangers can keep somebody out of a browser that he has not used before, so it
    is short.
    """

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # By address first: what is refused by it is not held against the account as well
        for kind, key, rate in (
            ("address", "ip", per_address),
            ("account", lambda _, request: account(request), per_account),
        ):
            usage = get_usage(request, group=f"{page} {kind}", key=key, rate=rate, method="POST", increment=True)
            if usage and usage["should_limit"]:
                if usage["count"] == usage["limit"] + 1:
                    _log.warning("Too many tries on the page %s by one %s; it is slowed down.", page, kind)
                return too_many(request, usage["time_left"])
        return view(request, *args, **kwargs)

    return limited


def remembered(view: View) -> View:
    """Return the view of a step that signs people in, with the browser known from then on to be theirs."""

    @wraps(view)
    def remembering(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = view(request, *args, **kwargs)
        if request.method == "POST" and request.user.is_authenticated:
            answer.set_signed_cookie(
                KNOWN,
                str(request.user.pk),
                salt=KNOWN,
                max_age=_KNOWN_SECONDS,
                path="/accounts/",
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return answer

    return remembering


def too_many(request: HttpRequest, seconds: int = _MOMENT) -> HttpResponse:
    """Return the page that says when to try again; allauth's limits lead here as well (handler429)."""
    seconds = seconds if seconds > 0 else _MOMENT
    answer = TemplateResponse(request, "429.html", {"minutes": -(-seconds // 60)}, status=429)
    answer["Retry-After"] = str(seconds)
    answer["Cache-Control"] = "no-store"
    return answer
