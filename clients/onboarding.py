"""Taking a client on, and finding it again by what people call it."""

import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q

from clients.limits import parse_deviation
from clients.models import Client, Limit, Plan, PlanLimit
from clients.plans import terms


def create_client(name: str, limits: Iterable[str] = (), plan: Plan | None = None, **profile: Any) -> Client:
    """Create a client with its limits (`requests=100/day`, …), wholly or not at all, and return it.

    With a plan it has the plan's limits and markup, but for the `limits` and `markup_bp` given: `requests=500/day`
    stands in place of the plan's requests a day, `requests=none/day` leaves them unlimited. `profile` are fields of
    Client: email, company, phone, owner, provider, markup_bp, time_zone, cycle_start_day, notes, onboarding_token.
    Raises ValidationError for anything that does not hold, a limit given twice included.
    """
    client = Client(name=name, plan=plan, **profile)
    own = limits_of(plan, limits)
    if plan is not None:
        client.plan_terms = terms(plan)
        if "markup_bp" not in profile:
            client.markup_bp = plan.markup_bp
    with transaction.atomic():
        client.full_clean()
        client.save()
        for limit in own:
            limit.client = client
            limit.full_clean()
            limit.save()
    return client


def limits_of(plan: Plan | None, deviations: Iterable[str]) -> list[Limit]:
    """Return, not yet saved and of no client, the limits of `plan` as changed by `deviations`.

    Raises ValidationError for a deviation that is no limit, twice about the same, or drops what the plan does not have.
    """
    planned = plan.limits.all() if plan is not None else ()
    amounts = {(limit.metric, limit.cycle): limit.amount for limit in planned}
    given = set()
    for text in deviations:
        metric, amount, cycle = parse_deviation(text)
        if (metric, cycle) in given:
            raise ValidationError(f"There are two limits of {metric} {Limit.Cycle(cycle).label}: give one.")
        given.add((metric, cycle))
        if amount is not None:
            amounts[metric, cycle] = amount
        elif amounts.pop((metric, cycle), None) is None:
            raise ValidationError(f"{text} takes away a limit that there is not: only one of the plan's can be.")
    return [Limit(metric=metric, cycle=cycle, amount=amount) for (metric, cycle), amount in amounts.items()]


def set_limits(client: Client, limits: Iterable[str]) -> None:
    """Give `client` these limits (`requests=100/day`, …) and no others, wholly or not at all.

    A limit of a metric and cycle that was there before stays the same row with another amount: what was used of it
    still counts. Raises ValidationError as `limits_of` does.
    """
    wanted = limits_of(None, limits)
    with transaction.atomic():
        Client.objects.select_for_update().get(pk=client.pk)
        _replace_limits(client.limits.all(), wanted, lambda limit: Limit(client=client, **limit))


def set_plan(plan: Plan, limits: Iterable[str] | None = None, **values: Any) -> None:
    """Make a plan, or change what is given of it, wholly or not at all; clients that have it keep their terms.

    Raises ValidationError.
    """
    wanted = None if limits is None else limits_of(None, limits)
    with transaction.atomic():
        for name, value in values.items():
            setattr(plan, name, value)
        plan.full_clean()
        plan.save()
        if wanted is not None:
            _replace_limits(plan.limits.all(), wanted, lambda limit: PlanLimit(plan=plan, **limit))


def _replace_limits(
    there: Iterable[Limit | PlanLimit], wanted: Iterable[Limit], make: Callable[[dict[str, Any]], Limit | PlanLimit]
) -> None:
    left = {(limit.metric, limit.cycle): limit.amount for limit in wanted}
    for limit in there:
        amount = left.pop((limit.metric, limit.cycle), None)
        if amount is None:
            limit.delete()
        elif amount != limit.amount:
            limit.amount = amount
            limit.full_clean()
            limit.save()
    for (metric, cycle), amount in left.items():
        limit = make({"metric": metric, "cycle": cycle, "amount": amount})
        limit.full_clean()
        limit.save()


def onboard(
    token: UUID, name: str, limits: Iterable[str] = (), plan: Plan | None = None, **profile: Any
) -> tuple[Client, bool]:
    """Do `create_client` once for each `token`, however often and however concurrently it is sent.

    Return the client, and whether it was made now. A form carries a token from when it was opened. Raises
    ValidationError as `create_client` does, and where a token comes again with another name.
    """
    repeated = Client.objects.filter(onboarding_token=token)
    try:
        with transaction.atomic():
            client = repeated.first()
            if client is None:
                return create_client(name, limits, plan, onboarding_token=token, **profile), True
    except (ValidationError, IntegrityError):
        client = repeated.first()  # of two at once the other was first; else what was raised is what is wrong
        if client is None:
            raise
    if client.name != name.strip():
        raise ValidationError(f"This form was sent before and made {client}. Open a new one for another client.")
    return client, False


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


def find_plan(name: str) -> Plan:
    """Return the plan of that name. Raises ValidationError where there is none."""
    plan = Plan.objects.filter(name=name.strip()).first()
    if plan is None:
        raise ValidationError(f"There is no plan {name!r}.")
    return plan
