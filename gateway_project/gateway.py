"""The gateway process: the data plane put together, started, and stopped without losing a call."""

import asyncio
import concurrent.futures
import fcntl
import gc
import ipaddress
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from typing import Any

import uvloop
from django.conf import settings
from prometheus_client import ProcessCollector

from proxy.admission import Admission
from proxy.app import Gateway
from proxy.authenticate import Authenticator
from proxy.balances import LedgerKeeper
from proxy.call_log import CallLog
from proxy.clock import Clock
from proxy.directory import Directory, Grant, Route
from proxy.exchange import HeaderList
from proxy.forward import Forwarder
from proxy.limits.memory import MemoryLimits
from proxy.metrics import Metrics
from proxy.own_usage import OwnUsageTeller
from proxy.pipeline import Pipeline
from proxy.server import Server
from proxy.upstream import Pool
from proxy.web import WebRelay
from usage.journal import Journal
from usage.lines import End

log = logging.getLogger("gateway")

_random = random.Random()  # noqa: S311 - ids must be unique, not secret


class CannotStart(RuntimeError):
    """The gateway cannot start; the message is one sentence for the operator."""


def new_id() -> str:
    """A request id: 32 hex digits of a UUID version 7 (RFC 9562, section 5.7), so that ids sort by time."""
    noise = _random.getrandbits(74)
    high = (time.time_ns() // 1_000_000 << 16) | 0x7000 | (noise >> 62)
    return f"{high:016x}{(0b10 << 62) | (noise & 0x3FFF_FFFF_FFFF_FFFF):016x}"


class Process:
    """Everything one gateway process consists of. Made and used in one event loop."""

    def __init__(self, web_port: int, log_fd: int) -> None:
        self.clock = Clock()
        self.journal = Journal(settings.JOURNAL_DIR, self.clock)
        self.limits = MemoryLimits()
        self.keeper = LedgerKeeper(self.limits, self.clock, settings.JOURNAL_DIR)
        self.directory = Directory(self.keeper.follow)
        self.pool = Pool()
        self.call_log = CallLog(log_fd)
        self.draining = False
        self.metrics = Metrics(
            {
                "gateway_calls_in_flight": ("Calls admitted and not ended.", lambda: self.pipeline.in_flight),
                "gateway_connections": ("Open client connections.", lambda: len(self.server.connections)),
                "gateway_journal_unwritten": ("Ends waiting for a disk.", lambda: self.journal.unwritten),
                "gateway_counters_differing": ("Counters unlike the ledger.", lambda: self.keeper.differing),
                "gateway_configuration_stale": ("1 while the database is away.", lambda: self.directory.stale),
                "gateway_log_lines_dropped": ("Call log lines lost.", lambda: self.call_log.dropped),
            }
        )
        self.pipeline = Pipeline(
            clock=self.clock,
            directory=self.directory,
            admission=Admission(self.limits, self.keeper.until_loaded, self.clock),
            limits=self.limits,
            journal=self.journal,
            forwarder=Forwarder(self.pool),
            headers=self._call_headers,
            on_end=self._ended,
        )
        self.own_usage = OwnUsageTeller(self.limits, self.clock)
        trusted = tuple(ipaddress.ip_network(network) for network in settings.TRUSTED_PROXIES)
        self.app = Gateway(
            clock=self.clock,
            new_id=new_id,
            directory=self.directory,
            authenticator=Authenticator(self.directory),
            limits=self.limits,
            pipeline=self.pipeline,
            metrics=self.metrics,
            own_usage=self.own_usage,
            health=self,
            web=WebRelay(self.pool, web_port, trusted),
            trusted=trusted,
            standings_token=settings.STANDINGS_TOKEN,
        )
        self.server = Server(self.app, max_body=settings.MAX_BODY_BYTES)
        self._journal_task: asyncio.Task[None] | None = None

    def _call_headers(self, call_id: str, grant: Grant) -> HeaderList:
        return self.app.call_headers(call_id, grant)

    def _ended(self, end: End, grant: Grant, route: Route | None) -> None:
        self.metrics.count(end)
        self.call_log.write(end, grant, route)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether calls can be served, and the state of each part, for /readyz."""
        parts = {
            "configuration": "missing"
            if self.directory.snapshot is None
            else "stale"
            if self.directory.stale
            else "ok",
            "limits": "ok" if self.keeper.loaded else "loading",
            "counters": "differ from the ledger" if self.keeper.differing else "ok",
            "journal": "cannot be written" if self.journal.unwritten or self.journal.failing else "ok",
        }
        ready = (
            not self.draining and self.directory.snapshot is not None and self.keeper.ready and parts["journal"] == "ok"
        )
        degraded = [name for name, state in parts.items() if state != "ok"]
        status = "draining" if self.draining else "degraded" if degraded else "ready"
        return ready, {"status": status, **parts}

    async def start(self, host: str, port: int) -> int:
        """Bind the port, read the configuration and the ledger. Returns the port; raises CannotStart."""
        try:
            self.journal.open()
        except OSError as error:
            raise CannotStart(f"The journal in {settings.JOURNAL_DIR} cannot be written: {error}.") from error
        try:
            bound = await self.server.listen(host, port)
        except OSError as error:
            self.journal.close()
            raise CannotStart(f"PORT {port} cannot be used: {error.strerror or error}.") from error
        self._journal_task = asyncio.create_task(self._keep_journal())
        self.keeper.start()
        await self.directory.start()
        return bound

    async def stop(self) -> None:
        """Drain, settle everything, close."""
        self.draining = True
        cut = await self.server.drain(settings.DRAIN_SECONDS)
        if cut:
            log.warning("%d calls were cut after %d s of draining", cut, settings.DRAIN_SECONDS)
        await self.keeper.stop()
        await self.directory.stop()
        self.own_usage.stop()
        self.pool.close()
        if self._journal_task is not None:
            self._journal_task.cancel()
        self.journal.close()
        self.call_log.close()

    async def _keep_journal(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.journal.fsync_seconds)
            self.journal.tick()
            try:
                await loop.run_in_executor(None, self.journal.sync)
            except OSError:
                log.exception("the journal cannot be synced to disk")


def _take_installation() -> int:
    """Lock DATA_DIR for the one gateway of the embedded size. Raises CannotStart where another has it."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    fd = os.open(settings.DATA_DIR / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise CannotStart(
            f"Another gateway is running on DATA_DIR {settings.DATA_DIR}: one process keeps the limits of an embedded "
            "installation; for more set DATABASE_URL and REDIS_URL."
        ) from error
    return fd


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tune_collector() -> None:
    """Keep the garbage collector from walking over all of Django again and again: measured, 4 % of a call's CPU.

    A call makes no cycles, so what a rarer collection leaves lying is little.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _serve(host: str, port: int, web_port: int) -> None:
    process = Process(web_port, sys.stdout.fileno())
    ProcessCollector(registry=process.metrics.registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        # Not the loop's own handlers: it would end them by restoring the default, which kills, before all is over.
        signal.signal(signum, lambda *_: loop.call_soon_threadsafe(stop.set))
    bound = await process.start(host, port)
    log.info("listening on http://%s:%d", host, bound)
    _tune_collector()
    await stop.wait()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)  # one more does no harm, whenever it comes
    await process.stop()


def run(host: str, port: int, web_port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotStart."""
    lock = _take_installation()
    _raise_file_limit()
    try:
        uvloop.run(_serve(host, port, web_port))
    finally:
        os.close(lock)


class Handle:
    """A gateway that runs in a thread of its own."""

    def __init__(self, host: str, port: int, web_port: int) -> None:
        self._started: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, args=(host, port, web_port), name="gateway", daemon=True)
        self._thread.start()
        self.port = self._started.result()

    def _run(self, host: str, port: int, web_port: int) -> None:
        try:
            lock = _take_installation()
            try:
                uvloop.run(self._serve(host, port, web_port))
            finally:
                os.close(lock)
        except BaseException as error:  # whatever it is: whoever started this waits for it
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self, host: str, port: int, web_port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        process = Process(web_port, sys.stdout.fileno())
        self._started.set_result(await process.start(host, port))
        await self._stop.wait()
        await process.stop()

    def stop(self) -> None:
        """Drain and stop; returns when it is over."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(settings.DRAIN_SECONDS + 10)


def serve_in_thread(host: str, port: int, web_port: int) -> Handle:
    """Start a gateway in a thread, for the development server. Raises CannotStart, or whatever else stops it."""
    return Handle(host, port, web_port)
