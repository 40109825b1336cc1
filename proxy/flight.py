"""One call in flight: what was admitted, how far it has come, and the two lines it leaves in the journal."""

from typing import NamedTuple

from pricing.quotes import Usage, charged, quote
from proxy.directory import Grant, Route
from proxy.exchange import Origin
from proxy.limits.reservation import Reservation
from proxy.request import NO_TAGS, CallRequest, Tags
from proxy.tokens import RelayedText
from usage import outcomes
from usage.lines import Begin, End, encode

NOTHING = Usage(0)
_MAX_TEXT = 200  # of what a provider names: its columns are no wider


class Result(NamedTuple):
    """How a call ended, for the record."""

    outcome: str
    status: int
    usage: Usage = NOTHING
    estimated: bool = False
    code: str | None = None
    model: str | None = None
    """The model that the provider says it served."""
    service_tier: str | None = None


class Flight:
    """An admitted call. Everything up to `reservation` is frozen at admission; the rest moves while it flies."""

    __slots__ = (
        "admitted_at", "call", "first_byte_at", "grant", "id", "origin", "provider_request_id", "relayed",
        "reservation", "rough", "route", "sent", "session", "settled",
    )  # fmt: skip

    def __init__(
        self,
        call_id: str,
        admitted_at: int,
        grant: Grant,
        origin: Origin,
        call: CallRequest,
        route: Route,
        reservation: Reservation,
        session: str | None,
        rough: Usage,
    ) -> None:
        self.id = call_id
        self.admitted_at = admitted_at
        self.grant = grant
        self.origin = origin
        self.call = call
        self.route = route
        self.reservation = reservation
        self.session = session
        self.rough = rough
        self.relayed: RelayedText | None = None
        self.sent = False
        self.first_byte_at: int | None = None
        self.provider_request_id: str | None = None
        self.settled = False

    def price(self, usage: Usage, tier: str | None) -> tuple[int, int, int | None]:
        """(cost, charge, id of the price) of `usage` in picodollars, at the prices in force at admission."""
        client = self.grant.client
        card = None if self.route.free else self.route.card(self.admitted_at)
        cost, price_id = (0, None) if card is None else quote(card, usage, tier)
        return cost, charged(cost, usage, client.markup_bp, client.own_prices.get(self.route.model_id)), price_id

    def begin_line(self) -> bytes:
        """The journal's line of an admitted call, with the estimate that holds should this process die."""
        call, tags = self.call, self.call.tags
        cost, charge, price_id = self.price(self.rough, call.service_tier)
        line: Begin = {
            "k": "b",
            "id": self.id,
            "at": self.admitted_at,
            "c": self.grant.client.id,
            "key": self.grant.key_id,
            "p": self.route.provider.id,
            "m": self.route.model_id,
            "ep": call.endpoint.value,
            "ask": call.model,
            "price": price_id,
            "in": self.rough.input_tokens,
            "out": self.rough.output_tokens,
            "cost": cost,
            "charge": charge,
            "st": int(call.stream),
            "s": self.session,
            "w": tags.workflow,
            "x": tags.execution,
            "env": tags.env,
            "so": int(self.reservation.opens_session),
        }
        return encode(line)

    def end(self, result: Result, *, session_opened: bool, cost: tuple[int, int, int | None], now: int) -> End:
        """The journal's end of this call; `cost` as `price` gives it, `now` in µs."""
        usage, call, tags = result.usage, self.call, self.call.tags
        first = self.first_byte_at
        return {
            "k": "e",
            "id": self.id,
            "at": self.admitted_at,
            "c": self.grant.client.id,
            "key": self.grant.key_id,
            "p": self.route.provider.id,
            "m": self.route.model_id,
            "ep": call.endpoint.value,
            "ask": call.model,
            "srv": result.model[:_MAX_TEXT] if result.model else None,
            "price": cost[2],
            "in": usage.input_tokens,
            "cached": usage.cached_tokens,
            "cw": usage.cache_write_tokens,
            "out": usage.output_tokens,
            "reason": usage.reasoning_tokens,
            "ain": usage.audio_input_tokens,
            "aout": usage.audio_output_tokens,
            "cost": cost[0],
            "charge": cost[1],
            "est": int(result.estimated),
            "o": result.outcome,
            "status": result.status,
            "err": result.code,
            "ms": max(0, now - self.admitted_at),
            "ttfb": None if first is None else max(0, first - self.admitted_at),
            "st": int(call.stream),
            "s": self.session,
            "so": int(session_opened),
            "w": tags.workflow,
            "x": tags.execution,
            "env": tags.env,
            "tier": result.service_tier[:_MAX_TEXT] if result.service_tier else None,
            "end": now,
            "prid": self.provider_request_id,
            "ip": self.origin.address,
            "ua": self.origin.user_agent,
        }


def refused(
    call_id: str,
    at: int,
    grant: Grant,
    origin: Origin,
    endpoint: str,
    call: CallRequest | None,
    route: Route | None,
    session: str | None,
    result: Result,
    now: int,
) -> End:
    """The journal's end of a call that was never admitted. `call` and `route` are None as far as it did not come."""
    tags: Tags = NO_TAGS if call is None else call.tags
    return {
        "k": "e",
        "id": call_id,
        "at": at,
        "c": grant.client.id,
        "key": grant.key_id,
        "p": None if route is None else route.provider.id,
        "m": None if route is None else route.model_id,
        "ep": endpoint,
        "ask": "" if call is None else call.model,
        "srv": None,
        "price": None,
        "in": 0,
        "cached": 0,
        "cw": 0,
        "out": 0,
        "reason": 0,
        "ain": 0,
        "aout": 0,
        "cost": 0,
        "charge": 0,
        "est": 0,
        "o": outcomes.REFUSED,
        "status": result.status,
        "err": result.code,
        "ms": max(0, now - at),
        "ttfb": None,
        "st": 0 if call is None else int(call.stream),
        "s": session,
        "so": 0,
        "w": tags.workflow,
        "x": tags.execution,
        "env": tags.env,
        "tier": None,
        "end": now,
        "prid": None,
        "ip": origin.address,
        "ua": origin.user_agent,
    }
