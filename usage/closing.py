"""Closing a month: what a client's statement would say, what looks odd about it, and making it.

A month is closed once, after the one before it. What comes late into a closed month, or is corrected in it, is found
as the difference between what its calls are now and what was billed for it, and goes into the next statement.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from clients.agency import Agency
from clients.models import Client
from pricing.models import Model
from pricing.money import format_sum
from usage.days import midnight
from usage.folding import Sums
from usage.month_sums import Span, Used, used_in, workflows_in
from usage.statements import FIGURES, Statement, StatementLine, total
from usage.terms import Terms, copied, terms_of

CLOSED: Final = "closed"
"""Why a month can't be closed that is."""
_ESTIMATED: Final = 20  # a share of one in so many is odd
_UNUSUAL: Final = 2  # so many times the month before, or a part as small, is odd


@dataclass(slots=True)
class Draft:
    """A statement that could be made."""

    client: Client
    month: date
    span: Span
    terms: Terms
    used: Used = field(default_factory=Used)
    lines: list[StatementLine] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """What somebody should look at before."""
    refused: str = ""
    """Why it can't be made, '' where it can."""
    base: int = 0
    """The number of the client's newest statement when this was drafted, 0 where it has none."""
    net: int = 0

    @property
    def cost(self) -> int:
        """Picodollars that providers take for the lines that are paid."""
        return sum(line.cost for line in self.lines if line.kind != StatementLine.WORKFLOW)

    @property
    def charge(self) -> int:
        """Picodollars that the month's calls were charged."""
        return self.used.total.charge

    @property
    def amount(self) -> int:
        """Picodollars that it comes to, before taxes."""
        return sum(line.amount for line in self.lines if line.kind != StatementLine.WORKFLOW)


def drafts(clients: Iterable[Client], month: date, now: datetime, *, to_look_at: bool = False) -> list[Draft]:
    """Return what the statements of a month (its first day) would be, in the order of `clients`.

    Those that are only to be looked at have no lines by workflow, which nothing is paid by, and are not to be closed.
    """
    every = list(clients)
    newest = _newest(every)
    terms = terms_of(every, month)
    found = []
    for client in every:
        last = newest.get(client.pk)
        draft = Draft(client, month, _span(client, month, last), terms[client.pk], base=last.number if last else 0)
        draft.refused = _refusal(draft, last, now)
        found.append(draft)
    open_ones = [draft for draft in found if not draft.refused]
    closed = _closed(open_ones)
    spans = {Span(one.client_id, one.start, one.end, one.zone) for some in closed.values() for one in some}
    used = used_in({draft.span for draft in open_ones} | spans)
    workflows = workflows_in([] if to_look_at else [draft.span for draft in open_ones])
    names = dict(Model.objects.values_list("pk", "name"))
    for draft in open_ones:
        draft.used = used[draft.span]
        adjustments = _adjustments(closed.get(draft.client.pk, []), used)
        draft.lines = [
            *_usage_lines(draft, names),
            *_other_lines(draft),
            *adjustments,
            *_workflow_lines(draft, workflows.get(draft.span, {})),
        ]
        for position, line in enumerate(draft.lines):
            line.position = position
        draft.net, _, _ = total(draft.lines, draft.terms, 0)
        draft.odd = _oddities(draft, closed.get(draft.client.pk, []), adjustments)
    return found


def close(draft: Draft, by: User | None, now: datetime) -> Statement:
    """Make the statement. Raises ValidationError where it can't be made, or another was made since the draft."""
    if draft.refused:
        raise ValidationError(f"{draft.client}: {draft.refused}")
    with transaction.atomic():
        Agency.objects.get_or_create(pk=1)
        house = Agency.objects.select_for_update().get(pk=1)  # one at a time: numbers have no gaps
        last = _newest([draft.client]).get(draft.client.pk)
        if (last.number if last else 0) != draft.base:
            raise ValidationError(f"{draft.client}: a statement was made meanwhile. Look at it, and try again.")
        number = (Statement.objects.aggregate(number=Max("number"))["number"] or 0) + 1
        net, tax, gross = total(draft.lines, draft.terms, house.tax_points)
        statement = Statement.objects.create(
            number=number,
            client=draft.client,
            client_name=draft.client.name,
            client_company=draft.client.company,
            month=draft.month,
            start=draft.span.start,
            end=draft.span.end,
            zone=draft.span.zone,
            agency_name=house.name,
            agency_address=house.address,
            agency_logo=house.logo,
            tax_label=house.tax_label,
            tax_points=house.tax_points,
            net=net,
            tax=tax,
            gross=gross,
            closed_at=now,
            closed_by=by.get_username() if by else "",
            **copied(draft.terms),
        )
        for line in draft.lines:
            line.statement = statement
        StatementLine.objects.bulk_create(draft.lines)
    return statement


def month_to_close(now: datetime) -> date:
    """Return the month that is over everywhere on earth: the one people close first."""
    return ((now - timedelta(hours=12)).date().replace(day=1) - timedelta(days=1)).replace(day=1)


def _newest(clients: Collection[Client]) -> dict[int, Statement]:
    found: dict[int, Statement] = {}
    for statement in Statement.objects.filter(client__in=clients).order_by("month"):
        found[statement.client_id] = statement
    return found


def _closed(open_ones: Collection[Draft]) -> Mapping[int, Sequence[Statement]]:
    """Return by client the statements there are, in order."""
    found: dict[int, list[Statement]] = defaultdict(list)
    clients = [draft.client for draft in open_ones]
    for statement in Statement.objects.filter(client__in=clients).order_by("month").prefetch_related("lines"):
        found[statement.client_id].append(statement)
    return found


def _span(client: Client, month: date, last: Statement | None) -> Span:
    """Return the client's month. It begins where its last statement ended: a client may move to another zone."""
    zone = ZoneInfo(client.time_zone)
    start = midnight(month, zone) if last is None or _following(last.month) != month else last.end
    return Span(client.pk, start, midnight(_following(month), zone), client.time_zone)


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _refusal(draft: Draft, last: Statement | None, now: datetime) -> str:
    if last is not None and draft.month <= last.month:
        return CLOSED
    if last is not None and draft.month != _following(last.month):
        return f"{_following(last.month):%B %Y} has to be closed first."
    if draft.span.end > now:
        return "The month is not over."
    if draft.client.created_at >= draft.span.end:
        return "It was no client then."
    return ""


def _usage_lines(draft: Draft, names: Mapping[int, str]) -> list[StatementLine]:
    lines = []
    for model, sums in draft.used.by_model.items():
        title = names.get(model, f"Model {model}") if model is not None else "Without a model"
        lines.append(_line(StatementLine.USAGE, title, draft.month, sums))
    return sorted(lines, key=lambda line: (-line.amount, line.title))


def _workflow_lines(draft: Draft, workflows: Mapping[str, Sums]) -> list[StatementLine]:
    """Tell the same calls by workflow; those without one are what is left."""
    lines = [_line(StatementLine.WORKFLOW, name, draft.month, sums) for name, sums in workflows.items() if sums.charge]
    lines.sort(key=lambda line: (-line.amount, line.title))
    whole = draft.used.total
    rest = Sums(mine - sum(sums.amounts[at] for sums in workflows.values()) for at, mine in enumerate(whole.amounts))
    if lines and rest.charge > 0:
        lines.append(_line(StatementLine.WORKFLOW, "Without a workflow", draft.month, rest))
    return lines


def _line(kind: str, title: str, month: date, sums: Sums) -> StatementLine:
    return StatementLine(
        kind=kind,
        title=title,
        month=month,
        calls=max(0, sums.calls),
        sessions=max(0, sums.sessions),
        input_tokens=max(0, sums.input_tokens),
        output_tokens=max(0, sums.output_tokens),
        cost=sums.cost,
        charge=sums.charge,
        amount=sums.charge,
    )


def _other_lines(draft: Draft) -> list[StatementLine]:
    """Return what is paid beside the usage: with it, it makes up `Conditions.amount`."""
    terms, used = draft.terms, draft.used.total

    def line(kind: str, title: str, amount: int) -> StatementLine:
        return StatementLine(kind=kind, title=title, month=draft.month, amount=amount)

    lines = []
    if covered := min(terms.included, used.charge):
        lines.append(line(StatementLine.INCLUDED, "Included in the monthly fee", -covered))
    if terms.session_price and used.sessions:
        title = f"{used.sessions:,} WhatsApp sessions at {format_sum(terms.session_price)} USD"
        lines.append(line(StatementLine.SESSIONS, title, used.sessions * terms.session_price))
    if terms.monthly_fee:
        lines.append(line(StatementLine.FEE, "Monthly fee", terms.monthly_fee))
    so_far = used.charge + sum(one.amount for one in lines)
    if so_far < terms.minimum:
        lines.append(line(StatementLine.MINIMUM, "Up to the minimum of a month", terms.minimum - so_far))
    return lines


def _adjustments(closed: Sequence[Statement], used: Mapping[Span, Used]) -> list[StatementLine]:
    """Return for each closed month what its calls are now beyond what was billed for it."""
    billed: dict[date, dict[str, int]] = defaultdict(lambda: dict.fromkeys(FIGURES, 0))
    for statement in closed:
        for line in statement.billed:
            for name, value in line.own().items():
                billed[line.month][name] += value
    lines = []
    for statement in closed:
        now = used[Span(statement.client_id, statement.start, statement.end, statement.zone)].total
        was = billed[statement.month]
        more = {name: getattr(now, name) - was[name] for name in FIGURES if name != "amount"}
        amount = statement.amount(now.charge, now.sessions) - was["amount"]
        if amount or any(more.values()):
            title = f"{_reason(more)}, {statement.month:%B %Y} (statement {statement.number})"
            line = StatementLine(
                kind=StatementLine.ADJUSTMENT, title=title, month=statement.month, amount=amount, **more
            )
            lines.append(line)
    return lines


def _reason(more: Mapping[str, Any]) -> str:
    calls = more["calls"]
    if calls > 0:
        return f"{calls:,} {'call that was' if calls == 1 else 'calls that were'} recorded late"
    return "Calls taken out" if calls < 0 else "Prices corrected"


def _oddities(draft: Draft, closed: Sequence[Statement], adjustments: Sequence[StatementLine]) -> list[str]:
    used = draft.used.total
    odd = []
    if not used.calls:
        odd.append("No usage.")
    if used.calls and draft.used.estimated * _ESTIMATED >= used.calls:
        odd.append(f"{draft.used.estimated:,} of {used.calls:,} calls are estimated.")
    if draft.used.interrupted:
        one = draft.used.interrupted == 1
        odd.append(f"{draft.used.interrupted:,} {'call was' if one else 'calls were'} interrupted.")
    if used.cost > used.charge:
        odd.append(f"Its calls cost {format_sum(used.cost - used.charge)} USD more than they are charged.")
    if closed:
        before = sum(line.charge for line in closed[-1].billed if line.kind == StatementLine.USAGE)
        if before and not before <= used.charge * _UNUSUAL <= before * _UNUSUAL**2:
            odd.append(f"{format_sum(used.charge)} USD of usage, {format_sum(before)} the month before.")
    if adjustments:
        odd.append(f"{len(adjustments)} earlier {'month is' if len(adjustments) == 1 else 'months are'} adjusted.")
    return odd
