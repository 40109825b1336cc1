"""What happens to a key: issued, regenerated, revoked. Every door (admin, commands, API) calls these.

The text of a key is returned once, to whoever asked for it, and kept nowhere.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from clients.limits import parse_limit
from clients.models import Client
from keys import tokens
from keys.handover import withdraw
from keys.models import AllowedModel, APIKey, KeyLimit
from pricing import audit
from pricing.models import Model

LONGEST: Final = timedelta(days=36_500)
REPLACED: Final = "replaced"
"""The reason on a key that was regenerated without grace."""

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def issue(
    client: Client,
    name: str = "",
    expires_in: timedelta | None = None,
    *,
    models: Iterable[Model] = (),
    limits: Iterable[str] = (),
) -> tuple[APIKey, str]:
    """Make a key for `client`, for ever or for `expires_in`; return it and its text.

    `models` are the only ones that may be used with it (none: all), `limits` its own (`requests=100/day`, ...) beside
    its client's. Raises ValidationError where the client is archived, the name or a limit is not fit, or the time is
    not positive or too long; then no key is made.
    """
    if client.status == Client.Status.INACTIVE:
        raise ValidationError(f"{client} is archived: activate it before it gets a key.")
    if expires_in is not None and not timedelta() < expires_in <= LONGEST:
        raise ValidationError("A key lasts longer than nothing and 100 years at most.")
    now = timezone.now()
    plain = tokens.generate()
    key = APIKey(
        client=client,
        name=name.strip(),
        digest=tokens.digest(plain),
        hint=tokens.hint(plain),
        created_at=now,
        expires_at=None if expires_in is None else now + expires_in,
    )
    with transaction.atomic():
        key.full_clean()
        key.save()
        allow_models(key, models)
        for text in limits:
            metric, amount, cycle = parse_limit(text)
            limit = KeyLimit(key=key, metric=metric, amount=amount, cycle=cycle)
            limit.full_clean()
            limit.save()
    return key, plain


def allow_models(key: APIKey, models: Iterable[Model]) -> None:
    """Let `key` use these models and no others; without any, all. Every process knows within a second."""
    wanted = {model.pk for model in models}
    allowed = AllowedModel.objects.filter(key=key)
    with transaction.atomic():
        before = _names(allowed)
        # Those to come before those to go: at no moment is a list empty, which would mean all
        rows = [AllowedModel(key=key, model_id=model) for model in sorted(wanted)]
        AllowedModel.objects.bulk_create(rows, ignore_conflicts=True)
        allowed.exclude(model__in=wanted).delete()
        if before != (after := _names(allowed)):
            audit.log_event(key, "set the models of key", {"models": [before or "all", after or "all"]})


def regenerate(key: APIKey, grace: timedelta = timedelta()) -> tuple[APIKey, str]:
    """Replace `key` by a new one of the same client; return the new one and its text.

    It has the same name, time to live, models and limits, of which nothing is used yet.

    The old one works for `grace` more, but never longer than it would have; without grace it is revoked now.
    Raises ValidationError where it is revoked or replaced already, so that of two attempts at once one wins.
    """
    if not timedelta() <= grace <= LONGEST:
        raise ValidationError("A grace period is not negative, and 100 years at most.")
    with transaction.atomic():
        old = APIKey.objects.select_for_update(of=("self",)).select_related("client").get(pk=key.pk)
        if old.replaced_by_id is not None:
            raise ValidationError(f"{old} was already replaced; regenerate its replacement {old.replaced_by} instead.")
        if old.revoked_at is not None:
            raise ValidationError(f"{old} is revoked; issue a new key instead.")
        lasts = None if old.expires_at is None else old.expires_at - old.created_at
        new, plain = issue(old.client, old.name, lasts, models=old.models.all())
        for limit in old.limits.all():
            KeyLimit.objects.create(key=new, metric=limit.metric, amount=limit.amount, cycle=limit.cycle)
        ends = new.created_at + grace
        # After a clock was set back a short grace may end before the key's creation, which no expiry may
        if grace and ends > old.created_at:
            changes: dict[str, datetime | str] = {
                "expires_at": ends if old.expires_at is None else min(old.expires_at, ends)
            }
        else:
            changes = {"revoked_at": new.created_at, "revoked_reason": REPLACED}
        # The condition again, for a database that does not lock the row: another process may have got there first
        free = APIKey.objects.filter(pk=old.pk, replaced_by__isnull=True, revoked_at__isnull=True)
        if not free.update(replaced_by=new, **changes):
            raise ValidationError(f"{old} was replaced or revoked at the same moment.")
        withdraw(old.pk)
    key.refresh_from_db()
    return new, plain


def revoke(key: APIKey, reason: str = "") -> None:
    """End `key` now, for good: one in its grace period too, whose replacement is left alone.

    Raises ValidationError where it is revoked already (the first reason stays) or the reason is not fit.
    """
    key.revoked_at, key.revoked_reason = timezone.now(), reason.strip()
    key.clean_fields(exclude={field.name for field in APIKey._meta.fields} - {"revoked_reason"})
    alive = APIKey.objects.filter(pk=key.pk, revoked_at__isnull=True)
    done = alive.update(revoked_at=key.revoked_at, revoked_reason=key.revoked_reason)
    withdraw(key.pk)
    key.refresh_from_db()
    if not done:
        raise ValidationError(f"{key} was already revoked at {key.revoked_at:%Y-%m-%d %H:%M} UTC.")


def find(key_or_hint: str) -> APIKey:
    """Return the key with that text, hint (`llm_gw_Ab3f...x9Zq`, an ellipsis will do too) or id.

    Raises ValidationError, never repeating a whole key, where there is none or more than one.
    """
    wanted = key_or_hint.strip().replace("…", "...")
    if tokens.well_formed(wanted):
        found = APIKey.objects.filter(digest=tokens.digest(wanted))[:2]
    elif re.fullmatch("[0-9]{1,18}", wanted):
        found = APIKey.objects.filter(pk=int(wanted))[:2]
    elif "..." in wanted:
        found = APIKey.objects.filter(hint=wanted)[:2]
    else:
        raise ValidationError("That is neither a whole key, nor a hint such as llm_gw_Ab3f...x9Zq, nor a key's id.")
    if not found:
        raise ValidationError("There is no such key.")
    if len(found) > 1:
        raise ValidationError(f"More than one key has the hint {wanted}: give the whole key, or its id.")
    return found[0]


def parse_duration(text: str) -> timedelta:
    """Return the time written as minutes, hours, days or weeks: `90m`, `12h`, `30d`, `2w`; `0` is none.

    Raises ValidationError for anything else, and for more than 100 years.
    """
    text = text.strip()
    if text == "0":
        return timedelta()
    match = re.fullmatch("([0-9]{1,8})([mhdw])", text)
    if match is None:
        raise ValidationError(f"A time is written like 90m, 12h, 30d or 2w, not {text!r}.")
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if duration > LONGEST:
        raise ValidationError(f"{text} is longer than 100 years.")
    return duration


def _names(allowed: QuerySet[AllowedModel]) -> str:
    return ", ".join(sorted(allowed.values_list("model__name", flat=True)))
