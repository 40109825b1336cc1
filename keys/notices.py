"""Mails about keys: those that will soon expire, and links that were opened. Each is sent once."""

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import send_mail
from django.utils import timezone
from django.utils.formats import date_format

from clients import access
from clients.models import Client
from keys.models import APIKey, ExpiryNotice, Handover

DAYS_BEFORE: Final = (1, 7)
"""How many days before its end a mail is sent about a key; a key that lasts less long than that gets the later one."""


def mail_expiring() -> int:
    """Mail, to all who may renew them, the keys that come to their end; return how many mails were sent."""
    sent = 0
    for days in DAYS_BEFORE:
        told = ExpiryNotice.objects.filter(days__lte=days).values("key")
        for key in APIKey.objects.expiring(timedelta(days=days)).exclude(pk__in=told).select_related("client"):
            _, new = ExpiryNotice.objects.get_or_create(key=key, days=days)
            if new:
                sent += _mail(
                    key.client,
                    f"A key of {key.client} expires on {_moment(key.expires_at)}",
                    f"{key} of {key.client} works until {_moment(key.expires_at)}. After that its calls are refused "
                    "with key_expired. Regenerate it with a grace period, and hand the new one over in time.",
                )
    return sent


def mail_opened() -> int:
    """Mail to whoever made a link when and from where it was opened; return how many mails were sent."""
    opened = Handover.objects.filter(opened_at__isnull=False, told_at=None).select_related("key__client", "made_by")
    sent = 0
    for link in opened:
        if not Handover.objects.filter(pk=link.pk, told_at=None).update(told_at=timezone.now()):
            continue  # another worker was first
        if link.made_by is None or not link.made_by.email:
            continue
        sent += send_mail(
            f"The key of {link.key.client} was taken",
            f"The link for {link.key} of {link.key.client} was opened on {_moment(link.opened_at)} from "
            f"{link.opened_address or 'an unknown address'} ({link.opened_user_agent or 'no user agent'}). If that was "
            "not who you sent it to, revoke the key now.",
            settings.DEFAULT_FROM_EMAIL,
            [link.made_by.email],
        )
    return sent


def _mail(client: Client, subject: str, text: str) -> int:
    people = User.objects.filter(is_active=True, is_staff=True).exclude(email="").select_related("membership")
    addresses = [person.email for person in people if access.may(person, "change", client)]
    return send_mail(subject, text, settings.DEFAULT_FROM_EMAIL, addresses) if addresses else 0


def _moment(moment: object) -> str:
    assert hasattr(moment, "astimezone")
    local = timezone.localtime(moment)  # type: ignore[arg-type]  # a datetime: fields may be NULL, these are not
    return f"{date_format(local, 'j F Y, H:i')} {local:%Z}"
