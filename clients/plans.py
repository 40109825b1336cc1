"""What clients have of their plans: limits and a markup, copied, so that a client may deviate.

A client keeps what was last copied (`plan_terms`). While its own limits and markup still read so, it follows its plan;
else somebody gave it terms of its own, which a change of the plan never touches.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet

from clients.limits import amount_for_input, format_amount
from clients.markup import format_markup
from clients.models import Client, Limit, Plan, PlanLimit


def terms(of: Client | Plan) -> str:
    """Return limits and markup as one line that reads the same for the same terms: `markup=25 requests=100/day`."""
    limits: Iterable[Limit | PlanLimit] = of.limits.all()
    written = sorted(f"{limit.metric}={amount_for_input(limit.metric, limit.amount)}/{limit.cycle}" for limit in limits)
    return " ".join([f"markup={format_markup(of.markup_bp)}", *written])


def deviates(client: Client) -> bool:
    """Tell whether a client has terms that were not copied from its plan, and are not the plan's own by chance."""
    return bool(deviations(client)) and terms(client) != client.plan_terms


def behind(client: Client) -> bool:
    """Tell whether a client follows its plan and the plan has changed since its terms were copied."""
    return bool(deviations(client)) and terms(client) == client.plan_terms


def deviations(client: Client) -> list[str]:
    """Return in words how a client's terms differ from its plan as it is now; nothing without a plan.

    Whether that is because the client was given others (`deviates`) or because the plan has moved on (`behind`) is
    told by those two. Reads `limits`, `plan` and `plan__limits`: prefetch them for a list.
    """
    if client.plan is None:
        return []
    own = {(limit.metric, limit.cycle): limit for limit in client.limits.all()}
    planned = {(limit.metric, limit.cycle): limit for limit in client.plan.limits.all()}
    words = []
    for slot in sorted(own.keys() | planned.keys()):
        if slot not in own:
            words.append(f"no limit of {planned[slot]}")
        elif slot not in planned:
            words.append(f"{own[slot]}, not limited by the plan")
        elif own[slot].amount != planned[slot].amount:
            words.append(f"{own[slot]} instead of {format_amount(slot[0], planned[slot].amount)}")
    if client.markup_bp != client.plan.markup_bp:
        words.append(f"markup {format_markup(client.markup_bp)} % instead of {format_markup(client.plan.markup_bp)} %")
    return words


def apply_plan(client: Client, plan: Plan | None) -> None:
    """Give `client` the plan's limits and markup in place of its own. Without a plan it keeps those it has.

    A limit that was there before stays the same row with another amount: what was used of it still counts. Reads
    `client` anew: changes of it that are not saved are gone.
    """
    change_plan(Client.objects.filter(pk=client.pk), plan)
    client.refresh_from_db()


def change_plan(clients: QuerySet[Client], plan: Plan | None) -> int:
    """Do `apply_plan` for all of `clients` in one transaction; return how many. Deviations are gone with it."""
    with transaction.atomic():
        locked = list(
            Client.objects.filter(pk__in=clients.values("pk")).select_for_update().values_list("pk", flat=True)
        )
        if plan is None:
            Client.objects.filter(pk__in=locked).update(plan=None, plan_terms="")
        else:
            _copy(locked, plan)
    return len(locked)


def recognise_plan(client: Client) -> None:
    """Let a client whose terms were edited by hand until they are its plan's follow that plan again."""
    if client.plan is not None and client.plan_terms != terms(client) == terms(client.plan):
        client.plan_terms = terms(client)
        client.save(update_fields=["plan_terms"])


def followers(plan: Plan) -> list[Client]:
    """Return the clients, archived ones too, that `adopt_plan_changes` would give the plan's terms of today."""
    clients = plan.clients.select_related("plan").prefetch_related("limits", "plan__limits")
    return [client for client in clients if behind(client)]


def adopt_plan_changes(plan: Plan) -> int:
    """Give the plan's terms of today to its clients that follow it; return how many there were whose terms changed.

    Those that deviate keep theirs. One transaction: all or none.
    """
    with transaction.atomic():
        list(plan.clients.select_for_update().values_list("pk", flat=True))  # nobody edits one between look and copy
        found = [client.pk for client in followers(plan)]
        _copy(found, plan)
    return len(found)


def _copy(clients: list[int], plan: Plan) -> None:
    """Write the plan's terms to these clients, in a number of statements that does not grow with theirs."""
    limits = Limit.objects.filter(client__in=clients)
    planned = list(PlanLimit.objects.filter(plan=plan))
    for limit in planned:
        limits.filter(metric=limit.metric, cycle=limit.cycle).exclude(amount=limit.amount).update(amount=limit.amount)
    there = set(limits.values_list("client_id", "metric", "cycle"))
    slots = {(limit.metric, limit.cycle) for limit in planned}
    for metric, cycle in {(metric, cycle) for _, metric, cycle in there} - slots:
        limits.filter(metric=metric, cycle=cycle).delete()
    Limit.objects.bulk_create(
        Limit(client_id=client, metric=limit.metric, amount=limit.amount, cycle=limit.cycle)
        for limit in planned
        for client in clients
        if (client, limit.metric, limit.cycle) not in there
    )
    fresh = Plan.objects.prefetch_related("limits").get(pk=plan.pk)
    Client.objects.filter(pk__in=clients).update(plan=fresh, plan_terms=terms(fresh), markup_bp=fresh.markup_bp)
