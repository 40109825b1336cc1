"""Deciding whether a call may be made: what it may need, and the one atomic reserve over all of its client's limits."""

import hashlib
import logging
from collections.abc import Awaitable, Callable

from django.conf import settings

from pricing.quotes import RateCard, Usage, bound, charge, quote
from proxy.directory import Grant, Route
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
        subject, markup_bp = grant.client.subject, grant.client.markup_bp
        rough = Usage(rough_input(call), output_tokens=rough_output(call))
        demand = _demand(call, _card(route, now), markup_bp, rough, session, input_bound=len(call.body))
        outcome = await self._limits.reserve(call_id, subject, demand, now, grant.key_id)
        if isinstance(outcome, Refusal) and _guessed(outcome, demand):
            # Refused for an upper bound: nobody is refused for a guess, so the prompt is counted and tried once more.
            counted = await count_input(call)
            now = self._clock()
            rough = Usage(min(counted, rough.input_tokens), output_tokens=rough.output_tokens)
            demand = _demand(call, _card(route, now), markup_bp, rough, session, input_bound=counted)
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


def _demand(
    call: CallRequest, card: RateCard | None, markup_bp: int, rough: Usage, session: str | None, *, input_bound: int
) -> Demand:
    """What to hold: an upper bound where there is one, else the estimate, open-ended. No `card`: a free model."""
    if call.max_output is None:
        tokens = rough.input_tokens + rough.output_tokens
        credits = 0 if card is None else charge(quote(card, rough, call.service_tier)[0], markup_bp)
        return Demand(tokens, credits, True, session)
    if not call.bounded_input:  # pictures and files can only be estimated; what can be bounded is
        input_bound = rough.input_tokens
    tokens = input_bound + call.max_output
    cost = 0 if card is None else bound(card, input_bound, call.max_output, call.service_tier)
    return Demand(tokens, charge(cost, markup_bp) if cost else 0, False, session)
