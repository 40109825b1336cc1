"""The page that invites a person, for owners, and the page that the link leads to, for everybody who has it."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from clients import invitations
from clients.agency import agency
from pricing.credentials import UnreadableCredential, decrypt, encrypt

WAITING = "invitation_to_show"
"""Session entry: the person's id, the link, encrypted, until when it works, and whether it was mailed."""


def send(request: HttpRequest, person: User) -> HttpResponse:
    """Invite the person, mail the link, and lead to the page that shows it once."""
    page = HttpResponseRedirect(reverse("admin:auth_user_invitation", args=[person.pk]))
    try:
        token = invitations.invite(person)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))
    link = _link(request, token)
    mailed = invitations.mail(person, link, _by(request))
    until = (timezone.now() + invitations.LASTS).isoformat()
    request.session[WAITING] = [person.pk, encrypt(link), until, mailed]
    return page


def send_again(request: HttpRequest, people: QuerySet[User]) -> None:
    """Mail new links to those of `people` who have not come in; nobody's old link dies where no mail could go."""
    if not invitations.mails_are_sent():
        messages.error(request, "This installation sends no mail: open a person's page, and pass the link on yourself.")
        return
    for person in people:
        if not (invitations.is_invited(person) and person.email):
            messages.warning(request, f"{person}: needs no invitation, or has no e-mail address.")
        elif invitations.mail(person, _link(request, invitations.invite(person)), _by(request)):
            messages.success(request, f"A new invitation is on its way to {person.email}.")
        else:
            messages.error(
                request, f"{person}: the mail server did not take the mail. Try again from the person's page."
            )


def _by(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def _link(request: HttpRequest, token: str) -> str:
    root = settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
    return root + reverse("invitation", args=[token])


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, model_admin: Any, person: User) -> HttpResponse:
    """Show the link that was just made, once; make a new one when asked to by a POST."""
    if request.method == "POST":
        return send(request, person)
    link, until, mailed = None, None, False
    pk, ciphertext, ends, was_mailed = request.session.get(WAITING, [None, "", "", False])
    if pk == person.pk and request.method == "GET":
        del request.session[WAITING]
        try:
            link, until, mailed = decrypt(ciphertext), datetime.fromisoformat(ends), was_mailed
        except UnreadableCredential:
            link = None
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "original": person,
        "person": person,
        "title": f"Invitation of {person.get_full_name() or person}",
        "link": link,
        "until": until,
        "mailed": mailed,
        "mails_are_sent": invitations.mails_are_sent(),
        "invited": invitations.is_invited(person),
    }
    return TemplateResponse(request, "admin/auth/user/invitation.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("new_password1", "new_password2")
def invitation_view(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whoever has the link for a password; looking at the page, as mail scanners do, does not use it up."""
    token = token[:200]
    person = invitations.invited_by(token)
    form = SetPasswordForm(person, request.POST or None) if person else None
    if form is not None and request.method == "POST" and form.is_valid():
        person = invitations.accept(token, form.cleaned_data["new_password1"])
        if person is not None:
            logout(request)  # of whoever shares the browser
            messages.success(request, f"Your password is set. Sign in as {person.get_username()}.")
            return HttpResponseRedirect(reverse("account_login"))
    context = {"form": form, "person": person, "agency": agency()}
    answer = TemplateResponse(request, "account/invitation.html", context, status=200 if person else 404)
    answer["X-Robots-Tag"] = "noindex"
    return answer
