"""Deliveries until they arrive: taken by one worker at a time, tried again ever more rarely, given up after a day."""

import smtplib
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from clients.agency import agency
from clients.invitations import mails_are_sent
from usage.alerts.models import Alert, Delivery, Receiver
from usage.alerts.webhook import NotDelivered, post

RETRIED_AFTER: Final = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=15),
)
"""After the first attempt, the second, …; after the last of these it is given up."""
TAKEN_FOR: Final = timedelta(minutes=2)
"""A delivery that is being tried for longer has lost its worker, and is tried by another."""
IN_ONE_GO: Final = 50
"""Deliveries to one receiver."""
KEPT: Final = timedelta(days=90)
TEST: Final = "test"
"""The type of a webhook that a person sends to see whether it arrives."""


def deliver_due(now: datetime | None = None) -> int:
    """Try what is due; return how many arrived. Safe to run anywhere, any number at once."""
    moment = now or timezone.now()
    due = Delivery.objects.filter(state=Delivery.State.WAITING, due_at__lte=moment).order_by("due_at", "pk")
    count = 0
    for receiver in set(due.order_by().values_list("receiver", flat=True)):
        theirs = due.filter(receiver=receiver).select_related("receiver", "alert__client", "alert__provider")
        for delivery in theirs[:IN_ONE_GO]:
            if not _take(delivery, moment):
                continue
            if not attempt(delivery, moment):
                break  # one that hangs is not waited for once a delivery
            count += 1
    return count


def test(receiver: Receiver, now: datetime) -> Delivery:
    """Deliver a test once, now, and return what came of it."""
    delivery = Delivery.objects.create(receiver=receiver, made_at=now, due_at=now + TAKEN_FOR, attempts=1)
    attempt(delivery, now, again=False)
    return delivery


def forget(now: datetime) -> int:
    """Delete alerts, and tests, that are older than `KEPT`; return how many rows."""
    old = now - KEPT
    tests = Delivery.objects.filter(alert=None, made_at__lt=old)
    return Alert.objects.filter(raised_at__lt=old).delete()[0] + tests.delete()[0]


def attempt(delivery: Delivery, now: datetime, *, again: bool = True) -> bool:
    """Try a delivery that was taken, and write down what came of it; return whether it arrived."""
    try:
        told, state, due_at = _send(delivery, now), Delivery.State.DELIVERED, delivery.due_at
    except NotDelivered as error:
        told = str(error)
        if again and delivery.attempts <= len(RETRIED_AFTER):
            state, due_at = Delivery.State.WAITING, now + RETRIED_AFTER[delivery.attempts - 1]
        else:
            state, due_at = Delivery.State.FAILED, delivery.due_at
    delivery.state, delivery.told, delivery.due_at, delivery.tried_at = state, told[:300], due_at, now
    written = {"state": state, "told": delivery.told, "due_at": due_at, "tried_at": now}
    mine = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING, attempts=delivery.attempts)
    mine.update(**written)
    return state == Delivery.State.DELIVERED


def message(alert: Alert | None, delivery: Delivery) -> dict[str, Any]:
    """Return what a webhook says: `type`, `timestamp`, and `data` with the title and the facts."""
    moment = (alert.raised_at if alert else delivery.made_at).isoformat()
    if alert is None:
        return {"type": TEST, "timestamp": moment, "data": {"title": "A test of the LLM gateway's alerts"}}
    about: dict[str, Any] = {"title": alert.title, "url": _url(alert)}
    if alert.client is not None:
        about["client"] = {"id": alert.client.pk, "name": alert.client.name}
    return {"type": alert.kind, "timestamp": moment, "data": {**about, **alert.facts}}


def _take(delivery: Delivery, now: datetime) -> bool:
    mine = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING, attempts=delivery.attempts)
    if not mine.filter(due_at__lte=now).update(attempts=F("attempts") + 1, due_at=now + TAKEN_FOR):
        return False
    delivery.attempts += 1
    return True


def _send(delivery: Delivery, now: datetime) -> str:
    """Return what was done, in words. Raises NotDelivered."""
    receiver, alert = delivery.receiver, delivery.alert
    if receiver.way == Receiver.Way.WEBHOOK:
        return post(receiver, f"msg_{delivery.pk}", message(alert, delivery), now)
    if not mails_are_sent():
        raise NotDelivered("No mail is sent: set EMAIL_URL where the gateway runs.")
    title = alert.title if alert else "A test of the LLM gateway's alerts"
    name = agency().name
    text = [title + ".", "", _url(alert) if alert else "Alerts arrive at this address.", ""]
    text.append(f"Sent to “{receiver.name}” by the LLM gateway{f' of {name}' if name else ''}.")
    try:
        send_mail(title, "\n".join(text), settings.DEFAULT_FROM_EMAIL, receiver.recipients)
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(f"The mail server did not take it ({type(error).__name__}).") from error
    return f"Mailed to {', '.join(receiver.recipients)}"


def _url(alert: Alert) -> str:
    """Return where the back office shows what it is about; '' where nobody has said by what name it is reached."""
    if not settings.PUBLIC_URL:
        return ""
    return f"{settings.PUBLIC_URL}{reverse('admin:usage_alert_change', args=[alert.pk])}"
