"""Sign-ins, failed ones and sign-outs in the audit log. What was typed is not kept: it may have been a password."""

from dataclasses import replace
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Q
from django.dispatch import receiver

from pricing.actors import Door, acting, present
from pricing.audit import log_event


@receiver(user_logged_in)
def signed_in(user: User, **_: Any) -> None:
    """Log who came in."""
    _log(user, "signed in as")


@receiver(user_logged_out)
def signed_out(user: User | None, **_: Any) -> None:
    """Log who went out; nobody, where the session had ended before."""
    if user is not None:
        _log(user, "signed out as")


@receiver(user_login_failed)
def failed_to_sign_in(credentials: dict[str, Any], **_: Any) -> None:
    """Log whose account somebody failed to get into, where it is one's of ours."""
    typed = str(credentials.get("username") or credentials.get("email") or "")[:254]
    user = User.objects.filter(Q(username=typed) | Q(email__iexact=typed)).first() if typed else None
    with acting(replace(present(), door=Door.ADMIN, user=None, name="nobody known")):
        if user is None:
            log_event(User(), "failed to sign in as", object_pk="", object_repr="an unknown name")
        else:
            log_event(user, "failed to sign in as")


def _log(user: User, event: str) -> None:
    with acting(replace(present(), door=Door.ADMIN, user=user)):
        log_event(user, event)
