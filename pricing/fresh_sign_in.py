"""Dangerous acts ask for a sign-in that is not long ago, so that a screen left open gives nothing away."""

import time
from urllib.parse import urlencode

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse


def signed_in_lately(request: HttpRequest) -> bool:
    """Tell whether whoever asks has proved lately who they are: signing in counts, confirming it again as well."""
    records = get_authentication_records(request, request.user)
    return any(time.time() - record["at"] < app_settings.REAUTHENTICATION_TIMEOUT for record in records)


def ask_to_sign_in_again(request: HttpRequest) -> HttpResponse:
    """Lead to the page that asks for the password or the second factor, and back; what was posted is not kept."""
    if request.method == "POST":
        messages.warning(request, "Sign in again, then enter it once more: it was not kept.")
    methods = get_adapter().get_reauthentication_methods(request.user)
    page = methods[0]["url"] if methods else reverse("account_login")
    return HttpResponseRedirect(f"{page}?{urlencode({'next': request.get_full_path()})}")
