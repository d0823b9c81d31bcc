"""Memory of a cluster's worker over many scenes: printed as they get done, held to a bound.

A scheduler and one worker with a nanny, over TLS, and a dispatcher, against a PostgreSQL in /tmp.
Scenes are small; each has five bands, a mask, an index and 400 parcels.

    python -m benchmarks.soak [--scenes 500] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness import Report, main
from cbm_core.migrations import runner
from tests import postgis
from tests.cluster import Cluster
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import sql, square

SIZE = 600  # pixels of 10 m
BANDS = ("B02", "B03", "B04", "B08")
PRODUCTS = [
    {"name": "all", "card": "s2", "bands": list(BANDS), "class_band": "SCL"},
    {"name": "clear", "card": "s2", "bands": list(BANDS), "indices": ["NDVI"],
     "class_band": "SCL", "mask_classes": [3, 8, 9]},
]  # fmt: skip

# What the process may grow by from a quarter of the scenes to the end, MB (10^6 bytes).
GROWTH_MB = 10.0


def prepare(world: World, scenes: int, files: int = 10) -> None:
    """Parcels, and scenes that share some files; enqueued."""
    world.parcels(
        [
            square(LEFT + 280 * x + 50, TOP - 280 * y - 250, 200)
            for x in range(20)
            for y in range(20)
        ]
    )
    sets = []
    for number in range(files):
        bands = {band: texture(SIZE, SIZE, seed=number) for band in BANDS}
        bands["SCL"] = texture(SIZE, SIZE, low=0, high=12, dtype="uint8", seed=number)
        sets.append({band: world.raster(f"{number}_{band}", data) for band, data in bands.items()})
    day = datetime(2024, 1, 1, 10, tzinfo=UTC)
    for number in range(scenes):
        world.scene(
            sets[number % files],
            reference=f"s{number}",
            obstime=day + timedelta(hours=12 * number),
            datatake=day + timedelta(minutes=number),
        )
    world.extract(*PRODUCTS, engine="cluster", wait=False)


def memory(cluster: Cluster, done: Callable[[], int], scenes: int, every: int) -> Iterator[float]:
    """Dispatch until all is done; give the worker's memory each ``every`` scenes."""
    cluster.start_dispatcher("dispatcher")
    for mark in range(every, scenes + 1, every):
        cluster.wait_until(lambda least=mark: done() >= least, f"{mark} scenes", 600.0, every=0.1)
        yield cluster.memory_mb("worker-1")
    cluster["dispatcher"].stop()


def growth(figures: list[float]) -> float:
    """Return by how much the last quarter's largest figure is above that of the second quarter."""
    quarter = max(1, len(figures) // 4)
    return max(figures[-quarter:]) - max(figures[quarter : 2 * quarter])


def measure(options: argparse.Namespace, report: Report) -> None:
    """Soak a worker and print its memory on the way."""
    every = max(1, options.scenes // 10)
    report.workload |= {"scenes": options.scenes, "products": len(PRODUCTS)}
    with postgis.server() as server, tempfile.TemporaryDirectory(prefix="cbm-soak-") as name:
        settings = server.settings("cbm_empty")
        runner.migrate(settings)
        world = World.make(settings, Path(name))
        prepare(world, options.scenes)

        def done() -> int:
            return sql(settings, "SELECT count(*) FROM cbm.run")[0][0] // len(PRODUCTS)

        figures = []
        with Cluster.started(Path(name), settings, workers=1) as cluster:
            pids = cluster.worker_pids("worker-1")
            start = cluster.memory_mb("worker-1")
            for figure in memory(cluster, done, options.scenes, every):
                figures.append(figure)
                print(f"{len(figures) * every} scenes: {figure:.0f} MB", flush=True)
            report.bar("workers replaced", pids != cluster.worker_pids("worker-1"), "==", 0)
    listed = ", ".join(f"{figure:.0f}" for figure in figures)
    report.note(f"MB before the first scene: {start:.0f}; each {every} scenes: {listed}.")
    report.bar("MB, last quarter over the second", growth(figures), "<=", GROWTH_MB)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    parser.add_argument("--scenes", type=int, default=500)


if __name__ == "__main__":
    main(Report("Memory of a cluster's worker"), measure, options)
