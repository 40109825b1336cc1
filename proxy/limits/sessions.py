"""WhatsApp sessions of a client: who is open, which call opened it, and when it is forgotten."""

from typing import TYPE_CHECKING, Final

from proxy.limits.rules import HOUR, SESSION_LENGTH

if TYPE_CHECKING:
    from proxy.limits.reservation import Reservation

# Two would keep up with one new session a call; more works off a backlog, and still costs a call next to nothing.
_MOST_A_CALL: Final = 4


class Session:
    """One end user's 24 hours from `opened_at`, the admission of the call that opened it.

    While that call is in flight it is the `opener`, and `others` are the calls in flight that found the session open,
    by call id, in order of admission. Once it is settled both are None: the session stays.
    """

    __slots__ = ("digest", "opened_at", "opener", "others")

    def __init__(self, digest: str, opened_at: int, opener: "Reservation | None") -> None:
        self.digest = digest
        self.opened_at = opened_at
        self.opener = opener
        self.others: dict[str, Reservation] | None = None if opener is None else {}


SessionMap = dict[str, Session]


class Expiry:
    """Forgets sessions after their 24 hours (at most an hour later), a few a call, so that no call pays for many."""

    __slots__ = ("_due", "_hours", "turn")

    def __init__(self) -> None:
        self._hours: dict[int, list[tuple[SessionMap, Session]]] = {}
        self._due: list[list[tuple[SessionMap, Session]]] = []
        self.turn = 0  # no need to call `prune` before this instant

    def add(self, sessions: SessionMap, session: Session) -> None:
        """Have `session` removed from `sessions` once it is over."""
        hour = (session.opened_at + SESSION_LENGTH) // HOUR + 1
        self._hours.setdefault(hour, []).append((sessions, session))

    def prune(self, now: int) -> None:
        """Remove up to four sessions that are over."""
        if not self._due:
            this_hour = now // HOUR
            self._due = [self._hours.pop(hour) for hour in [hour for hour in self._hours if hour <= this_hour]]
            self.turn = 0 if self._due else (this_hour + 1) * HOUR
            if not self._due:
                return
        batch = self._due[-1]
        for _ in range(min(_MOST_A_CALL, len(batch))):
            sessions, session = batch.pop()
            if sessions.get(session.digest) is not session:
                continue  # ceased with its only call, or a new one took its place
            if now - session.opened_at < SESSION_LENGTH:
                self.add(sessions, session)  # it went over to a later call
            else:
                del sessions[session.digest]
        if not batch:
            self._due.pop()
