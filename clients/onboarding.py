"""Taking a client on, and finding it again by what people call it."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from clients.limits import parse_limit
from clients.models import Client, Limit


def create_client(name: str, limits: Iterable[str] = (), **profile: Any) -> Client:
    """Create a client with its limits (`requests=100/day`, …), wholly or not at all, and return it.

    `profile` are fields of Client: email, company, phone, owner, markup_bp, time_zone, cycle_start_day, notes.
    Raises ValidationError for anything that does not hold, a limit given twice included.
    """
    client = Client(name=name, **profile)
    with transaction.atomic():
        client.full_clean()
        client.save()
        for text in limits:
            metric, amount, cycle = parse_limit(text)
            limit = Limit(client=client, metric=metric, amount=amount, cycle=cycle)
            limit.full_clean()
            limit.save()
    return client


def find_client(name_or_id: str) -> Client:
    """Return the client of that name or id.

    Raises ValidationError where there is none, or where the number is one client's name and another's id.
    """
    wanted = Q(name=name_or_id.strip())
    if re.fullmatch("[0-9]{1,18}", name_or_id):
        wanted |= Q(id=int(name_or_id))
    found = Client.objects.filter(wanted)[:2]
    if not found:
        raise ValidationError(f"There is no client {name_or_id!r}.")
    if len(found) > 1:
        raise ValidationError(f"{name_or_id!r} is the name of one client and the id of another.")
    return found[0]


def parse_markup(percent: str) -> int:
    """Return a markup given in percent (`25`, `-10`, `12.5`) in basis points.

    Raises ValidationError where it is no number with two decimals at most.
    """
    if not re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]{1,2})?", percent.strip()):
        raise ValidationError(f"A markup is a percentage such as 25 or 12.5, two decimals at most, not {percent!r}.")
    return int(Decimal(percent.strip()) * 100)


def format_markup(basis_points: int) -> str:
    """Return basis points in percent, as `parse_markup` reads them: 1250 is `12.5`."""
    return f"{(Decimal(basis_points) / 100).normalize():f}"
