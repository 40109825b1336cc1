"""What a call in flight holds, until it is settled or released."""

from typing import TYPE_CHECKING

from proxy.limits.rules import CREDITS, REQUESTS, SESSIONS, TOKENS, Demand, Subject
from proxy.limits.windows import Counter, Window

if TYPE_CHECKING:
    from proxy.limits.client import ClientState
    from proxy.limits.sessions import Session


class Reservation:
    """A call in flight.

    `holds` are the counters of the windows it was admitted in (spent there even if it settles after their end) with
    the amount it holds of each; None once it is over. `opens_session`: it is the call that a session is counted for,
    which becomes true later if the call that was it before is released.
    """

    __slots__ = ("admitted_at", "call_id", "demand", "holds", "key_id", "opens_session", "session", "state", "subject")

    state: "ClientState"  # set by the engine

    def __init__(
        self, call_id: str, subject: Subject, demand: Demand, now: int, holds: list[tuple[Counter, int]], key_id: int
    ) -> None:
        self.call_id = call_id
        self.key_id = key_id
        self.subject = subject
        self.demand = demand
        self.admitted_at = now
        self.holds: list[tuple[Counter, int]] | None = holds
        self.session: Session | None = None
        self.opens_session = False

    def join(self, window: Window) -> None:
        """Hold on a window that was not there when the call was admitted, unless it counts another key's calls."""
        if window.key_id and window.key_id != self.key_id:
            return
        counter = window.at(self.admitted_at)
        if counter is None or self.holds is None:
            return
        needs = {
            REQUESTS: 1,
            TOKENS: self.demand.tokens,
            CREDITS: self.demand.credits,
            SESSIONS: int(self.opens_session),
        }
        need = needs[counter.kind]
        counter.hold(need)
        self.holds.append((counter, need))

    def take_session(self) -> None:
        """Become the call that the session is counted for, in the windows this call was admitted in."""
        self.opens_session = True
        if self.holds is not None:
            for place, (counter, _) in enumerate(self.holds):
                if counter.kind == SESSIONS:
                    counter.hold(1)
                    self.holds[place] = (counter, 1)
