"""The words limits are spoken in: what applies, what a call asks for, and what the answer is. Plain data, no behaviour.

Amounts are ints in the metric's own unit: requests, tokens, picodollars of charge (`credits`), WhatsApp sessions.
Instants are µs since the epoch, UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

REQUESTS, TOKENS, CREDITS, SESSIONS = range(4)
KINDS: Final = {"requests": REQUESTS, "tokens": TOKENS, "credits": CREDITS, "sessions": SESSIONS}

SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
SESSION_LENGTH: Final = 24 * HOUR

RefusalKind = Literal["spent", "too_large", "held"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit: at most `amount` of `metric` a `cycle`. Zero refuses every call that needs any of the metric.

    It is the client's, whatever key a call comes with, or where `key_id` is not 0 that of one key of the client.
    """

    id: int
    metric: str
    amount: int
    cycle: str
    key_id: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """A client as limits see it, with the rules of all its keys.

    `start_day` (1..31) moves weeks and months; `zone` moves all calendar cycles.
    """

    client_id: int
    rules: tuple[Rule, ...]
    zone: ZoneInfo
    start_day: int


class Demand(NamedTuple):
    """What one call asks for, besides one request.

    `tokens` and `credits` are upper bounds, or with `open_ended` (nobody bounded the output) estimates. `session` is
    the digest of the WhatsApp user, if the call names one.
    """

    tokens: int
    credits: int
    open_ended: bool
    session: str | None


class Refusal(NamedTuple):
    """The most binding limit that refused.

    `left` counts calls in flight, `fits` does not: it is the most that one call could ask for now with nothing in
    flight. `resets_at` is when what was `wanted` can fit again (a call larger than the whole limit: when all of it is
    back); None: never.
    """

    kind: RefusalKind
    rule: Rule
    left: int
    fits: int
    resets_at: int | None
    wanted: int


class Standing(NamedTuple):
    """How one limit stands. `resets_at` is when all of it is back (None: never); `left` is never below zero."""

    rule: Rule
    spent: int
    held: int
    left: int
    resets_at: int | None


class CounterKey(NamedTuple):
    """What one counter counts: calls of the client admitted at or after `start`. For `minute`, `start` is 60 s ago.

    With a `key_id` that is not 0, only calls with that key.
    """

    client_id: int
    metric: str
    cycle: str
    start: int
    key_id: int = 0


class Missing(NamedTuple):
    """What the engine has to be told before it can judge: calls settled at or before `until`, and sessions open then.

    `session_clients` are the clients whose sessions of the last 24 hours are unknown.
    """

    until: int
    counters: tuple[CounterKey, ...]
    session_clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Balances:
    """What the ledger knows; what is not named is zero.

    counters: spent per counter, all cycles but `minute`. seconds: for `minute`, spent per second of admission (s since
    the epoch). sessions: per client, digest -> µs at which the call that opened the session was admitted.
    """

    counters: Mapping[CounterKey, int] = field(default_factory=dict)
    seconds: Mapping[CounterKey, Mapping[int, int]] = field(default_factory=dict)
    sessions: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


class LimitsNotLoaded(LookupError):
    """The counters of a client are not known yet, so nothing can be admitted on them (a 503, not a 429)."""

    def __init__(self, client_id: int) -> None:
        super().__init__(f"The limits of client {client_id} are not loaded.")
        self.client_id = client_id
