"""A million parcels on one machine: import, plan, scenes; cost per parcel and memory on the way.

Run ``python -m benchmarks.million [--counts 10000 100000 1000000]``. Parcels lie as densely as a
country's, about 110,000 to a Sentinel-2 tile, in a square that grows with their number: up to nine
tiles of 109.8 km, 100 km apart as in the MGRS grid. Every number of parcels gets a database of its
own, and goes through the real commands, each a process of its own: ``cbm parcels import`` (from
EPSG:3035), ``cbm scenes add``, ``cbm extract`` of a first date, which plans, and of a second one,
which does not. The scenes of a date see every parcel, and each is stored once (``tiles: home``).

CPU seconds are those of the command and of the database together. A run of 1,000 parcels tells what
everything costs at least; a further parcel's cost is reckoned from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import rasterio
from rasterio.transform import from_origin

from benchmarks import database, workload
from benchmarks.harness import Report, main
from benchmarks.workload import NORTH, ROWS_10M, ROWS_20M, SIDE, WEST
from cbm_core import db
from cbm_core.datasets.verbs import ADD
from cbm_core.settings import Settings
from cbm_core.verbs import Context
from tests import postgis
from tests.factories import sql
from tests.postgis import Server

LEAST = 1_000
COUNTS = (10_000, 100_000, 1_000_000)
STEPS = ("import", "plan", "extraction")
ACROSS = 3  # tiles, each way
GRID = 100_000.0  # metres from tile to tile
# A million parcels fill all tiles.
_SIDE_OF_A_MILLION = (ACROSS - 1) * GRID + SIDE
LEGAL_CRS = "EPSG:3035"
DATES = ("20240501T103000", "20240511T103000")
BANDS = ("B04", "B08", "B11", "SCL")
PRODUCT = {"name": "million", "card": "s2", "bands": ["B04", "B08", "B11"], "indices": ["NDVI"],
           "tiles": "home"}  # fmt: skip
_PATTERN = (
    r"(?P<reference>(?P<platform>S2A)_(?P<datatake>[0-9T]{15})_(?P<tile>T\w{5}))/(?P<band>\w+)\.tif"
)
_TABLES = ("parcel", "parcel_geometry", "plan_chunk", "monitorability", "signature")

# What is bounded: ids, boxes and hashes of an import stand in memory, and the pixels of a plan
# while it is made; of a scene no more than its own parcels.
_IMPORT_KB, _EXTRACT_KB = 1.0, 0.2

# The largest memory of a process is told to its parent, but begins with that of who started it: so
# commands are started by a process of no size.
_LAUNCHER = """
import json, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6], open(sys.argv[1], "w"))
sys.exit(status)
"""
_WRITE = "import sys; from benchmarks.million import write_parcels; write_parcels(*sys.argv[1:])"


@dataclass(frozen=True)
class Cost:
    """What a command took: CPU seconds of itself and of the database, wall seconds, peak MB."""

    client: float
    server: float
    wall: float
    peak: float

    @property
    def cpu(self) -> float:
        return self.client + self.server


@dataclass(frozen=True)
class Result:
    """One number of parcels, one time: the costs of commands, and what the database says."""

    costs: dict[str, Cost]
    sizes: dict[str, float]
    notes: str


# Files


def write_parcels(path: str, count: str, seed: str) -> None:
    """Write parcels to a GeoPackage in the legal CRS."""
    import geopandas as gpd

    side = _SIDE_OF_A_MILLION * (int(count) / COUNTS[-1]) ** 0.5
    polygons = workload.parcels(int(count), int(seed), side)
    ids = [f"P-{number:09d}" for number in range(len(polygons))]
    frame = gpd.GeoDataFrame({"id": ids}, geometry=polygons, crs=workload.CRS).to_crs(LEGAL_CRS)
    part = Path(path).with_suffix(".part.gpkg")
    part.unlink(missing_ok=True)
    frame.to_file(part, engine="pyogrio", layer="parcels")
    part.rename(path)


def parcels_file(folder: Path, count: int, seed: int) -> Path:
    """Return the file of so many parcels; it is made, in another process, where it is not there."""
    path = folder / f"million-{count}-{seed}.gpkg"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", _WRITE, str(path), str(count), str(seed)]
        subprocess.run(command, check=True)
    return path


def scenes_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder of nine tiles on two dates; both dates have the same files."""
    folder: Path = arguments.folder / f"million-{arguments.texture}-{arguments.seed}"
    for number in range(ACROSS * ACROSS):
        tile = folder / f"S2A_{DATES[0]}_T32T{chr(65 + number) * 2}"
        tile.mkdir(parents=True, exist_ok=True)
        for band in BANDS:
            _tile_file(tile / f"{band}.tif", band, number, arguments)
        other = folder / tile.name.replace(DATES[0], DATES[1])
        if not other.exists():
            other.symlink_to(tile.name)
    description = {
        "card": "s2",
        "files": "*/*.tif",
        "pattern": _PATTERN,
        "bands": {band: {"nodata": 0} for band in BANDS},
    }
    (folder / "scenes.yml").write_text(json.dumps(description))
    return folder


def _tile_file(path: Path, band: str, number: int, arguments: argparse.Namespace) -> None:
    """Copy a band of the one tile that there is to the place of another."""
    if path.exists():
        return
    rows = ROWS_20M if band in {"B11", "SCL"} else ROWS_10M
    kind, seed = arguments.texture, arguments.seed
    # Small blocks: those that reach beyond the parcels weigh little.
    original = workload.kept(
        arguments.folder,
        f"million-{kind}-{seed}-{band}.tif",
        lambda to, array, pixel: workload.write_cog(to, array, pixel, 256),
        lambda: (
            workload.scl_texture(0.3, seed=seed)
            if band == "SCL"
            else workload.texture(rows, kind, band, seed)
        ),
        SIDE / rows,
    )
    down, right = divmod(number, ACROSS)
    waiting = path.with_suffix(".part")
    shutil.copyfile(original, waiting)
    place = from_origin(WEST + right * GRID, NORTH - down * GRID, SIDE / rows, SIDE / rows)
    with rasterio.open(waiting, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
        target.transform = place
    waiting.rename(path)


# Commands


@dataclass(frozen=True)
class World:
    """A database, and how commands are given to it."""

    server: Server
    settings: Settings
    folder: Path

    def run(self, *words: str) -> Cost:
        """Run a command to its end; exits where it fails."""
        told = self.folder / "told.json"
        command = ["-m", "cbm_extract.cli", "--config", str(self.folder / "cbm.toml"), *words]
        launched = [sys.executable, "-SEc", _LAUNCHER, str(told), sys.executable, *command]
        before, start = database.backend_cpu(self.server), time.perf_counter()
        done = subprocess.run(launched, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"cbm {' '.join(words)} failed: {done.stderr}")
        time.sleep(0.3)  # the backend ends after its client
        client, peak = json.loads(told.read_text())
        return Cost(client, database.backend_cpu(self.server) - before, wall, peak)


@contextmanager
def world(server: Server, template: str) -> Iterator[World]:
    """Make a database with the dataset ``bm:2024``, for the length of the block."""
    name = postgis.new_database(server, template)
    settings = server.settings(name)
    given = {"aoi": "bm", "year": 2024, "imagery_start": "2024-01-01", "imagery_end": "2024-12-31"}
    ADD.run(ADD.arguments.model_validate(given), Context(settings))
    with tempfile.TemporaryDirectory(prefix="cbm-million-") as folder:
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.database.items()]
        (Path(folder) / "cbm.toml").write_text("\n".join(["[database]", *lines, ""]))
        (Path(folder) / "product.yml").write_text(json.dumps({"products": [PRODUCT]}))
        yield World(server, settings, Path(folder))
    postgis.drop_database(server, name)


def once(server: Server, template: str, parcels: Path, scenes: Path) -> Result:
    """Take parcels through all commands in a fresh database."""
    with world(server, template) as here:
        costs = {"import": here.run("parcels", "import", "bm:2024", str(parcels), "--id=column:id")}
        # As autovacuum does of itself, only that its time is not counted.
        with closing(server.superuser(here.settings.database["dbname"])) as connection:
            connection.cursor().execute("VACUUM ANALYZE")
        costs["scenes add"] = here.run("scenes", "add", str(scenes))
        product = f"--product-file={here.folder / 'product.yml'}"
        for name, date in zip(("first date", "second date"), DATES, strict=True):
            day = f"{date[:4]}-{date[4:6]}-{date[6:8]}"
            costs[name] = here.run("extract", "bm:2024", product, f"--start={day}", f"--end={day}")
        costs["nothing to do"] = here.run("extract", "bm:2024", product)
        return Result(costs, sizes(here.settings), questions(here.settings))


def sizes(settings: Settings) -> dict[str, float]:
    """Return the MB of tables, with their indexes."""
    rows = sql(
        settings,
        """SELECT t.name, sum(pg_total_relation_size(coalesce(p.relid, t.name::regclass))) / 1e6
           FROM (SELECT 'cbm.' || unnest(%s) AS name) t
           LEFT JOIN LATERAL pg_partition_tree(t.name::regclass) p ON true GROUP BY 1""",
        list(_TABLES),
    )
    return {name.removeprefix("cbm."): float(size) for name, size in rows}


def questions(settings: Settings) -> str:
    """Say how long the server takes for one parcel's series and for its coverage, warm."""
    ((pid,),) = sql(settings, "SELECT pid FROM cbm.parcel ORDER BY id OFFSET 500 LIMIT 1")
    asked = {
        "series": ("SELECT * FROM cbm.signature_long WHERE aoi = 'bm' AND year = 2024"
                   " AND layer = '' AND pid = %s"),
        "coverage": "SELECT * FROM cbm.parcel_coverage('bm', 2024, '', %s)",
    }  # fmt: skip
    said = []
    with closing(db.connect(settings)) as connection, connection.cursor() as cursor:
        for name, query in asked.items():
            taken = []
            for _ in range(6):
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", (pid,))
                plan = cursor.fetchone()[0][0]
                taken.append(plan["Execution Time"])
            said.append(f"{name} {median(taken[1:]):.2f} ms")
    return ", ".join(said)


# Figures


def step_costs(result: Result) -> dict[str, float]:
    """Return the CPU seconds of each of STEPS."""
    cpu = {name: cost.cpu for name, cost in result.costs.items()}
    plan = cpu["first date"] - cpu["second date"]
    return {"import": cpu["import"], "plan": plan, "extraction": cpu["second date"]}


def figures(report: Report, count: int, results: list[Result]) -> None:
    """Put down what a number of parcels took."""
    for name in results[0].costs:
        costs = [result.costs[name] for result in results]
        cpu = [cost.cpu for cost in costs]
        report.figures.append(
            {
                "case": f"{count:,} parcels: {name}",
                "cpu_s": median(cpu),
                "wall_s": median(cost.wall for cost in costs),
                "spread": (max(cpu) - min(cpu)) / median(cpu),
                "client_cpu_s": median(cost.client for cost in costs),
                "server_cpu_s": median(cost.server for cost in costs),
                "peak_mb": median(cost.peak for cost in costs),
            }
        )
    peaks = ", ".join(
        f"{name} {median(one.costs[name].peak for one in results):.0f}" for name in results[0].costs
    )
    tables = ", ".join(f"{name} {size:.0f}" for name, size in results[-1].sizes.items())
    report.note(
        f"{count:,} parcels. Peak MB: {peaks}. MB of tables: {tables}."
        f" One parcel in the server: {results[-1].notes}.\n"
    )


def hold(report: Report, found: dict[int, list[Result]]) -> None:
    """Hold further parcels' cost and memory against the bars."""
    counts = [count for count in found if count > LEAST]
    for step in STEPS:
        cost = {n: median(step_costs(one)[step] for one in results) for n, results in found.items()}
        each = {n: (cost[n] - cost[LEAST]) / (n - LEAST) * 1e6 for n in counts}
        told = ", ".join(f"{each[n]:.0f} us at {n:,}" for n in counts)
        report.note(f"CPU of a further parcel, {step}: {told}; {cost[LEAST]:.2f} s at {LEAST:,}.\n")
        for count in counts[1:]:
            name = f"{step}: a parcel's cost at {count:,} / at {counts[0]:,}"
            report.bar(name, each[count] / each[counts[0]], "<=", 1.2)
    small, large = counts[-2:] if len(counts) > 1 else (LEAST, counts[-1])
    for name, step, most in (
        ("import", "import", _IMPORT_KB),
        ("plan and extraction", "first date", _EXTRACT_KB),
        ("extraction", "second date", _EXTRACT_KB),
    ):
        peaks = [median(one.costs[step].peak for one in found[n]) for n in (small, large)]
        growth = (peaks[1] - peaks[0]) * 1e3 / (large - small)
        report.bar(f"{name}: kB per parcel, {small:,} to {large:,}", growth, "<=", most)


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Measure every number of parcels; the small ones, which vary most, ``--rounds`` times."""
    counts = sorted({LEAST, *arguments.counts})
    files = {count: parcels_file(arguments.folder, count, arguments.seed) for count in counts}
    scenes = scenes_folder(arguments)
    report.workload = {"tiles": ACROSS * ACROSS, "bands": ", ".join(BANDS), "CRS": LEGAL_CRS}
    found: dict[int, list[Result]] = {}
    with database.running() as (server, settings):
        template = settings.database["dbname"]
        for count in counts:
            rounds = arguments.rounds if count < 50_000 else 1
            found[count] = [once(server, template, files[count], scenes) for _ in range(rounds)]
            figures(report, count, found[count])
            print(report.notes[-1], flush=True)
    hold(report, found)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    workload.file_options(parser)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of parcels"
    )


if __name__ == "__main__":
    main(Report("A million parcels"), run, options)
