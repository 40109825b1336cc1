"""`python -m bench`: measure what the README claims, and write the table into it.

What is measured runs on one core, load and stub provider on another. Everything is on loopback, and every process that
is ended was started here.
"""

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import measure, report
from bench.house import ELSEWHERE_NICE, House
from bench.measure import Plan, Row
from bench.processes import Processes, Running

PARTS = ("json", "streams", "refusals", "open", "busy", "memory")


def main() -> int:
    """Parse what is asked, measure, print, write."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    soft_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft_hard[1], soft_hard[1]))
    if arguments.quick:
        plan = Plan(rounds=1, seconds=1.0, streams=300, memory_calls=20_000)
    else:
        plan = Plan(memory_calls=1_000_000) if arguments.full else Plan()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder, Processes(Path(folder)) as processes:
            notes, rows = uvloop.run(_measure(processes, Path(folder), plan, arguments.only))
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        return 130
    notes.append(f"It took {time.monotonic() - began:.0f} s, on {datetime.now(UTC):%Y-%m-%d}.")
    text = report.markdown(rows, notes)
    print("\n" + text)
    if arguments.only == list(PARTS) and not arguments.quick:
        report.write(text)
        print("The table is in README.md.")
    else:
        print("README.md stays as it is: only a whole run is written there.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="a minute in all, for seeing that it runs")
    parser.add_argument("--full", action="store_true", help="memory after 1,000,000 calls instead of 200,000")
    return parser.parse_args()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def _measure(processes: Processes, folder: Path, plan: Plan, parts: list[str]) -> tuple[list[str], list[Row]]:
    house = House(processes, folder)
    os.sched_setaffinity(0, {house.right})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, ELSEWHERE_NICE)
    notes = [
        "Contenders took turns in one run; *by the clock* compares answers per second, *by CPU* answers per second of "
        "CPU, which a load generator that cannot keep up does not distort.",
        f"Before it began the machine's load average was {os.getloadavg()[0]:.1f}: what others took is in the figures.",
        "The gateway ran with a key, four limits, cost, journal and call log on; journal lines became records between "
        "the turns.",
    ]
    if house.left == house.right:
        notes.append("**There is only one core: load and stub shared it with what was measured.**")
    if house.nginx:
        notes.append("JSON answers came from nginx's `return 200`, streams from our stub provider.")
    else:
        notes.append("**Not run, for want of nginx: its `proxy_pass`.** All answers came from our own stub provider.")
    rows: list[Row] = []

    def note(more: list[Row]) -> None:
        for row in more:
            print(
                f"{row.what}: {row.measured}" + (f"   [promised: {row.promised}]" if row.promised else ""), flush=True
            )
        rows.extend(more)

    if {"json", "streams", "refusals"} & set(parts):
        gateway: Running = house.gateway()
        if "json" in parts:
            note(await measure.json_calls(house, gateway, plan))
        if "streams" in parts:
            note(await measure.streams(house, gateway, plan))
        if "refusals" in parts:
            note(await measure.refusals(house, gateway, plan))
        gateway.stop()
    if "open" in parts:
        note(await measure.many_streams(house, plan))
    if "busy" in parts:
        note(await measure.busy_neighbours(house, plan))
    if "memory" in parts:
        note(await measure.memory(house, plan))
    note(measure.journal_to_records(house))
    return notes, rows


if __name__ == "__main__":
    sys.exit(main())
