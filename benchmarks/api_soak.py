"""The API under mixed load for a while: no failure, and memory that stays.

    python -m benchmarks.api_soak [--seconds 600] [--clients 6] [--json FILE]

gunicorn as configured by default, over a real PostGIS and SeaweedFS: series, parcels, tiles, chips,
the predecessor's routes, bulk series and wrong logins, in random order. Memory is the proportional
share (PSS) of all processes of the service, looked at every few seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import database
from benchmarks.harness import Report, main
from cbm_core.settings import Settings
from tests import seaweed
from tests.api import busy, crowd
from tests.api.serving import gunicorn

# What the service may grow by from the first half of the time after warming up to the second, MB
# (10^6 bytes).
GROWTH_MB = 20.0
_WARM_SHARE = 0.25
_SAMPLES = 120


@dataclass(frozen=True)
class Soaked:
    """What came of it: answers by kind, those that should not be, memory in MB over the time."""

    statuses: Counter[tuple[str, int, str]]
    unexpected: list[crowd.Answer]
    memory: list[float]
    seconds: float
    log: str

    @property
    def growth(self) -> float:
        """Return by how much the median memory of the last stretch is above that before it, MB."""
        warm = self.memory[int(len(self.memory) * _WARM_SHARE) :]
        middle = len(warm) // 2
        return median(warm[middle:]) - median(warm[:middle])


def soak(
    settings: Settings,
    wishes: Sequence[crowd.Wish],
    folder: Path,
    seconds: float,
    clients: int,
    **api: int,
) -> Soaked:
    """Serve a world, ``api`` being settings, and let clients ask for so long."""
    memory = []
    with gunicorn(settings, folder, **api) as served:
        with crowd.asking(served.port, wishes, clients) as crew:
            start = time.monotonic()
            for number in range(1, _SAMPLES + 1):
                time.sleep(max(0.0, start + seconds * number / _SAMPLES - time.monotonic()))
                memory.append(pss_mb(served.process.pid))
        return Soaked(
            crew.statuses(), crew.unexpected(wishes), memory, time.monotonic() - start,
            served.log.read_text(),
        )  # fmt: skip


def pss_mb(parent: int) -> float:
    """Return the memory of a process and its children, shared pages counted once, in MB."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    total = 0
    for pid in (str(parent), *children):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a worker that was replaced meanwhile
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Make the world, load it, look."""
    report.workload = {"clients": arguments.clients, "seconds": arguments.seconds}
    with (
        tempfile.TemporaryDirectory(prefix="cbm-api-soak-") as name,
        database.running() as (_, settings),
        seaweed.server() as store,
    ):
        folder = Path(name)
        there = busy.make(settings, store, folder, 20_000, 2_000, 50, 24)
        reading = replace(settings, storage=store.settings(folder))
        found = soak(reading, busy.wishes(there), folder, arguments.seconds, arguments.clients)
    tell(report, found)


def tell(report: Report, found: Soaked) -> None:
    """Put down what was found."""
    lines = ["| request | status | answers |", "|---|---|---|"]
    for (kind, status, code), count in sorted(found.statuses.items()):
        lines.append(f"| {kind} | {status} {code} | {count:,} |")
    tenths = [
        median(found.memory[at : at + _SAMPLES // 10]) for at in range(0, _SAMPLES, _SAMPLES // 10)
    ]
    report.note("\n".join([*lines, ""]))
    report.note(f"Memory in tenths of the time, MB: {', '.join(f'{one:.0f}' for one in tenths)}.\n")
    total = found.statuses.total()
    report.note(f"{total:,} answers, {total / found.seconds:.0f} a second.\n")
    for answer in found.unexpected[:20]:
        report.note(f"UNEXPECTED {answer.kind}: {answer.status} {answer.code} {answer.text}\n")
    failed = sum(count for (_, status, _), count in found.statuses.items() if status >= 500)
    report.bar("answers 5xx", failed, "==", 0)
    report.bar("answers that are not as expected", len(found.unexpected), "==", 0)
    report.bar("tracebacks in the log", found.log.count("Traceback"), "==", 0)
    report.bar("growth of memory, MB", found.growth, "<=", GROWTH_MB)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--clients", type=int, default=6, help="at once")


if __name__ == "__main__":
    main(Report("The API under load for a while"), run, options)
