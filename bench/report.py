"""The table, and its place in the README."""

import platform
import re
from pathlib import Path

from bench.measure import Row
from bench.processes import ROOT

README = ROOT / "README.md"
MARKS = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)


def markdown(rows: list[Row], notes: list[str]) -> str:
    """The rows as a Markdown table, the notes below it."""
    lines = ["| what | measured | promised |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.promised} |" for row in rows]
    machine = f"{_processor()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"On {machine}. " + " ".join(notes)]) + "\n"


def write(text: str) -> None:
    """Put the text between the marks of the README; ValueError where it has none."""
    old = README.read_text()
    new, found = MARKS.subn(lambda marks: marks[1] + text + marks[2], old)
    if not found:
        raise ValueError(f"{README} has no <!-- bench --> … <!-- /bench -->")
    README.write_text(new)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.machine()
