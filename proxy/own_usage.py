"""`GET /v1/gateway/usage`: what the holder of a key is told of its own usage and limits, and nothing of anybody else's.

Limits are this process's own counters, always there and live. Sums and forecasts come from the database, by a thread,
once in ten seconds for a client; while it is away the answer goes out without them, and says so.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from pricing.money import format_dollars
from proxy.directory import Grant
from proxy.errors import RateLimited
from proxy.limits.memory import MemoryLimits
from proxy.limits.rules import Standing
from usage.own_usage import FRESH_US, Asked, LimitNow, OwnUsage, Span, Told, Used

A_MINUTE: Final = 60
"""So often a key may ask."""
_MINUTE_US: Final = 60_000_000
_WAIT_US: Final = 1_000_000  # an answer waits for the database no longer
_RETRY_US: Final = 5_000_000  # where it did not answer, it is left alone for so long
_READINGS: Final = 32  # under way at once; who comes then is answered without sums
_KEYS_KEPT: Final = 2_000

_LIMITS_AWAY = "How limits stand is being read; ask again in a few seconds."
_USAGE_AWAY = (
    "What was used cannot be read right now; ask again in a few seconds. Limits are right, and calls are served."
)


class _Asking:
    """What one key asked lately: how often in its minute, and the newest reading."""

    __slots__ = ("asked_at", "count", "reading", "since")

    def __init__(self, now: int) -> None:
        self.since = now
        self.count = 0
        self.asked_at = 0
        self.reading: asyncio.Future[Told | None] | None = None


class OwnUsageTeller:
    """Answers it. Belongs to the event loop."""

    def __init__(self, limits: MemoryLimits, clock: Callable[[], int]) -> None:
        self._limits = limits
        self._clock = clock
        self._reader = OwnUsage()
        self._thread = ThreadPoolExecutor(1, "own-usage")
        self._askings: OrderedDict[int, _Asking] = OrderedDict()
        self._under_way = 0
        self._away_until = 0

    def stop(self) -> None:
        """End the thread once its reading is over."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def tell(self, grant: Grant) -> bytes:
        """Return the JSON for the holder of a key. Raises RateLimited for who asks too often."""
        now = self._clock()
        asking = self._asking(grant.key_id, now)
        if asking.count > A_MINUTE:
            seconds = max(1, -(-(asking.since + _MINUTE_US - now) // 1_000_000))
            raise RateLimited(
                f"Usage may be asked for {A_MINUTE} times a minute with one key.",
                headers=((b"retry-after", b"%d" % seconds),),
            )
        standings = self._limits.standings(grant.client.subject, now, grant.key_id)
        told = await self._read(asking, grant, standings, now)
        return orjson.dumps(_document(grant, standings, told, now), option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)

    def _asking(self, key_id: int, now: int) -> _Asking:
        asking = self._askings.get(key_id)
        if asking is None:
            asking = self._askings[key_id] = _Asking(now)
            if len(self._askings) > _KEYS_KEPT:
                self._askings.popitem(last=False)
        self._askings.move_to_end(key_id)
        if not 0 <= now - asking.since < _MINUTE_US:
            asking.since, asking.count = now, 0
        asking.count += 1
        return asking

    async def _read(self, asking: _Asking, grant: Grant, standings: list[Standing], now: int) -> Told | None:
        """Return what the database says, or said a moment ago; None where it does not in time."""
        if asking.reading is None or not 0 <= now - asking.asked_at < FRESH_US:
            if now < self._away_until or self._under_way >= _READINGS:
                return None
            asking.asked_at = now
            asking.reading = self._ask(grant, standings, now)
        reading = asking.reading
        if not reading.done():
            await asyncio.wait((reading,), timeout=max(0, asking.asked_at + _WAIT_US - self._clock()) / 1_000_000)
        told = reading.result() if reading.done() else None
        if told is None:
            self._away_until = self._clock() + _RETRY_US
            if reading.done() and asking.reading is reading:
                asking.reading = None
        return told

    def _ask(self, grant: Grant, standings: list[Standing], now: int) -> asyncio.Future[Told | None]:
        limits = tuple(
            LimitNow(
                one.rule.id,
                one.rule.key_id,
                one.rule.metric,
                one.rule.cycle,
                one.rule.amount,
                one.spent + one.held,
                one.resets_at,
            )
            for one in standings
        )
        asked = Asked(grant.client.id, grant.key_id, grant.client.subject.zone.key, limits, now)
        self._under_way += 1
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._reader.read, asked)
        reading.add_done_callback(self._over)
        return reading

    def _over(self, _: object) -> None:
        self._under_way -= 1


def _document(grant: Grant, standings: list[Standing], told: Told | None, now: int) -> dict[str, Any]:
    unknown = not standings and any(rule.key_id in (0, grant.key_id) for rule in grant.client.subject.rules)
    notes = [_LIMITS_AWAY] * unknown + [_USAGE_AWAY] * (told is None)
    return {
        "object": "gateway.usage",
        "at": _moment(now),
        "time_zone": grant.client.subject.zone.key,
        "client": grant.client.name,
        "key": grant.hint,
        "limits": None if unknown else [_limit(one, told) for one in standings],
        "usage": None if told is None else _usage(told, grant.key_id),
        "notes": notes,
    }


def _limit(one: Standing, told: Told | None) -> dict[str, Any]:
    rule = one.rule
    metric = rule.metric
    forecast = None if told is None else told.forecasts.get((rule.id, rule.key_id))
    return {
        "of": "key" if rule.key_id else "client",
        "metric": metric,
        "cycle": rule.cycle,
        "limit": _amount(metric, rule.amount),
        "used": _amount(metric, one.spent),
        "reserved": _amount(metric, one.held),
        "left": _amount(metric, one.left),
        "resets_at": None if one.resets_at is None else _moment(one.resets_at),
        "used_up": None
        if forecast is None
        else {"likely": forecast.likely, "earliest": forecast.earliest, "latest": forecast.latest},
        "used_at_reset": None if forecast is None or forecast.at_reset is None else _amount(metric, forecast.at_reset),
    }


def _usage(told: Told, key_id: int) -> dict[str, Any]:
    return {
        "as_of": _moment(told.as_of),
        **{name: _span(span, key_id) for name, span in told.spans.items()},
    }


def _span(span: Span, key_id: int) -> dict[str, Any]:
    return {
        "from": span.start,
        "until": span.end,
        "key": _used(span.by_key.get(key_id, Used())),
        "client": _used(span.client),
    }


def _used(used: Used) -> dict[str, Any]:
    return {
        "requests": used.requests,
        "refused": used.refused,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "sessions": used.sessions,
        "charge_usd": format_dollars(used.charge),
    }


def _amount(metric: str, amount: int) -> int | str:
    """A number, or USD as text: no float holds money."""
    return format_dollars(amount) if metric == "credits" else amount


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
