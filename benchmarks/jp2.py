"""A JPEG 2000 band as ESA codes it: read whole by GDAL, by tiles, and only where it is clear.

Run ``python -m benchmarks.jp2``. The usual workload is the first rows of a band of 10 m
(``--rows 3072``: 33 tiles); ``--full`` is the whole band. CPU seconds are of all threads.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from benchmarks import workload
from benchmarks.harness import Report, Timing, interleave, main
from benchmarks.reduce import extract
from cbm_extract.plan.runs import Runs
from cbm_extract.read.jp2 import Jp2Reader, open_jp2
from cbm_extract.read.jp2 import packets as packet_kernels
from cbm_extract.read.jp2.geometry import precincts
from cbm_extract.reduce.mask import class_mask, cut
from cbm_extract.sample.sky import CIRRUS, CLOUD_HIGH, CLOUD_MEDIUM, SHADOW

MASKED = (SHADOW, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS)
CLOUD_SHARES = (0.3, 0.5, 0.7, 0.85)
FEW_PARCELS = 60  # near one another, so that most tiles hold none of them

Pixels = npt.NDArray[Any]


def options(parser: argparse.ArgumentParser) -> None:
    """Add --rows and --full to what the scripts have in common."""
    workload.options(parser)
    parser.add_argument("--rows", type=int, default=3072, help="rows of the band (default 3072)")
    parser.add_argument("--full", action="store_true", help="the whole band: 10980 rows")


def opened(path: Path) -> Jp2Reader:
    reader = open_jp2(path)
    if reader is None:
        raise SystemExit(f"{path} is not served by tiles")
    return reader


def read_whole(path: Path, threads: int) -> Pixels:
    with rasterio.Env(GDAL_NUM_THREADS=str(threads)), rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def read_tiles(path: Path, threads: int, runs: Runs | None = None) -> Pixels:
    """Decode the tiles that hold a pixel of the runs into one array.

    Runs are copied first: what was followed for them before does not count.
    """
    reader = opened(path)
    wanted = reader.want(None if runs is None else [replace(runs)])
    out = np.empty(reader.shape, reader.dtype)

    def decode(tile: npt.NDArray[np.int64]) -> None:
        reader.decode(*tile, block(reader, out, *tile))

    if threads == 1:
        for tile in np.argwhere(wanted):
            decode(tile)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, np.argwhere(wanted)))
    reader.close()
    return out


def block(reader: Jp2Reader, out: Pixels, row: int, col: int) -> Pixels:
    rows, cols = reader.block_shape
    return out[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]


def prepare(path: Path, runs: Runs) -> None:
    """Do all that pruning adds, without decoding; reading the bytes is part of it."""
    reader = opened(path)
    for row, col in np.argwhere(reader.want([replace(runs)])):
        tile = int(row * reader._codestream.coding.tiles[1] + col)
        reader._pruned(tile, reader._read(tile))
    reader.close()


def needed_share(path: Path, runs: Runs) -> float:
    """Return the share of the bytes of code-blocks in those a pixel of the runs depends on."""
    reader = opened(path)
    reader.want([runs])
    geometry, needed = reader._geometry, reader._needed
    assert needed is not None
    whole = kept = 0
    for tile in range(len(geometry.rectangles)):
        first, stop = geometry.blocks[tile : tile + 2]
        source = np.frombuffer(reader._read(tile), np.uint8)
        many, grids = precincts(geometry.resolutions[tile], geometry.bands[tile])
        blocks = np.empty((stop - first, 4), np.int64)
        assert packet_kernels.parse(source, many, grids, reader._planes, blocks)
        lengths = blocks[:, packet_kernels.LENGTH]
        whole += int(lengths.sum())
        kept += int(lengths @ needed[first:stop])
    reader.close()
    return kept / whole


def mask_of(runs: Runs) -> npt.NDArray[np.bool_]:
    """Burn runs into an array of the raster's shape."""
    edges = np.zeros((runs.placement.height, runs.placement.width + 1), np.int32)
    np.add.at(edges, (runs.row, runs.col), 1)
    np.add.at(edges, (runs.row, runs.col + runs.length.astype(np.int64)), -1)
    return np.cumsum(edges, axis=1)[:, :-1] > 0


def whole_band(arguments: argparse.Namespace, report: Report, path: Path, runs: Runs) -> Timing:
    """Compare reading the whole band; return the timing of ours by one thread."""
    cases = {
        "GDAL read(1), 1 thread": partial(read_whole, path, 1),
        "tiles, 1 thread": partial(read_tiles, path, 1),
        "GDAL read(1), 2 threads": partial(read_whole, path, 2),
        "tiles, 2 threads": partial(read_tiles, path, 2),
        "tiles, reduced, 1 thread": partial(extract, path, runs, 1),
        "tiles, reduced, 2 threads": partial(extract, path, runs, 2),
    }
    timings = interleave(cases, arguments.rounds)
    report.timings(timings)
    gdal, one, _, two, _, reduced_two = timings.values()
    reduced = timings["tiles, reduced, 1 thread"]
    report.bar("whole band / read(1), CPU", *ratio(one, gdal, "cpu"))
    report.bar("whole band on 2 threads / read(1) on 1, wall", *ratio(two, gdal, "wall", 0.55))
    figures = [ratio(reduced, gdal, "cpu")[0], ratio(reduced_two, gdal, "wall")[0]]
    report.note(
        f"Reduced as well / read(1): CPU {figures[0]:.3f}; wall on 2 threads {figures[1]:.3f}."
    )
    equal = np.array_equal(read_whole(path, 1), read_tiles(path, 2))
    report.bar("whole band: pixels equal to GDAL's", equal, "==", 1)
    return one


def ratio(
    mine: Timing, theirs: Timing, kind: str, threshold: float = 1.0
) -> tuple[float, str, float, float]:
    """Return what a bar takes: the median of the rounds' ratios, and their spread."""
    ratios = [
        getattr(a, kind) / getattr(b, kind)
        for a, b in zip(mine.samples, theirs.samples, strict=True)
    ]
    figure = median(ratios)
    return figure, "<=", threshold, (max(ratios) - min(ratios)) / figure


def skipping(report: Report, path: Path, polygons: workload.Polygons, runs: Runs) -> None:
    """Count the tiles that are decoded for a few parcels that lie together."""
    here = runs.geometry_ids[runs.pixels > 0][:FEW_PARCELS]
    few = workload.runs(polygons[here - 1], runs.placement)
    decoded: list[tuple[int, int]] = []
    decode = Jp2Reader.decode

    def counted(self: Jp2Reader, row: int, col: int, out: Pixels) -> None:
        decoded.append((row, col))
        decode(self, row, col, out)

    Jp2Reader.decode = counted  # type: ignore[method-assign]
    try:
        extract(path, few, 1)
    finally:
        Jp2Reader.decode = decode  # type: ignore[method-assign]
    rows, cols = np.nonzero(mask_of(few))
    holding = set(zip(rows // 1024, cols // 1024, strict=True))
    report.bar(
        f"tiles decoded / tiles that hold a wanted pixel ({len(holding)})",
        len(decoded) / len(holding),
        "==",
        1,
    )


def masked(
    arguments: argparse.Namespace, report: Report, path: Path, clear: dict[float, Runs]
) -> None:
    """Compare decoding what clear pixels need with decoding all, at several shares of clouds."""
    cases: dict[str, Any] = {"all code-blocks": partial(read_tiles, path, 1)}
    for share, runs in clear.items():
        cases[f"{share:.0%} cloud: clear parcels"] = partial(read_tiles, path, 1, runs)
        cases[f"{share:.0%} cloud: pruning alone"] = partial(prepare, path, runs)
    timings = interleave(cases, arguments.rounds)
    report.timings(timings)
    whole, *rest = timings.values()
    everything = read_whole(path, 1)
    equal = True
    for (share, runs), part, pruning in zip(clear.items(), rest[::2], rest[1::2], strict=True):
        kept = needed_share(path, runs)
        cost = ratio(part, whole, "cpu")
        report.bar(
            f"{share:.0%} cloud: cost / share of bytes kept ({kept:.3f})",
            cost[0] / kept,
            "<=",
            1.1,
            cost[3],
        )
        added = ratio(pruning, whole, "cpu", 0.01)
        report.bar(f"{share:.0%} cloud: pruning alone / decoding all", *added)
        mask = mask_of(runs)
        equal &= np.array_equal(read_tiles(path, 2, runs)[mask], everything[mask])
    report.bar("wanted pixels equal to GDAL's", equal, "==", 1)


def run(arguments: argparse.Namespace, report: Report) -> None:
    rows = workload.ROWS_10M if arguments.full else arguments.rows
    kind, seed = arguments.texture, arguments.seed
    path = workload.kept(
        arguments.folder,
        f"{kind}-{seed}-B04.jp2" if arguments.full else f"{kind}-{seed}-B04-{rows}.jp2",
        workload.write_jp2,
        lambda: workload.texture(kind=kind, seed=seed)[:rows],
        10.0,
    )
    polygons = workload.parcels(arguments.count, seed)
    runs = workload.runs(polygons, replace(workload.placement(), height=rows))
    report.workload = {
        "band": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, {rows} rows",
        "parcels": f"{arguments.count} to the tile, {int(runs.pixels.sum())} pixels in these rows",
    }
    timing = whole_band(arguments, report, path, runs)
    report.note(f"{path.stat().st_size / 1e6 / timing.cpu:.1f} MB of JPEG 2000 a CPU second.")
    skipping(report, path, polygons, runs)
    clear = {}
    for share in CLOUD_SHARES:
        classes = workload.scl_texture(share, seed=seed)
        mask = class_mask(workload.placement(workload.ROWS_20M), classes, MASKED)
        clear[share] = cut(runs, mask).runs
    masked(arguments, report, path, clear)


if __name__ == "__main__":
    main(Report("JPEG 2000 by tiles and code-blocks"), run, options)
