"""Inviting people to work here: a link with which they set a password themselves, so that nobody else ever knows it.

A link is signed over what is stored of the password, so it dies when one is set, or when it is sent again.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from clients.agency import agency
from clients.audit import AuditEntry
from pricing.actors import acting, present
from pricing.audit import log_event

LASTS: Final = timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
_INVITED: Final = "invited"
_NO_MAIL: Final = "django.core.mail.backends.dummy.EmailBackend"
_log = logging.getLogger(__name__)


class _Tokens(PasswordResetTokenGenerator):
    key_salt = "clients.invitations"  # a link of "forgot my password" is none of these, and the other way round

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.is_active}"


_tokens: Final = _Tokens()


def is_invited(user: User) -> bool:
    """Tell whether `user` has been asked in, and has set no password yet."""
    return user.is_active and user.last_login is None and not user.has_usable_password()


def with_invitations(people: QuerySet[User]) -> QuerySet[User]:
    """Return `people`, each with `invited_at`: when the last link was made, as the audit log has it."""
    made = AuditEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User), object_id=OuterRef("pk"), event=_INVITED
    )
    return people.annotate(invited_at=Subquery(made.order_by("-timestamp").values("timestamp")[:1]))


def has_expired(invited_at: datetime | None) -> bool:
    """Tell whether a link made then, or never, works no more."""
    return invited_at is None or timezone.now() - invited_at > LASTS


@transaction.atomic
def invite(user: User) -> str:
    """Return the token of a new link for `user`; every link that was made before is dead with it.

    Raises ValidationError where the person is inactive, or has come in already.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    if not is_invited(user):
        raise ValidationError(f"{user} needs no invitation: only active people who have never signed in do.")
    user.set_unusable_password()  # a new random text, over which the link is signed
    user.save(update_fields=["password"])
    log_event(user, _INVITED)
    return f"{user.pk}-{_tokens.make_token(user)}"


def invited_by(token: str) -> User | None:
    """Return whom a link is for; None where it has expired, was used or replaced, or never was one."""
    pk, _, signed = token.partition("-")
    if not (pk.isascii() and pk.isdigit() and len(pk) < 19):  # what a database takes for an id
        return None
    user = User.objects.filter(pk=int(pk)).first()
    return user if user and is_invited(user) and _tokens.check_token(user, signed) else None


@transaction.atomic
def accept(token: str, password: str) -> User | None:
    """Give whom the link is for that password, which uses the link up; None where the link does nothing (any more).

    Raises ValidationError where the password is too weak.
    """
    user = invited_by(token)
    if user is not None:
        User.objects.select_for_update().get(pk=user.pk)
        user = invited_by(token)  # again: of two who use it at once, one does
    if user is None:
        return None
    validate_password(password, user)
    user.set_password(password)
    with acting(replace(present(), user=user)):
        user.save(update_fields=["password"])
        log_event(user, "accepted the invitation of")
    return user


def mails_are_sent() -> bool:
    """Tell whether this installation has a mail server (EMAIL_URL)."""
    return settings.EMAIL_BACKEND != _NO_MAIL


def mail(user: User, link: str, by: User | None) -> bool:
    """Mail the link to `user`; return whether a mail server took it. Never inside a transaction: servers are slow."""
    if not (mails_are_sent() and user.email):
        return False
    name, inviter = _plain(user.get_full_name()), _plain(by.get_full_name() or by.get_username()) if by else ""
    agency_name = _plain(agency().name)
    whose = f" of {agency_name}" if agency_name else ""
    hours = LASTS // timedelta(hours=1)
    text = (
        f"Hello{f' {name}' if name else ''},\n\n"
        f"{inviter or 'An owner'} invites you to work in the LLM gateway's back office{whose}. "
        "Set your password here:\n\n"
        f"{link}\n\n"
        f"The link works once, until {timezone.now() + LASTS:%Y-%m-%d %H:%M} UTC ({hours} hours). Then sign in as "
        f"{user.get_username()}, or with this e-mail address. If you did not expect this mail, do nothing.\n"
    )
    try:
        return bool(send_mail("Your invitation to the LLM gateway", text, settings.DEFAULT_FROM_EMAIL, [user.email]))
    except (OSError, SMTPException, ValueError) as error:  # ValueError: an address that cannot be in a header
        _log.warning("The invitation of user %s could not be mailed: %s", user.pk, type(error).__name__)
        return False


def _plain(name: str) -> str:
    """Return a name as one line without characters that change how the text beside them reads."""
    return "".join(character for character in " ".join(name.split()) if character.isprintable())
