"""Taking a client on with its first key: all that one page of the back office, or one call of the API, does."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from clients.models import Client, Plan
from clients.onboarding import onboard
from keys.lifecycle import issue
from keys.models import APIKey


def onboard_with_key(
    token: UUID,
    name: str,
    limits: Iterable[str] = (),
    plan: Plan | None = None,
    *,
    key_name: str = "",
    expires_in: timedelta | None = None,
    **profile: Any,
) -> tuple[Client, APIKey, str | None]:
    """Do `onboard`, then issue the client's first key, wholly or not at all, once for each `token`.

    Return the client, the key and its text; None for the text on a repeat, since a key is had only by who made it.
    Raises ValidationError as `onboard` and `issue` do.
    """
    with transaction.atomic():
        client, _ = onboard(token, name, limits, plan, **profile)
        first = client.keys.order_by("id").first()
        if first is not None:
            return client, first, None
        key, plain = issue(client, key_name, expires_in)
        return client, key, plain
