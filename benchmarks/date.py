"""One date of a Sentinel-2 tile from files to committed rows: against decoding the same files.

Run ``python -m benchmarks.date``. The database is a throw-away PostgreSQL of this machine; CPU
seconds are those of this process and of the database together. A date is the product s2 of the
release: four bands of 10 m, six of 20 m, NDVI and the counts of scene classes.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from benchmarks import database, peers, workload
from benchmarks.harness import Report, Sample, Timing, main, measure, rss_mb
from benchmarks.memory import peak_mb, reset_peak
from benchmarks.workload import BANDS_10M, BANDS_20M, NORTH, WEST
from cbm_core.settings import EngineSettings, Settings
from cbm_extract.ledger.states import Scope
from cbm_extract.products.catalogue import presets
from cbm_extract.products.definition import Product
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import open_band
from cbm_extract.scene import BandAsset
from tests.postgis import Server

# A country's season: parcels, dates, tiles; the parcels are spread over the tiles.
PARCELS, DATES, TILES = 1_000_000, 73, 30
# The chip in JPEG 2000 that two datasets share: 16 tiles of 1024 x 1024.
CHIP_ROWS = 4096
_PROBE = "import sys; from benchmarks.date import probe; probe(*sys.argv[1:])"
_ONE_BAND = Product(name="one_band", card="s2", bands=("B04",), class_band=None, tiles="all")


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    folder, kind, seed = arguments.folder, arguments.texture, arguments.seed
    bands = {
        band: workload.band_file(folder, band, "tif", kind, seed)
        for band in (*BANDS_10M, *BANDS_20M)
    }
    return {**bands, "SCL": workload.scl_file(folder, 0.3, seed=seed)}


def _chip(arguments: argparse.Namespace) -> Path:
    kind, seed = arguments.texture, arguments.seed
    return workload.kept(
        arguments.folder,
        f"{kind}-{seed}-chip.jp2",
        workload.write_jp2,
        lambda: workload.texture(CHIP_ROWS, kind, "B04", seed),
        10.0,
    )


def _decode_blocks(files: dict[str, Path]) -> None:
    with Decoder(1) as decoder:
        for path in files.values():
            with open_band(BandAsset(str(path))) as band:
                for _ in decoder.decode(band.strips()):
                    pass


def _decode_by_gdal(files: dict[str, Path]) -> None:
    for path in files.values():
        peers.decode_strips(path)


def _with_threads(settings: Settings, threads: int) -> Settings:
    return replace(settings, engine=EngineSettings(threads=threads))


def _interleaved(
    server: Server, cases: dict[str, Callable[[], object]], rounds: int
) -> dict[str, Timing]:
    """As ``harness.interleave``, the database's CPU counted in."""
    timings = {name: Timing() for name in cases}
    for case in cases.values():
        case()
    for _ in range(rounds):
        for name, case in cases.items():
            before = database.backend_cpu(server)
            sample = measure(case)
            cpu = sample.cpu + database.backend_cpu(server) - before
            timings[name].samples.append(Sample(cpu, sample.wall))
    return timings


def _dates(
    arguments: argparse.Namespace, report: Report, server: Server, settings: Settings
) -> None:
    files = _files(arguments)
    polygons = workload.parcels(arguments.count, arguments.seed)
    number = database.dataset(settings, "one", polygons)
    database.scenes(settings, files, 2 * (arguments.rounds + 1) + 2)
    scope = database.enqueued(settings, presets()["s2"], number)
    rows: list[int] = []

    def date(threads: int) -> None:
        rows.append(database.work_on(_with_threads(settings, threads), scope))

    cases: dict[str, Callable[[], object]] = {
        "decode the files: GDAL, strips into one buffer": lambda: _decode_by_gdal(files),
        "decode the files: block by block, one thread": lambda: _decode_blocks(files),
        "date, one thread": lambda: date(1),
        "date, two threads": lambda: date(2),
    }
    timings = _interleaved(server, cases, arguments.rounds)
    gdal, blocks, one, two = timings.values()
    report.timings(timings)
    report.workload |= {"parcels": len(polygons), "rows of a date": rows[0]}
    report.bar("date / GDAL's decoding, CPU", one.cpu / gdal.cpu, "<=", 1.5, one.spread)
    report.bar("two threads / one thread, wall", two.wall / one.wall, "<=", 0.75, two.spread)
    _season(report, one, blocks, len(polygons))
    _memory(report, settings, scope, number, files, len(polygons))


def _season(report: Report, date: Timing, blocks: Timing, parcels: int) -> None:
    """Say what a season costs: decoding for each tile, the rest for each parcel."""
    report.note(f"Scenes per vCPU-hour, {parcels} parcels each: {3600 / date.cpu:.0f}.")
    reducing = (date.cpu - blocks.cpu) / parcels
    hours = DATES * (TILES * blocks.cpu + PARCELS * reducing) / 3600
    report.note(
        f"A country's season ({PARCELS} parcels, {DATES} dates x {TILES} tiles x 10 bands):"
        f" {hours:.1f} vCPU-hours."
    )


def _memory(
    report: Report,
    settings: Settings,
    scope: Scope,
    number: int,
    files: dict[str, Path],
    parcels: int,
) -> None:
    """Measure processes of their own, which do the last date and the last one's single band."""
    folder = files["SCL"].parent
    warm = {band: _warm_file(folder, band) for band in files}
    ring = shapely.box(WEST + 500, NORTH - 3000, WEST + 3000, NORTH - 500)
    other = database.dataset(settings, "warm", np.array([ring]))
    database.scenes(settings, warm, 2, side=5120.0)
    bars = {
        "a date over the process, MB": (scope, presets()["s2"], 100 + 1.2e-3 * parcels),
        "one band over the process, MB": (
            database.enqueued(settings, _ONE_BAND, number),
            _ONE_BAND,
            100.0,
        ),
    }
    for name, (todo, product, most) in bars.items():
        first = database.enqueued(settings, replace_name(product), other)
        given = [json.dumps(settings.database), *(str(one.product_ids[0]) for one in (first, todo))]
        found = subprocess.run(
            [sys.executable, "-c", _PROBE, *given], check=True, capture_output=True, text=True
        )
        report.bar(name, json.loads(found.stdout), "<=", most)


def replace_name(product: Product) -> Product:
    """Return the product under another name: items of its own."""
    return product.model_copy(update={"name": f"warm_{product.name}"})


def _warm_file(folder: Path, band: str) -> Path:
    pixel = 10.0 if band in BANDS_10M else 20.0
    rows = int(5120 / pixel)
    values = np.arange(1, rows + 1, dtype=np.uint8 if band == "SCL" else np.uint16)
    square = np.minimum(values, 11) if band == "SCL" else values + np.uint16(2000)
    return workload.kept(
        folder,
        f"warm-{band}.tif",
        workload.write_cog,
        lambda: square[None, :].repeat(rows, axis=0),
        pixel,
    )


def probe(database_settings: str, first: str, then: str) -> None:
    """Do a small scene, then a large one; print the peak of that over what is there before."""
    settings = Settings(database=json.loads(database_settings), engine=EngineSettings(threads=2))
    database.work_on(settings, Scope(None, (int(first),)))
    gc.collect()
    base = rss_mb()
    reset_peak()
    database.work_on(settings, Scope(None, (int(then),)))
    json.dump(round(peak_mb() - base, 1), sys.stdout)


def _two_datasets(
    arguments: argparse.Namespace, report: Report, server: Server, settings: Settings
) -> None:
    polygons = workload.parcels(arguments.count, arguments.seed)
    sql_ids = [database.dataset(settings, aoi, polygons) for aoi in ("left", "right")]
    database.scenes(settings, {"B04": _chip(arguments)}, arguments.rounds + 1, CHIP_ROWS * 10.0)
    plain = _ONE_BAND
    alone = database.enqueued(settings, plain.model_copy(update={"name": "alone"}), sql_ids[0])
    shared = database.enqueued(settings, plain.model_copy(update={"name": "shared"}), *sql_ids)
    single = _with_threads(settings, 1)
    cases: dict[str, Callable[[], object]] = {
        "JPEG 2000 chip, one dataset": lambda: database.work_on(single, alone),
        "JPEG 2000 chip, two datasets": lambda: database.work_on(single, shared),
    }
    timings = _interleaved(server, cases, arguments.rounds)
    one, two = timings.values()
    report.timings(timings)
    report.bar("two datasets / one dataset, CPU", two.cpu / one.cpu, "<=", 1.1, two.spread)


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Measure dates, memory, and two datasets; each with a database of its own."""
    for part in (_dates, _two_datasets):
        with database.running() as (server, settings):
            part(arguments, report, server, settings)


if __name__ == "__main__":
    main(Report("A date of a tile, end to end"), run, workload.options)
