"""The measurements: each returns rows for the table. Contenders take turns, so that a busy neighbour meets all."""

from __future__ import annotations

import asyncio
import re
import signal
import statistics
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from bench.cases import CHAT, HEAVY_PAGE, OPEN_MODEL, STREAM_MODEL, stream_request
from bench.house import House
from bench.load import Result, at_rate, closed, hang_up, open_streams, request_bytes
from bench.processes import Running

PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what, how much, and what was promised."""

    what: str
    measured: str
    promised: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything takes."""

    rounds: int = 3
    seconds: float = 3.0
    streams: int = 3000
    memory_calls: int = 200_000
    rate: int = 400


@dataclass(slots=True)
class Contender:
    """One of those compared, over all of its turns."""

    process: Running
    request: bytes
    turns: list[Result] = field(default_factory=list)
    cpu: float = 0.0

    async def turn(self, run: Coroutine[Any, Any, Result]) -> Result:
        """Take one turn, and note its CPU time."""
        before = self.process.cpu_seconds()
        result = await run
        self.cpu += self.process.cpu_seconds() - before
        self.turns.append(result)
        return result

    @property
    def done(self) -> int:
        """Answers in all turns."""
        return sum(turn.done for turn in self.turns)

    @property
    def rate(self) -> float:
        """Median of the turns' answers a second."""
        return statistics.median(turn.rate for turn in self.turns)

    @property
    def per_cpu_second(self) -> float:
        """Answers per second of CPU: what one core would give if nobody else wanted it and the load never lacked."""
        return self.done / self.cpu if self.cpu else float("nan")

    @property
    def cpu_share(self) -> float:
        """How busy its core was with it."""
        return self.cpu / sum(turn.seconds for turn in self.turns)

    def percentile(self, percent: float) -> float:
        """Median of the turns' percentiles, in seconds."""
        return statistics.median(turn.percentile(percent) for turn in self.turns)

    def told(self) -> str:
        """For the table."""
        return (
            f"{self.rate:,.0f}/s, p50 {self.percentile(50) * 1000:.2f} ms, p99 {self.percentile(99) * 1000:.2f} ms; "
            f"{1e6 / self.per_cpu_second:.1f} µs of CPU each, core {self.cpu_share:.0%} busy{self._amiss()}"
        )

    def _amiss(self) -> str:
        statuses = {status for turn in self.turns for status in turn.statuses} - {200}
        broken = sum(turn.broken for turn in self.turns)
        return (f"; **statuses {sorted(statuses)}**" if statuses else "") + (f"; **{broken} broken**" if broken else "")


async def json_calls(house: House, gateway: Running, plan: Plan) -> list[Row]:
    """JSON calls with 32 connections and with one: nginx, the bare relay, the gateway; and the stub called directly."""
    request = request_bytes(PATH, CHAT, house.key)
    direct, ours = Contender(house.stub, request), Contender(gateway, request)
    bare = Contender(house.relay(house.stub, "json-relay"), request)
    contenders = {"bare relay": bare, "gateway, everything on": ours}
    if house.nginx:
        contenders = {"nginx `proxy_pass`": Contender(house.proxy(), request)} | contenders
    for contender in contenders.values():
        await closed(contender.process.port, request, connections=32, seconds=0.5)
    house.drain()
    for _ in range(plan.rounds):
        for contender in contenders.values():
            await contender.turn(closed(contender.process.port, request, connections=32, seconds=plan.seconds))
        house.drain()
    rows = [Row(f"JSON, 32 connections: {name}", contender.told()) for name, contender in contenders.items()]
    if house.nginx:
        rival = contenders["nginx `proxy_pass`"]
        rows.append(_ratio("JSON, 32 connections: gateway against nginx", ours, rival, "0.25, the goal 0.35"))
        rows += await _cross_check(house, plan, request, {"nginx `proxy_pass`": rival, "gateway, everything on": ours})
    rows.append(_ratio("JSON, 32 connections: gateway against the bare relay", ours, bare))
    rows += await _one_connection(house, plan, direct, contenders)
    return rows


def _ratio(what: str, ours: Contender, other: Contender, promised: str = "") -> Row:
    return Row(
        what,
        f"**{ours.per_cpu_second / other.per_cpu_second:.2f}** by CPU, {ours.rate / other.rate:.2f} by the clock",
        promised,
    )


async def _one_connection(house: House, plan: Plan, direct: Contender, contenders: dict[str, Contender]) -> list[Row]:
    alone = {"stub called directly": direct} | {
        name: Contender(contender.process, contender.request) for name, contender in contenders.items()
    }
    for _ in range(plan.rounds):
        for contender in alone.values():
            await contender.turn(
                closed(contender.process.port, contender.request, connections=1, seconds=plan.seconds / 2)
            )
        house.drain()
    rows = [Row(f"JSON, 1 connection: {name}", contender.told()) for name, contender in alone.items()]
    added = [
        theirs.percentile(50) - straight.percentile(50)
        for theirs, straight in zip(alone["gateway, everything on"].turns, direct.turns, strict=True)
    ]
    rows.append(
        Row(
            "JSON, 1 connection: median added by the gateway", f"**{statistics.median(added) * 1000:.2f} ms**", "0.5 ms"
        )
    )
    return rows


async def _cross_check(house: House, plan: Plan, request: bytes, contenders: dict[str, Contender]) -> list[Row]:
    """The same by another load generator, by the clock alone."""
    if house.wrk is None:
        return [Row("cross-check by wrk", "not run: wrk is not installed")]
    head, _, body = request.partition(b"\r\n\r\n")
    lines = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    script = house.folder / "post.lua"
    headers = "".join(
        f'wrk.headers["{name.title()}"] = "{value}"\n' for name, value in lines.items() if name != "content-length"
    )
    script.write_text(f'wrk.method = "POST"\nwrk.body = [[{body.decode()}]]\n{headers}')
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(plan.rounds):
        for name, contender in contenders.items():
            url = f"http://127.0.0.1:{contender.process.port}{PATH}"
            options = ["-t1", "-c32", f"-d{max(1, round(plan.seconds))}s", "-s", str(script), url]
            process = await asyncio.create_subprocess_exec(
                "taskset", "-c", str(house.right), house.wrk, *options, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            found = re.search(rb"Requests/sec:\s+([0-9.]+)", output)
            rates[name].append(float(found[1]) if found and b"Non-2xx" not in output else float("nan"))
        house.drain()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    told = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in medians.items())
    nginx, ours = medians.values()
    return [Row("the same by wrk instead of our load generator", f"{told}: **{ours / nginx:.2f}** by the clock")]


async def streams(house: House, gateway: Running, plan: Plan) -> list[Row]:
    """Streams of 50 chunks without pause, through the gateway and through the bare relay."""
    request = request_bytes(PATH, stream_request(STREAM_MODEL), house.key)
    bare = Contender(house.relay(house.stream_stub, "stream-relay"), request)
    ours = Contender(gateway, request)
    contenders = {"bare relay": bare, "gateway, everything on": ours}
    for contender in contenders.values():
        await closed(contender.process.port, request, connections=16, seconds=0.5)
    for _ in range(plan.rounds):
        for contender in contenders.values():
            await contender.turn(closed(contender.process.port, request, connections=16, seconds=plan.seconds))
    house.drain()
    rows = [Row(f"streams of 50 chunks, 16 connections: {name}", each.told()) for name, each in contenders.items()]
    return [*rows, _ratio("streams: gateway against the bare relay", ours, bare, "0.8")]


async def refusals(house: House, gateway: Running, plan: Plan) -> list[Row]:
    """Refused calls against served ones."""
    contenders = {
        "served": Contender(gateway, request_bytes(PATH, CHAT, house.key)),
        "refused by a limit": Contender(gateway, request_bytes(PATH, CHAT, house.spent_key)),
        "refused for a wrong key": Contender(gateway, request_bytes(PATH, CHAT, house.wrong_key)),
    }
    await closed(gateway.port, contenders["refused by a limit"].request, connections=1, calls=2)
    for _ in range(plan.rounds):
        for contender in contenders.values():
            await contender.turn(closed(gateway.port, contender.request, connections=32, seconds=plan.seconds / 2))
        house.drain()
    served = contenders.pop("served")
    rows = []
    for name, refused in contenders.items():
        statuses = sorted({status for turn in refused.turns for status in turn.statuses})
        rows.append(
            Row(
                f"calls {name}, against served ones",
                f"**{refused.per_cpu_second / served.per_cpu_second:.2f}** by CPU, "
                f"{refused.rate / served.rate:.2f} by the clock "
                f"({refused.rate:,.0f}/s; statuses {', '.join(map(str, statuses))})",
                "faster",
            )
        )
    return rows


async def many_streams(house: House, plan: Plan) -> list[Row]:
    """Streams that are all open at once, and what each costs in memory, in a fresh gateway."""
    gateway = house.gateway()
    request = request_bytes(PATH, stream_request(OPEN_MODEL), house.key)
    await hang_up(gateway.port, request)  # what is loaded when tokens are first counted is not the streams' own
    await closed(gateway.port, request_bytes(PATH, CHAT, house.key), connections=32, calls=2_000)
    before = gateway.memory()
    during = 0

    def when_open() -> None:
        nonlocal during
        during = gateway.memory()

    result = await open_streams(gateway.port, request, count=plan.streams, seconds=60, when_open=when_open)
    peak = max(during, gateway.memory())
    gateway.stop()
    house.drain()
    whole = result.statuses[200] - result.broken
    each = f"{(peak - before) / plan.streams / 1024:.0f} KiB each" if during else "never all open at once"
    return [
        Row(f"{plan.streams:,} streams open at once", f"**{whole:,} whole, {each}**", "all whole, under 120 KB each")
    ]


async def memory(house: House, plan: Plan) -> list[Row]:
    """Resident memory of a fresh gateway after 10,000 calls and after many more, `ingest` draining meanwhile."""
    gateway = house.gateway()
    ingest = house.ingest(cores={house.right})
    request = request_bytes(PATH, CHAT, house.key)
    first = min(10_000, plan.memory_calls // 2)
    await hang_up(gateway.port, request_bytes(PATH, stream_request(OPEN_MODEL), house.key))  # as in many_streams
    await closed(gateway.port, request, connections=32, calls=first)
    before = gateway.memory()
    result = await closed(gateway.port, request, connections=32, calls=plan.memory_calls - first)
    after = gateway.memory()
    gateway.stop()
    ingest.stop()
    mib = 1024 * 1024
    return [
        Row(
            f"memory after {plan.memory_calls:,} calls against after {first:,}",
            f"**{after / before - 1:+.1%}** ({before / mib:.1f} → {after / mib:.1f} MiB; "
            f"{result.rate:,.0f} calls/s with `ingest` on the load's core)",
            "+ 5 % after 1,000,000",
        )
    ]


async def busy_neighbours(house: House, plan: Plan) -> list[Row]:
    """p99 at a fixed rate while `web` computes pages and `ingest` drains, against the same while both rest."""
    gateway = house.gateway(both_cores=True)
    web, ingest = house.web(), house.ingest(cores=house.both)
    call = request_bytes(PATH, CHAT, house.key)
    page = request_bytes(HEAVY_PAGE, None, cookie=house.session)
    seconds = plan.seconds * 2
    idle, busy = Contender(gateway, call), Contender(gateway, call)
    pages = Contender(web, page)
    await closed(gateway.port, page, connections=1, calls=2)
    try:
        for _ in range(plan.rounds):
            ingest.popen.send_signal(signal.SIGSTOP)
            await idle.turn(at_rate(gateway.port, call, rate=plan.rate, connections=32, seconds=seconds))
            # A backlog that lasts `ingest` for the whole turn.
            await closed(gateway.port, call, connections=32, calls=int(12_000 * seconds))
            ingest.popen.send_signal(signal.SIGCONT)
            before = ingest.cpu_seconds()
            await asyncio.gather(
                busy.turn(at_rate(gateway.port, call, rate=plan.rate, connections=32, seconds=seconds)),
                pages.turn(closed(gateway.port, page, connections=2, seconds=seconds)),
            )
            draining = (ingest.cpu_seconds() - before) / seconds
    finally:
        ingest.popen.send_signal(signal.SIGCONT)
        for process in (ingest, web, gateway):
            process.stop()
    ratios = [late.percentile(99) / rest.percentile(99) for late, rest in zip(busy.turns, idle.turns, strict=True)]
    amiss = "" if set(pages.turns[0].statuses) == {200} else f"; **pages answered {dict(pages.turns[0].statuses)}**"
    return [
        Row(
            f"p99 at {plan.rate} calls/s while `web` computes and `ingest` drains, two cores, against both at rest",
            f"**{statistics.median(ratios):.2f} ×** (turns {', '.join(f'{ratio:.1f}' for ratio in ratios)}; "
            f"{idle.percentile(99) * 1000:.2f} → "
            f"{busy.percentile(99) * 1000:.2f} ms; median {idle.percentile(50) * 1000:.2f} → "
            f"{busy.percentile(50) * 1000:.2f} ms; {pages.done} pages of {pages.percentile(50) * 1000:.0f} ms, "
            f"`web` {pages.cpu_share:.0%} and `ingest` {draining:.0%} of a core{amiss})",
            "1.5 ×",
        )
    ]


def journal_to_records(house: House) -> list[Row]:
    """What draining gave, over all the backlogs that the other measurements left."""
    drained = house.drained
    if not drained.records:
        return []
    return [
        Row(
            f"journal to records, SQLite ({drained.records:,} of them)",
            f"**{drained.records / drained.seconds:,.0f} records/s**, "
            f"{drained.cpu / drained.records * 1e6:.0f} µs of CPU each",
            "10,000",
        )
    ]
