"""Two people at one client: whoever saves second is told, and nothing of either is lost in silence."""

from datetime import timedelta

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.formats import date_format

from clients.models import AuditEntry, Client

_LOGGED_WITHIN = timedelta(seconds=5)  # the log's entry is written after the change, by the same request


def claim(client: Client, seen: int) -> None:
    """Lock the client's row until the transaction ends, if it is still at version `seen`.

    Raises ValidationError (code `changed`), which tells who changed it when. Must run in a transaction.
    """
    current = Client.objects.select_for_update().get(pk=client.pk)
    if current.version != seen:
        raise ValidationError(
            f"{last_change(current)}, after you opened this page. Nothing was saved, and what you entered is still "
            "here: compare, then save again to let yours stand.",
            code="changed",
        )


def last_change(client: Client) -> str:
    """Return who changed `client` last, if the log knows, and when: `Ann Lee changed Acme at …`."""
    during = (client.changed_at, client.changed_at + _LOGGED_WITHIN)
    entry = AuditEntry.objects.filter(client=client, timestamp__range=during).select_related("actor").last()
    who = "Somebody" if entry is None else entry.by if entry.actor is None else entry.actor.get_full_name() or entry.by
    moment = timezone.localtime(client.changed_at)
    return f"{who} changed {client} on {date_format(moment, 'j F Y')} at {date_format(moment, 'H:i:s e')}"
