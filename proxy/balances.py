"""Keeps the limit engine in step with configuration and ledger: loads what it does not know, checks what it does."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connection

from proxy.clock import Clock
from proxy.directory import Snapshot
from proxy.limits.ledger import read_balances
from proxy.limits.memory import MemoryLimits
from proxy.limits.rules import Balances, Missing
from usage.ledger import last_settled

log = logging.getLogger("gateway.balances")
T = TypeVar("T")

RETRY_SECONDS = 1.0
WAIT_SECONDS = 10.0  # how long a call waits for counters that are being read
CHECK_SECONDS = 300.0
# A record further in the future than that is a mistake, not a clock that was set back.
MAX_CLOCK_STEP_US = 24 * 3_600_000_000


class LedgerKeeper:
    """Loads counters from the ledger whenever clients or limits change, and compares both every five minutes."""

    def __init__(self, limits: MemoryLimits, clock: Clock, journal_dir: Path) -> None:
        self._limits = limits
        self._clock = clock
        self._journal_dir = journal_dir
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._snapshot: Snapshot | None = None
        self._changed = asyncio.Event()
        self._loaded = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._clock_set = False
        self.ready = False
        """Whether the counters of all clients were known once; later changes hold up only the clients they concern."""
        self.differing = 0
        """Counters that did not equal the ledger at the last check; anything but 0 deserves an alert."""
        self.checked = 0
        """How often counters and ledger were compared."""

    @property
    def loaded(self) -> bool:
        """Whether the counters of every client are known."""
        return self._loaded.is_set()

    def start(self) -> None:
        """Begin to load and to check."""
        self._tasks = [asyncio.create_task(self._load_always()), asyncio.create_task(self._check_always())]

    async def stop(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def follow(self, snapshot: Snapshot) -> None:
        """The configuration changed."""
        self._snapshot = snapshot
        self._loaded.clear()
        self._changed.set()

    async def until_loaded(self) -> None:
        """Wait for the counters, for a while."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._loaded.wait()
        except TimeoutError:
            return

    async def _load_always(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._load()
                continue
            except (DatabaseError, InterfaceError, OSError) as error:
                log.error("the ledger cannot be read, limits of new clients wait: %s", error)
            except Exception:  # a task that dies in silence would keep every new client out for good
                log.exception("the counters cannot be loaded, limits of new clients wait")
            self._changed.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _load(self) -> None:
        assert self._snapshot is not None
        loop = asyncio.get_running_loop()
        if not self._clock_set:
            latest = self._clock() + MAX_CLOCK_STEP_US
            newest = await loop.run_in_executor(self._thread, _closing, lambda: last_settled(self._journal_dir, latest))
            self._clock.not_before(newest)
            self._clock_set = True
        missing = self._limits.unloaded(self._snapshot.subjects, self._clock())
        if missing is not None:
            balances = await loop.run_in_executor(self._thread, self._read, missing)
            if not self._limits.load(balances, missing.until):
                return
        self.ready = True
        if not self._changed.is_set():
            self._loaded.set()

    def _read(self, missing: Missing) -> Balances:
        return _closing(lambda: read_balances(self._journal_dir, missing))

    async def _check_always(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self.loaded:
                try:
                    await self.check()
                except (DatabaseError, InterfaceError, OSError) as error:
                    log.error("the ledger cannot be read, counters are not checked: %s", error)
                except Exception:  # as above: a check that has stopped looks like one that finds nothing
                    log.exception("the counters cannot be checked")

    async def check(self) -> int:
        """Compare every counter with the ledger; returns how many differ. DatabaseError if it cannot be read."""
        until = self._clock()
        known = self._limits.dump(until)
        asked = self._limits.asked(until)
        told = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, asked)
        differing = 0
        for key in asked.counters:
            ours = known.seconds.get(key, {}) if key.cycle == "minute" else known.counters.get(key, 0)
            theirs = told.seconds.get(key, {}) if key.cycle == "minute" else told.counters.get(key, 0)
            if ours != theirs:
                differing += 1
                log.error("ALERT counter %s is %s, the ledger says %s", key, ours, theirs)
        self.differing = differing
        self.checked += 1
        return differing


def _closing(read: Callable[[], T]) -> T:
    try:
        return read()
    except (DatabaseError, InterfaceError):
        connection.close()  # so that the next attempt makes a new one
        raise
