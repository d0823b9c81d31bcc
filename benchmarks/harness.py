"""Side-by-side measuring: cases run in turn, their figures are held against bars."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one execution of a case took: CPU seconds of this process, wall seconds."""

    cpu: float
    wall: float


@dataclass
class Timing:
    """The samples of one case; figures are medians, spread is (max - min) / median."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        return median(sample.cpu for sample in self.samples)

    @property
    def wall(self) -> float:
        return median(sample.wall for sample in self.samples)

    @property
    def spread(self) -> float:
        values = [sample.cpu for sample in self.samples]
        return (max(values) - min(values)) / median(values)


def interleave(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run every case once per round, in turn, so that a drifting machine meets all alike.

    A case is called once before, unmeasured: compiling and opening are not what is compared.
    """
    timings = {name: Timing() for name in cases}
    for case in cases.values():
        case()
    for _ in range(rounds):
        for name, case in cases.items():
            timings[name].samples.append(measure(case))
    return timings


def measure(case: Callable[[], object]) -> Sample:
    """Run a case once; CPU of all threads of this process, user and system."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    case()
    return Sample(time.process_time() - cpu, time.perf_counter() - wall)


def rss_mb() -> float:
    """Return the resident memory of this process now, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_rss_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@dataclass(frozen=True)
class Bar:
    """A figure held against a threshold; ``sign`` is ``<=``, ``>=`` or ``==``."""

    name: str
    figure: float
    sign: str
    threshold: float
    spread: float = 0.0

    @property
    def passed(self) -> bool:
        return {
            "<=": self.figure <= self.threshold,
            ">=": self.figure >= self.threshold,
            "==": self.figure == self.threshold,
        }[self.sign]


@dataclass
class Report:
    """What a benchmark found: figures of its cases, bars, and notes."""

    title: str
    workload: dict[str, Any] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def timings(self, timings: dict[str, Timing]) -> None:
        """Add the cases of an interleaved run."""
        for name, one in timings.items():
            self.figures.append(
                {"case": name, "cpu_s": one.cpu, "wall_s": one.wall, "spread": one.spread}
            )

    def bar(
        self, name: str, figure: float, sign: str, threshold: float, spread: float = 0.0
    ) -> None:
        """Hold a figure against its threshold."""
        self.bars.append(Bar(name, float(figure), sign, threshold, spread))

    def note(self, text: str) -> None:
        """Add a line of text."""
        self.notes.append(text)

    @property
    def text(self) -> str:
        """Lay out as a Markdown section."""
        lines = [f"## {self.title}", ""]
        lines += [f"{key}: {value}" for key, value in self.workload.items()]
        if self.figures:
            lines += ["", "| case | CPU s | wall s | spread |", "|---|---|---|---|"]
            lines += [
                f"| {f['case']} | {f['cpu_s']:.3f} | {f['wall_s']:.3f} | {f['spread']:.0%} |"
                for f in self.figures
            ]
        if self.bars:
            lines += [
                "",
                "| bar | figure | threshold | spread | verdict |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {b.name} | {b.figure:.4g} | {b.sign} {b.threshold:g} | {b.spread:.0%} |"
                f" {'met' if b.passed else 'MISSED'} |"
                for b in self.bars
            ]
        return "\n".join([*lines, "", *self.notes, ""])

    @property
    def document(self) -> dict[str, Any]:
        """Return what ``--json`` writes."""
        return {
            "title": self.title,
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
            "workload": self.workload,
            "figures": self.figures,
            "bars": [{**vars(b), "verdict": "met" if b.passed else "missed"} for b in self.bars],
            "notes": self.notes,
        }


def main(
    report: Report,
    run: Callable[[argparse.Namespace, Report], None],
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parse the common options (--json, --rounds), run, print; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=report.title)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON too")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    if options:
        options(parser)
    arguments = parser.parse_args()
    run(arguments, report)
    print(report.text)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.document, indent=2, default=str) + "\n")
    sys.exit(0 if all(bar.passed for bar in report.bars) else 1)
