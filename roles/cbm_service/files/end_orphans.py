"""Ends what a killed supervisor left running: ``end_orphans.py <its folder> [<seconds>]``.

Run only where no supervisor of the folder runs. What one starts has
``CBM_SERVICE_SUPERVISOR=<its folder>`` in its environment, and so has all that this starts in turn;
no name of a program is looked at. They are asked to stop, and killed after ``seconds`` (60). Prints
a line per process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def left(folder: str) -> dict[int, int]:
    """Return the ids of what the folder's supervisor started, each with the time it began."""
    mark = f"CBM_SERVICE_SUPERVISOR={folder}".encode()
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = began(process)
        except (OSError, LookupError):
            # It ended while it was looked at.
            continue
    return found


def began(process: Path) -> int:
    """Return when it was started, in ticks since the machine was.

    Raises:
        LookupError: it has ended, and was not waited for.

    """
    words = (process / "stat").read_text().rpartition(")")[2].split()
    if words[0] in "ZX":
        raise LookupError(process)
    return int(words[19])


def tell(processes: dict[int, int], number: signal.Signals) -> None:
    """Send a signal to those of the processes that are still the same."""
    for pid, start in processes.items():
        try:
            if began(Path("/proc", str(pid))) == start:
                os.kill(pid, number)
        except (OSError, LookupError):
            continue


def main() -> None:
    """Ask, wait, kill."""
    folder = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    limit = time.monotonic() + seconds
    orphans = left(folder)
    for pid in orphans:
        print(f"ends {pid}")
    tell(orphans, signal.SIGTERM)
    while left(folder) and time.monotonic() < limit:
        time.sleep(0.1)
    # What one of them starts before it is killed itself is caught by the next look.
    while remaining := left(folder):
        tell(remaining, signal.SIGKILL)
        time.sleep(0.1)


main()
