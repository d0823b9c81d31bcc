"""One band of a tile, all parcels, eight statistics, reading included: against its peers.

Run ``python -m benchmarks.reduce``. CPU seconds are of all threads. Planning is not part of it
(``benchmarks.plan``): a plan is made once for a season.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import memory, peers, workload
from benchmarks.harness import Report, Timing, interleave, main, measure
from benchmarks.workload import Polygons
from cbm_extract.plan.runs import Runs
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import open_band
from cbm_extract.reduce.band import BandReducer
from cbm_extract.reduce.index_values import Calibration
from cbm_extract.reduce.scene import BandRaster, SceneReducer
from cbm_extract.scene import BandAsset

RASTERSTATS_PARCELS = 1_500
SIZES = (1_000, 10_000, 100_000, 1_000_000)
_NODATA = (0.0,)


def extract(path: Path, runs: Runs, threads: int) -> npt.NDArray[np.float32]:
    """Read and reduce a band as the engine does; float32 [n, 8] in rising order of ids."""
    reducer = SceneReducer({"B": BandRaster(runs.placement, Calibration(_NODATA))})
    reducer.add(("B",), (), [runs])
    with open_band(BandAsset(str(path), nodata=_NODATA)) as band, Decoder(threads) as decoder:
        for strip, values in decoder.decode(band.strips(reducer.wanted_runs("B"))):
            reducer.feed("B", strip.start, values)
        return reducer.finish()[0].stats


def extract_by_gdal(path: Path, runs: Runs) -> npt.NDArray[np.float64]:
    """Reduce a band that GDAL decodes strip by strip; float64 [n, 8]."""
    reducer = BandReducer(runs, _NODATA)
    for row, strip in peers.gdal_strips(path):
        if reducer.wanted(row, row + len(strip)):
            reducer.feed(row, strip)
    return reducer.finish()


def decode_blocks(path: Path, runs: Runs) -> None:
    """Decode the blocks of a band that hold a parcel, and do nothing with them."""
    with open_band(BandAsset(str(path), nodata=_NODATA)) as band, Decoder(1) as decoder:
        for _ in decoder.decode(band.strips([runs])):
            pass


def bands(arguments: argparse.Namespace, report: Report, runs: Runs) -> dict[str, Timing]:
    """Compare on the three kinds of pixels; return the timings of the first."""
    folder, kind, seed = arguments.folder, arguments.texture, arguments.seed
    other = "synthetic" if kind == "real" else "real"
    first: dict[str, Timing] = {}
    files = {kind: workload.band_file(folder, "B04", "tif", kind, seed)}
    if other == "synthetic" or workload.real_band("B04"):
        files[other] = workload.band_file(folder, "B04", "tif", other, seed)
    files["float32"] = workload.float_file(folder, kind, seed)
    for name, path in files.items():
        cases = {
            f"{name}: decode, GDAL strips": partial(peers.decode_strips, path),
            f"{name}: decode, read(1)": partial(peers.read_whole, path),
            f"{name}: decode, blocks": partial(decode_blocks, path, runs),
            f"{name}: ours, GDAL strips": partial(extract_by_gdal, path, runs),
            f"{name}: ours, blocks, 1 thread": partial(extract, path, runs, 1),
            f"{name}: ours, blocks, 2 threads": partial(extract, path, runs, 2),
        }
        timings = interleave(cases, arguments.rounds if not first else min(arguments.rounds, 3))
        report.timings(timings)
        hold(report, name, list(timings.values()))
        first = first or dict(zip(("gdal", "whole", "blocks"), timings.values(), strict=False)) | {
            "ours": timings[f"{name}: ours, blocks, 1 thread"]
        }
    return first


def hold(report: Report, name: str, timings: list[Timing]) -> None:
    """Hold the cases of one kind of pixels against the bars."""
    strips, whole, _, by_gdal, one, two = timings
    # Floats have no quartiles by histogram, and twice the bytes.
    direct = 1.2 if name == "float32" else 1.0
    pairs = (
        ("reduced from GDAL strips / GDAL strips alone", by_gdal, strips, 1.2),
        ("whole band / GDAL strips alone", one, strips, direct),
        ("whole band / read(1)", one, whole, 0.9),
    )
    for title, mine, theirs, threshold in pairs:
        ratios = [a.cpu / b.cpu for a, b in zip(mine.samples, theirs.samples, strict=True)]
        spread = (max(ratios) - min(ratios)) / float(np.median(ratios))
        report.bar(f"{name}: {title}, CPU", float(np.median(ratios)), "<=", threshold, spread)
    report.bar(f"{name}: 2 threads / 1, wall", two.wall / one.wall, "<=", 0.6, two.spread)


def dear_peers(
    arguments: argparse.Namespace, report: Report, polygons: Polygons, ours: Timing
) -> None:
    """Run the slow peers once each, and compare results with rasterstats'."""
    path = workload.band_file(arguments.folder, "B04", "tif", arguments.texture, arguments.seed)
    exact = measure(partial(peers.by_exactextract, path, polygons))
    labels = peers.labels_of(path, polygons)
    group = measure(partial(peers.by_group, path, labels))
    del labels
    begin = len(polygons) // 2
    sample = polygons[begin : begin + RASTERSTATS_PARCELS]
    found: list[npt.NDArray[np.float64]] = []
    stats = measure(lambda: found.append(peers.by_rasterstats(path, sample)))
    scale = len(polygons) / len(sample)
    report.note(
        f"Once each: exactextract raster-sequential {exact.cpu:.1f} CPU s; duckdb group-by over"
        f" labels made beforehand {group.cpu:.1f} CPU s (overlaps lose pixels);"
        f" rasterstats {stats.cpu * scale:.0f} CPU s, extrapolated from {len(sample)} neighbouring"
        " parcels."
    )
    report.bar("exactextract / whole band, CPU", exact.cpu / ours.cpu, ">=", 25)
    report.bar("duckdb group-by / whole band, CPU", group.cpu / ours.cpu, ">=", 1)
    report.bar("rasterstats / whole band, CPU", stats.cpu * scale / ours.cpu, ">=", 100)
    mine = extract_by_gdal(path, workload.runs(sample, workload.placement()))
    theirs = found[0][found[0][:, 0] > 0]
    exactly = [0, 1, 3, 4, 5, 6, 7]
    differing = int((mine[:, exactly] != theirs[:, exactly]).sum())
    off = float(np.abs(mine[:, 2] - theirs[:, 2]).max() / theirs[:, 2].max())
    report.bar("figures that differ from rasterstats' (bit by bit)", differing, "==", 0)
    report.bar("std against rasterstats', relative", off, "<=", 1e-12)


def linearity(arguments: argparse.Namespace, report: Report) -> None:
    """Measure what each further parcel costs, from 1,000 to 1,000,000, without decoding."""
    path = workload.band_file(arguments.folder, "B04", "tif", arguments.texture, arguments.seed)
    pixels = peers.read_whole(path)
    strip = np.empty((1024, pixels.shape[1]), pixels.dtype)
    costs, areas = [], []
    for size in SIZES:
        runs = workload.runs(workload.parcels(size, arguments.seed), workload.placement())
        rounds = max(5, min(100, 1_000_000 // size))
        costs.append(float(np.median([fed(pixels, strip, runs) for _ in range(rounds + 1)][1:])))
        areas.append(int(runs.pixels.sum()))
    marginal = np.diff(costs) / np.diff(SIZES) * 1e6
    text = ", ".join(
        f"{size:,} parcels ({area / 1e6:.1f} M pixels) {cost:.4f} s"
        for size, area, cost in zip(SIZES, areas, costs, strict=True)
    )
    report.note(
        f"Reduction alone (strips in memory, each just written): {text}. A further parcel costs"
        f" {', '.join(f'{one:.2f}' for one in marginal)} us between these sizes."
    )
    # Parcels that lie closer share cache lines, so that a further one rather costs less.
    growth = float((marginal[1:] / marginal[:-1]).max())
    report.bar("a further parcel's cost / that among ten times fewer", growth, "<=", 1.2)


def fed(pixels: npt.NDArray[Any], strip: npt.NDArray[Any], runs: Runs) -> float:
    """Return the CPU seconds of reducing pixels that are in memory."""
    spent = -thread_time()
    reducer = BandReducer(runs, _NODATA)
    for row in range(0, len(pixels), len(strip)):
        values = strip[: len(pixels) - row]
        spent += thread_time()
        np.copyto(values, pixels[row : row + len(values)])
        spent -= thread_time()
        reducer.feed(row, values)
    reducer.finish()
    return spent + thread_time()


def taken(arguments: argparse.Namespace, report: Report, polygons: Polygons) -> None:
    """Measure the memory over the process base, in fresh processes."""
    plan = memory.save_plan(arguments.folder, polygons)
    path = workload.band_file(arguments.folder, "B04", "tif", arguments.texture, arguments.seed)
    for threads in (1, 2):
        command = [sys.executable, "-c", memory.PROBE, str(path), str(plan), str(threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(done.stdout)
        report.bar(f"memory over the base, {threads} thread(s), MB", found["peak"], "<=", 100)
        report.note(
            f"Memory with {threads} thread(s): base {found['base']} MB, plus the plan"
            f" {found['runs']} MB, peak over the base {found['peak']} MB."
        )


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Measure everything."""
    polygons = workload.parcels(arguments.count, arguments.seed)
    runs = workload.runs(polygons, workload.placement())
    report.workload = {
        "parcels": len(polygons),
        "pixels": int(runs.pixels.sum()),
        "texture": arguments.texture,
        "raster": "10980 x 10980, COG deflate, blocks of 1024",
    }
    timings = bands(arguments, report, runs)
    dear_peers(arguments, report, polygons, timings["ours"])
    taken(arguments, report, polygons)
    linearity(arguments, report)


if __name__ == "__main__":
    main(Report("One band, eight statistics, reading included"), run, workload.options)
