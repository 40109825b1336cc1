"""How limits stand, for the back office: it asks now and then, and calls come first."""

import asyncio
from collections.abc import Callable, Sequence

from proxy.limits.memory import MemoryLimits
from proxy.limits.rules import Subject

Row = tuple[int, int, int, int, int | None]
"""Rule id, amount, spent, held, and when it resets (µs)."""

IN_ONE_GO = 50  # clients, which take about 0.1 ms


async def standings_told(
    limits: MemoryLimits, subjects: Sequence[Subject], clock: Callable[[], int], query: bytes
) -> dict[str, list[Row]]:
    """Return how the limits of clients stand now, by client.

    `query` is `client=ID`, or `percent=N` for limits used or reserved by that much and more; b"": all. Clients of
    whom there is nothing to tell are left out. `key=ID` tells of that key's own limits instead, and `keys=N` of those
    of all keys that are used or reserved by that much and more, by their clients.
    """
    name, _, digits = query.partition(b"=")
    number = int(digits) if digits.isdigit() and len(digits) <= 18 else 0
    if name == b"client":
        subjects = [subject for subject in subjects if subject.client_id == number]
    if name == b"key":
        subjects = [one for one in subjects if number and any(rule.key_id == number for rule in one.rules)]
    percent = number if name in (b"percent", b"keys") else 0
    told: dict[str, list[Row]] = {}
    for start in range(0, len(subjects), IN_ONE_GO):
        now = clock()
        for subject in subjects[start : start + IN_ONE_GO]:
            keys = {0}
            if name == b"key":
                keys = {number}
            elif name == b"keys":
                keys = {rule.key_id for rule in subject.rules if rule.key_id}
            rows: list[Row] = []
            for key_id in keys:
                for one in limits.standings(subject, now, key_id):
                    if one.rule.key_id == key_id and (one.spent + one.held) * 100 >= percent * one.rule.amount:
                        rows.append((one.rule.id, one.rule.amount, one.spent, one.held, one.resets_at))
            if rows:
                told[str(subject.client_id)] = rows
        await asyncio.sleep(0)
    return told
