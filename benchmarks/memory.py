"""Memory that one band takes over the base of its process: run in a process of its own.

The base has all modules, and all kernels are loaded. Plans are read from files as they are from the
database.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import numpy as np
import shapely

from benchmarks import workload
from benchmarks.harness import rss_mb
from benchmarks.workload import Polygons
from cbm_extract.plan.build import build_chunks
from cbm_extract.plan.chunk import PlanChunk
from cbm_extract.plan.lattice import Grid, place
from cbm_extract.plan.pipeline import choose
from cbm_extract.plan.window import clip

PROBE = "import sys; from benchmarks.memory import probe; probe(*sys.argv[1:])"


def reset_peak() -> None:
    """Let the kernel forget the largest resident memory so far (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the largest resident memory since ``reset_peak``, in MB (10^6 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("no VmHWM in /proc/self/status")


def save_plan(folder: Path, polygons: Polygons, rows: int = workload.ROWS_10M) -> Path:
    """Write the plan's chunks as the database keeps them; return their folder."""
    where = workload.placement(rows)
    into = folder / f"plan-{len(polygons)}-{rows}"
    into.mkdir(parents=True, exist_ok=True)
    ids = np.arange(1, len(polygons) + 1, dtype=np.int32)
    same = choose(workload.CRS, workload.CRS, workload.AREA)
    wkb = shapely.to_wkb(polygons)
    for number, chunk in enumerate(build_chunks(ids, wkb, workload.CRS, where.lattice, 0.0, same)):
        (into / f"{number:03}.bin").write_bytes(chunk.to_bytes())
    return into


def probe(path: str, plan: str, threads: str) -> None:
    """Extract a band with a saved plan; print base and peak in MB as JSON."""
    from benchmarks.reduce import extract

    warm = Path(plan).parent / "warm.tif"
    small = np.arange(1, 513, dtype=np.uint16)[None, :].repeat(512, axis=0)
    workload.write_cog(warm, small, 10.0, block=256)
    ring = shapely.box(
        workload.WEST + 500, workload.NORTH - 3000, workload.WEST + 3000, workload.NORTH - 500
    )
    pixel = 10.0
    grid = Grid(
        workload.CRS, (pixel, 0.0, workload.WEST, 0.0, -pixel, workload.NORTH), *small.shape
    )
    extract(warm, workload.runs(np.array([ring]), place(grid)), int(threads))
    gc.collect()
    base = rss_mb()
    reset_peak()
    chunks = (PlanChunk.from_bytes(one.read_bytes()) for one in sorted(Path(plan).iterdir()))
    runs = clip(chunks, workload.placement())
    with_runs = rss_mb()
    stats = extract(Path(path), runs, int(threads))
    figures = {"base": base, "runs": with_runs - base, "peak": peak_mb() - base}
    json.dump({name: round(one, 1) for name, one in figures.items()}, sys.stdout)
    assert np.isfinite(stats[:, 1]).any()
