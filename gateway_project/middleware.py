"""What every request to the control plane gets."""

import ipaddress
from collections.abc import Callable
from zoneinfo import ZoneInfo

from allauth.mfa.utils import is_mfa_enabled
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from clients.access import time_zone_of
from clients.agency import second_factor_is_required
from pricing.actors import Actor, Door, acting

GetResponse = Callable[[HttpRequest], HttpResponse]


def secure_cookies(get_response: GetResponse) -> GetResponse:
    """Mark every cookie Secure that is set over https, also where PUBLIC_URL was forgotten.

    The settings alone cannot: with them on, nobody could sign in at http://127.0.0.1.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response

    return middleware


def name_the_actor(get_response: GetResponse) -> GetResponse:
    """Say for the audit log who acts: whoever is signed in when it is done, his address, and the door."""

    def middleware(request: HttpRequest) -> HttpResponse:
        door = Door.API if request.path.startswith("/api/") else Door.ADMIN

        def actor() -> Actor:
            user = request.user if request.user.is_authenticated else None
            return Actor(door, "nobody known", user, address_of(request))

        with acting(actor):
            return get_response(request)

    return middleware


def address_of(request: HttpRequest) -> str | None:
    """Return whose request it is: the gateway puts the caller's address last; None where that is no address."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address((forwarded or request.META.get("REMOTE_ADDR", "")).partition("%")[0]))
    except ValueError:
        return None


def counted_address(request: HttpRequest) -> str:
    """Return by which address tries are counted; those of which nobody knows the address are counted together."""
    return address_of(request) or "0.0.0.0"  # noqa: S104 - nothing is bound


def tell_the_time_where_the_reader_is(get_response: GetResponse) -> GetResponse:
    """Show times, and read those typed in, in the reader's zone: chosen, or told by the browser (time_zone.js)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        zone = time_zone_of(request.user, request.COOKIES.get("time_zone", ""))
        with timezone.override(ZoneInfo(zone)):
            return get_response(request)

    return middleware


def second_factor(get_response: GetResponse) -> GetResponse:
    """Where one is required, lead everybody without one to the page that sets it up; no other is open to them."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if (
            request.path.startswith("/admin/")
            and request.user.is_authenticated
            and second_factor_is_required()
            and not is_mfa_enabled(request.user)
        ):
            messages.warning(request, "A second factor is required here. Set one up: an app, or a passkey.")
            return HttpResponseRedirect(reverse("mfa_index"))
        return get_response(request)

    return middleware
