"""Clients as a CSV file."""

from collections.abc import Iterator
from decimal import Decimal

from clients.limits import amount_for_input
from clients.models import Client, ClientQuerySet
from clients.plans import deviations
from clients.spreadsheet import Value, lines

HEADER = (
    *("name", "email", "company", "phone", "plan", "markup", "time_zone", "cycle_start_day", "notes", "limits"),
    *("deviations", "status", "status_reason", "owner", "created_at"),
)


def export(clients: ClientQuerySet) -> Iterator[str]:
    """Yield the lines of a CSV file of `clients`: markup in percent, limits as `parse_limit` reads them, UTC."""
    found = clients.select_related("plan", "owner").prefetch_related("limits", "plan__limits")
    return lines(HEADER, (_row(client) for client in found.iterator(chunk_size=500)))


def _row(client: Client) -> list[Value]:
    return [
        client.name,
        client.email,
        client.company,
        client.phone,
        client.plan.name if client.plan else "",
        Decimal(client.markup_bp) / 100,
        client.time_zone,
        client.cycle_start_day,
        client.notes,
        ";".join(
            f"{limit.metric}={amount_for_input(limit.metric, limit.amount)}/{limit.cycle}"
            for limit in client.limits.all()
        ),
        "; ".join(deviations(client)),
        client.status,
        client.status_reason,
        client.owner.get_username() if client.owner else "",
        f"{client.created_at:%Y-%m-%dT%H:%M:%SZ}",
    ]
