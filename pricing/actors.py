"""Who acts just now, and through which door: what the audit log says beside each change.

Every door says it once, around all that it does; whatever is changed inside needs no request at hand.
"""

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import TextChoices

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class Door(TextChoices):
    ADMIN = "admin", "Back office"
    API = "api", "API"
    COMMAND = "command", "Command"
    AUTOMATIC = "automatic", "Automatic"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person, or what acts instead of one: `command createkey`, `automatic`."""

    door: Door
    name: str = ""
    user: "User | None" = None
    address: str | None = None

    def __str__(self) -> str:
        return self.user.get_username() if self.user else self.name or self.door.value


def command(arguments: Sequence[str]) -> Actor:
    """Return the actor of a process started with these arguments: the command, never its options, and whose shell."""
    try:
        shell = f" ({getpass.getuser()})"
    except (KeyError, OSError):  # a container's user may have no name
        shell = ""
    return Actor(Door.COMMAND, " ".join(["command", *arguments[1:2]]) + shell)


_present: ContextVar[Callable[[], Actor]] = ContextVar("acting", default=lambda: Actor(Door.AUTOMATIC))


@contextmanager
def acting(actor: Actor | Callable[[], Actor]) -> Iterator[None]:
    """Name `actor` for all that is changed inside; a callable is asked at each change, as people sign in meanwhile."""
    token = _present.set((lambda: actor) if isinstance(actor, Actor) else actor)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> Actor:
    """Return who acts now; `automatic` where no door has said."""
    return _present.get()()
