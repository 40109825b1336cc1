"""No process outlives the one that started it: an orphan would answer with old code, or run a task twice.

`python -m gateway_project.lifeline COMMAND ...` becomes the command, tied to whoever started it.
"""

import ctypes
import os
import signal
import sys


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent dies, however it does. On Linux only."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def give_way() -> None:
    """Let the gateway have the processor first: a page or a report that computes must not slow a call."""
    os.nice(10)


if __name__ == "__main__":
    end_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - our own command line, no shell wanted
