"""Whether the processes of this installation do their work, and what to do about one that does not."""

import asyncio
import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import httpx
from django.conf import settings
from django.utils.timesince import timesince

from usage.heartbeats import Heartbeat
from usage.standings import gateway_url

_SECONDS: Final = 0.5  # a page must not hang because the gateway does
QUIET: Final = {Heartbeat.Process.INGEST: timedelta(minutes=1), Heartbeat.Process.WORKER: timedelta(minutes=3)}
"""After so long without a sign of life something is wrong; the worker does one thing after the other."""

_NO_GATEWAY: Final = (
    "Calls fail. make run starts it again by itself; if it does not come up, logs/gateway.log in DATA_DIR says why."
)
_PARTS: Final = {
    "configuration": (
        "It cannot read its configuration: changes of keys, limits and prices do not arrive. See whether the database "
        "answers."
    ),
    "limits": "It is reading the ledger; calls of clients with limits wait. If it stays so, see whether the database "
    "answers.",
    "counters": "Its counters and the ledger differ: they are mended within minutes; tell support if it stays so.",
    "journal": "It cannot write its journal, so calls are refused: make room on the disk of DATA_DIR.",
}
_DOES: Final = {
    Heartbeat.Process.INGEST: (
        "writes what was used into the database",
        "Calls go on and nothing is lost, but usage shown here is behind. make run starts it again by itself; "
        "logs/ingest.log in DATA_DIR says what holds it up. Often it is a full disk, or the database.",
    ),
    Heartbeat.Process.WORKER: (
        "rolls usage up and sends mails",
        "Calls go on, but no mail is sent, and charts are behind. make run starts it again by itself; "
        "logs/worker.log in DATA_DIR says what holds it up.",
    ),
}


@dataclass(frozen=True, slots=True)
class State:
    """How one process does: `told` in words, `to_do` where somebody must act."""

    name: str
    well: bool
    told: str
    to_do: tuple[str, ...] = ()


def processes(now: datetime) -> list[State]:
    """Return how gateway, ingest and worker do. `web` does: it answers."""
    found = [_gateway()]
    beats = list(Heartbeat.objects.all())
    for process in Heartbeat.Process:
        does, to_do = _DOES[process]
        of_process = [beat for beat in beats if beat.process == process]
        if not of_process:
            found.append(State(process.label, False, f"It {does}. It has given no sign of life yet.", (to_do,)))
        for beat in of_process:
            name = process.label if len(of_process) == 1 else str(beat)
            well = now - beat.seen_at < QUIET[process]
            since = "Less than a minute ago" if now - beat.seen_at < timedelta(minutes=1) else _ago(beat.seen_at, now)
            told = f"It {does}. {since}: up to date."
            found.append(State(name, well, told, () if well else (to_do,)))
    found.append(State("web", True, "It answers this page."))
    return found


@cache
def version() -> str:
    """Return this installation's version."""
    project: dict[str, Any] = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _gateway() -> State:
    try:
        told = asyncio.run(_readiness())
    except (httpx.HTTPError, TimeoutError, ValueError):
        return State("gateway", False, "It takes the calls. It does not answer.", (_NO_GATEWAY,))
    to_do = tuple(words for part, words in _PARTS.items() if told.get(part, "ok") != "ok")
    if told.get("status") == "draining":
        return State("gateway", True, "It takes the calls. It is stopping, and lets open calls finish.")
    return State("gateway", not to_do, f"It takes the calls. It says: {told.get('status', 'nothing')}.", to_do)


async def _readiness() -> dict[str, Any]:
    """Ask within the time there is for all of it: httpx itself only bounds each wait."""
    # Plain HTTP: to read certificates would take ten times as long as the answer.
    async with asyncio.timeout(_SECONDS), httpx.AsyncClient(trust_env=False, verify=False, timeout=None) as gateway:  # noqa: S113, S501
        told = (await gateway.get(f"{gateway_url()}/readyz")).json()
    if not isinstance(told, dict):
        raise ValueError("no report")
    return told


def _ago(then: datetime, now: datetime) -> str:
    return f"{timesince(then, now, depth=1)} ago".replace("\xa0", " ")
