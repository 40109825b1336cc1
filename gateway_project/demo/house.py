"""What the demo's agency has set up beside its clients: plans, terms, prices of a client's own, a billed month."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from clients.agency import change_agency
from clients.models import Client, Plan
from clients.onboarding import set_plan
from clients.own_prices import set_own_prices
from clients.plans import apply_plan, terms
from gateway_project.demo.world import Party
from keys.models import KeyUse
from pricing.models import Model
from pricing.money import PICO
from usage.closing import close, drafts, month_to_close
from usage.models import ExportSchedule, Terms

_BILLED_UP_TO: Final = 500_000
"""Records; summing up more takes longer than a demo should."""
_PLANS: Final = {
    "Starter": (3_000, "One bot, a few hundred users.", ["requests=500/day", "credits=10/month"]),
    "Business": (2_500, "Several workflows.", ["requests=5000/day", "credits=100/month", "sessions=3000/month"]),
}


def furnish(parties: Sequence[Party], now: datetime, records: int) -> None:
    """Set it up. The last month stays to be closed, as it does on the first days of a new one."""
    change_agency(
        name="Flowworks Automation", address="Main Street 12\n10115 Berlin", tax_label="VAT 19 %", tax_points=1900
    )
    clients = [party.client for party in parties]
    _give_plans(clients)
    month = month_to_close(now)
    before = (month - timedelta(days=1)).replace(day=1)
    since = {"since": before, "currency": "EUR", "rate": 920_000}
    Terms.objects.create(client=clients[0], monthly_fee=49 * PICO, included=10 * PICO, **since)
    Terms.objects.create(client=clients[1], minimum=15 * PICO, session_price=PICO // 100, **since)
    small = Model.objects.get(name="gpt-4o-mini")
    set_own_prices(clients[1], {small.pk: {"input": 250_000, "output": 1_000_000}})
    ExportSchedule.objects.create(name="Costs of the month")
    if records <= _BILLED_UP_TO:
        for draft in drafts(clients, before, now):
            if not draft.refused:
                close(draft, None, now)


def _give_plans(clients: Sequence[Client]) -> None:
    """Let clients without a call follow a plan; the others deviate from theirs, as what was made for them does."""
    plans = []
    for name, (markup, description, limits) in _PLANS.items():
        plan = Plan()
        set_plan(plan, limits, name=name, markup_bp=markup, description=description)
        plans.append(plan)
    called = set(KeyUse.objects.values_list("key__client", flat=True))
    for number, client in enumerate(clients):
        plan = plans[number % len(plans)]
        if client.pk in called:
            Client.objects.filter(pk=client.pk).update(plan=plan, plan_terms=terms(plan))
        else:
            apply_plan(client, plan)
