"""The page where people make, see and end the tokens of their own automation; owners see and end everybody's."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from clients import access, access_tokens
from pricing.credentials import UnreadableCredential, decrypt, encrypt
from pricing.fresh_sign_in import ask_to_sign_in_again, signed_in_lately

WAITING = "token_to_show"
"""Session entry: the text of a token just made, encrypted."""
_LASTS = [(30, "30 days"), (90, "90 days"), (365, "a year")]
_MOST = 200  # shown


class TokenForm(forms.Form):
    """What a new token may do, and how long."""

    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is used for, such as the workflow that will hold it.",
    )
    scopes = forms.MultipleChoiceField(label="May", widget=UnfoldAdminCheckboxSelectMultipleWidget)
    days = forms.TypedChoiceField(
        label="Works for", choices=_LASTS, initial=90, coerce=int, widget=UnfoldAdminSelectWidget
    )

    def __init__(self, *args: Any, user: access.Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes = access.scopes_of(user)
        self.fields["scopes"].choices = [(scope, scope) for scope in scopes]  # type: ignore[attr-defined]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def tokens_view(request: HttpRequest) -> HttpResponse:
    """List tokens; make one after a fresh sign-in, and show it on the page after, once."""
    user = request.user
    if not isinstance(user, User):
        raise PermissionDenied
    form = TokenForm(request.POST or None, user=user)
    if request.method == "POST":
        if not signed_in_lately(request):
            return ask_to_sign_in_again(request)
        if form.is_valid():
            data = form.cleaned_data
            try:
                _, plain = access_tokens.make(user, data["name"], data["scopes"], timedelta(days=data["days"]))
            except ValidationError as error:
                form.add_error(None, " ".join(error.messages))
            else:
                request.session[WAITING] = encrypt(plain)
                return HttpResponseRedirect(reverse("admin:tokens"))
    context = {
        **admin.site.each_context(request),
        "title": "API tokens",
        "form": form,
        "plain": _waiting(request) if request.method == "GET" else None,
        "tokens": access.tokens(user).select_related("user")[:_MOST],
        "now": timezone.now(),
        "of_all": access.role_of(user) == access.Role.OWNER,
    }
    return TemplateResponse(request, "admin/clients/tokens.html", context)


@require_POST
def revoke_view(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token now; also without a fresh sign-in, since one that leaked must be ended at once."""
    token = access.tokens(request.user).filter(pk=pk).first()
    if token is None:
        raise Http404
    try:
        access_tokens.revoke(token)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"The token {token} does not work any more.")
    return HttpResponseRedirect(reverse("admin:tokens"))


def _waiting(request: HttpRequest) -> str | None:
    text = request.session.pop(WAITING, None)
    try:
        return decrypt(text) if text else None
    except UnreadableCredential:
        return None
