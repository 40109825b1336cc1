"""Deciding whether a call may be made: what it may need, and the one atomic reserve over all of its client's limits."""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from django.conf import settings

from pricing.quotes import RateCard, Usage, bound, charge, charged, quote
from proxy.directory import ClientGrant, Grant, Route
from proxy.errors import LimitsUnavailable, ModelNotPriced, QuotaExceeded, RateLimited
from proxy.limits.memory import MemoryLimits
from proxy.limits.refusal import explain
from proxy.limits.reservation import Reservation
from proxy.limits.rules import Demand, LimitsNotLoaded, Refusal
from proxy.request import CallRequest
from proxy.tokens import count_input, rough_input, rough_output

log = logging.getLogger("gateway.admission")

_KEYED = hashlib.blake2b(key=settings.SESSION_DIGEST_KEY, digest_size=16)


def session_digest(client_id: int, session: str | None) -> str | None:
    """The keyed digest under which a WhatsApp user of a client is kept; the user's own name never is."""
    if session is None:
        return None
    keyed = _KEYED.copy()  # the key's own block is worked in once, not for every call
    keyed.update(b"%d\0%b" % (client_id, session.encode("utf-8", "replace")))
    return keyed.hexdigest()


class Admission:
    """Reserves, or says why not."""

    def __init__(self, limits: MemoryLimits, loaded: Callable[[], Awaitable[None]], clock: Callable[[], int]) -> None:
        self._limits = limits
        self._loaded = loaded
        self._clock = clock

    async def reserve(
        self, call_id: str, grant: Grant, call: CallRequest, route: Route, session: str | None
    ) -> tuple[Reservation, Usage] | RateLimited | QuotaExceeded:
        """Hold what the call may need; returns the reservation and the estimate that the journal keeps.

        A call that a limit refuses consumes nothing; the error is returned, since a client that loops against its
        limit must cost less than one that is served, and raising costs more than all the rest of a refusal. Raises
        ModelNotPriced or LimitsUnavailable.
        """
        try:
            return await self._reserve(call_id, grant, call, route, session)
        except LimitsNotLoaded:
            pass
        await self._loaded()
        try:
            return await self._reserve(call_id, grant, call, route, session)
        except LimitsNotLoaded as error:
            raise LimitsUnavailable(
                "The limits of this account cannot be checked right now; try again shortly.",
                headers=((b"retry-after", b"5"),),
            ) from error

    async def _reserve(
        self, call_id: str, grant: Grant, call: CallRequest, route: Route, session: str | None
    ) -> tuple[Reservation, Usage] | RateLimited | QuotaExceeded:
        # The engine books a call on the window that is open when it is asked, so the call's time is taken at that
        # very moment: with the time at which its headers came, the ledger would put it into another window.
        now = self._clock()
        client, subject = grant.client, grant.client.subject
        rough = Usage(rough_input(call), output_tokens=rough_output(call))
        demand = _demand(call, _rates(client, route, now), rough, session, input_bound=len(call.body))
        outcome = await self._limits.reserve(call_id, subject, demand, now, grant.key_id)
        if isinstance(outcome, Refusal) and _guessed(outcome, demand):
            # Refused for an upper bound: nobody is refused for a guess, so the prompt is counted and tried once more.
            counted = await count_input(call)
            now = self._clock()
            rough = Usage(min(counted, rough.input_tokens), output_tokens=rough.output_tokens)
            demand = _demand(call, _rates(client, route, now), rough, session, input_bound=counted)
            outcome = await self._limits.reserve(call_id, subject, demand, now, grant.key_id)
        if isinstance(outcome, Refusal):
            why = explain(outcome, subject.zone, now)
            if why.code == RateLimited.code:
                return RateLimited(why.message, headers=why.headers)
            return QuotaExceeded(why.message, headers=why.headers)
        return outcome, rough


def _card(route: Route, now: int) -> RateCard | None:
    """Prices at `now` (µs); None for a free model. Raises ModelNotPriced."""
    if route.free:
        return None
    card = route.card(now)
    if card is None:
        log.error("model %s is asked for but has no price: set one, or mark it free", route.name)
        raise ModelNotPriced(
            f"The model {route.name!r} is not available yet: whoever runs this gateway has to set its price.",
            param="model",
        )
    return card


def _guessed(refusal: Refusal, demand: Demand) -> bool:
    return not demand.open_ended and refusal.kind != "spent" and refusal.rule.metric in ("tokens", "credits")


def _rates(client: ClientGrant, route: Route, now: int) -> "_Rates":
    """What the client pays for calls of that model at `now` (µs). Raises ModelNotPriced."""
    return _Rates(_card(route, now), client.markup_bp, client.own_prices.get(route.model_id))


class _Rates(NamedTuple):
    """The model's prices (None: it is free), the client's markup in basis points, and its own price if it has one."""

    card: RateCard | None
    markup_bp: int
    own: RateCard | None

    def expected(self, usage: Usage, tier: str | None) -> int:
        """What a call with that usage is charged, picodollars."""
        cost = 0 if self.card is None or self.own is not None else quote(self.card, usage, tier)[0]
        return charged(cost, usage, self.markup_bp, self.own)

    def most(self, input_tokens: int, output_tokens: int, tier: str | None) -> int:
        """The most that a call of at most so many tokens is charged, picodollars."""
        if self.own is not None:
            return bound(self.own, input_tokens, output_tokens, None)
        return 0 if self.card is None else charge(bound(self.card, input_tokens, output_tokens, tier), self.markup_bp)


def _demand(call: CallRequest, rates: _Rates, rough: Usage, session: str | None, *, input_bound: int) -> Demand:
    """What to hold: an upper bound where there is one, else the estimate, open-ended."""
    if call.max_output is None:
        tokens = rough.input_tokens + rough.output_tokens
        return Demand(tokens, rates.expected(rough, call.service_tier), True, session)
    if not call.bounded_input:  # pictures and files can only be estimated; what can be bounded is
        input_bound = rough.input_tokens
    credits = rates.most(input_bound, call.max_output, call.service_tier)
    return Demand(input_bound + call.max_output, credits, False, session)
