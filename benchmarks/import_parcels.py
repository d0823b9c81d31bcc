"""Importing parcels, side by side with ogr2ogr's COPY into PostGIS; and what memory it takes.

The parcels of one tile (:mod:`benchmarks.workload`) are written to a GeoPackage. Every round
imports them into a fresh database of a throw-away server, each time in a process of its own: by
``cbm parcels import``; by ``ogr2ogr -f PostgreSQL`` with PG_USE_COPY and a spatial index, which
copies rows as they are; and by the same ogr2ogr followed by SQL that does what an import does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import geopandas as gpd
import numpy as np

from benchmarks import workload
from benchmarks.harness import Report, main
from cbm_core.datasets.verbs import ADD
from cbm_core.migrations import runner
from cbm_core.verbs import Context
from tests import postgis
from tests.postgis import Server

OURS, PLAIN, SAME = "cbm parcels import", "ogr2ogr", "ogr2ogr and SQL"
_LARGE = 4  # the second file has so many times as many parcels
_GROWTH_KB = 1.0  # per parcel: ids, boxes and hashes stand in memory, geometries do not
# Peers need geopandas; a host that imports has neither it nor pandas, and pyogrio and pyarrow load
# what they find.
_CBM = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name in ("geopandas", "pandas"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
from cbm_extract.cli import main
sys.exit(main())
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """The rounds of one case: wall seconds, CPU seconds of client and server, peak memory (MB)."""

    wall: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    @property
    def cpu(self) -> list[float]:
        return [sum(both) for both in zip(self.client, self.server, strict=True)]

    def row(self, name: str) -> dict[str, object]:
        spread = (max(self.wall) - min(self.wall)) / median(self.wall)
        return {
            "case": name,
            "cpu_s": median(self.cpu),
            "wall_s": median(self.wall),
            "spread": spread,
            "client_cpu_s": median(self.client),
            "server_cpu_s": median(self.server),
            "peak_mb": median(self.peak),
        }


# What the import does but for overlaps, in PostGIS with the rows that ogr2ogr has copied.
_SAME_IN_SQL = """
INSERT INTO cbm.dataset (aoi, year, imagery_start, imagery_end)
  VALUES ('bm', 2024, '2024-01-01', '2024-12-31');
INSERT INTO cbm.crs VALUES (32632, 'EPSG:32632');
INSERT INTO cbm.parcel_set (dataset_id, source, checksum, options, crs_id, report, parcels, added,
    changed, removed, software_version)
  SELECT 1, 'file', '', '{}', 32632, '{}', count(*), count(*), 0, 0, '' FROM public.parcels;
CREATE TEMPORARY TABLE clean AS
  SELECT parcel_id, crop_code, crop_name, geom, substr(sha256(ST_AsBinary(geom)), 1, 16) AS hash
  FROM (SELECT *, ST_Normalize(ST_Multi(CASE WHEN ST_IsValid(given) THEN given
          ELSE ST_MakeValid(given, 'method=structure keepcollapsed=false') END)) AS geom
        FROM (SELECT parcel_id, crop_code, crop_name, geom AS given FROM public.parcels) p) valid;
ANALYZE clean;
INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom, area_m2)
  SELECT 1, 1, hash, geom, ST_Transform(geom, 4326), ST_Area(ST_Transform(geom, 3035))
  FROM (SELECT DISTINCT ON (hash) hash, geom FROM clean ORDER BY hash) one
  ORDER BY ST_Envelope(geom);
INSERT INTO cbm.parcel (dataset_id, layer, pid, crop_code, crop_name, geometry_id, parcel_set_id,
    valid_from)
  SELECT 1, '', c.parcel_id, c.crop_code, c.crop_name, g.id, 1, '2024-01-01'
  FROM clean c JOIN cbm.parcel_geometry g ON g.dataset_id = 1 AND g.hash = c.hash;
SELECT parcel_id FROM clean GROUP BY 1 HAVING count(*) > 1;
"""


def write_parcels(folder: Path, count: int, seed: int, times: int) -> Path:
    """Write parcels with an id, a crop, and columns that an import drops; once.

    ``times`` as many parcels lie on so many times the area of the tile.
    """
    path = folder / f"parcels-{count}x{times}-{seed}.gpkg"
    if path.is_file():
        return path
    polygons = workload.parcels(times * count, seed, math.sqrt(times) * workload.SIDE)
    number = np.arange(len(polygons))
    frame = gpd.GeoDataFrame(
        {
            "parcel_id": [f"CH-{n:09d}" for n in number],
            "crop_code": np.array(["115", "121", "401", "601", "701"])[number % 5],
            "crop_name": np.array(["Wheat", "Barley", "Maize", "Grass", "Vines"])[number % 5],
            "holding": [f"H{n // 20:07d}" for n in number],
            "declared_ha": np.round(gpd.GeoSeries(polygons).area / 1e4, 4),
        },
        geometry=polygons,
        crs=workload.CRS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.gpkg")
    part.unlink(missing_ok=True)
    frame.to_file(part, engine="pyogrio", layer="parcels")
    part.rename(path)
    return path


def server_cpu(server: Server) -> float:
    """Return the CPU seconds of the server: of the postmaster's children, ended and running."""
    postmaster = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    own, ended, _ = _times(postmaster)
    running = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                used, _, parent = _times(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            running += used if parent == postmaster else 0.0
    return own + ended + running


def _times(pid: int) -> tuple[float, float, int]:
    """Return CPU seconds of a process and of its ended children, and its parent (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(value) / _TICKS for value in fields[11:15])
    return utime + stime, cutime + cstime, int(fields[1])


def run(command: list[str], server: Server, cost: Cost) -> None:
    """Run a client to its end and add what it took."""
    before, start = server_cpu(server), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {said.decode()}")
    cost.wall.append(time.perf_counter() - start)
    cost.client.append(used.ru_utime + used.ru_stime)
    cost.peak.append(used.ru_maxrss * 1024 / 1e6)
    time.sleep(0.2)  # the backend ends after its client
    cost.server.append(server_cpu(server) - before)


def ours(path: Path, server: Server, template: str, cost: Cost) -> None:
    """Import into a fresh database with the whole schema."""
    name = postgis.new_database(server, template)
    settings = server.settings(name)
    given = {"aoi": "bm", "year": 2024, "imagery_start": "2024-01-01", "imagery_end": "2024-12-31"}
    ADD.run(ADD.arguments.model_validate(given), Context(settings))
    config = server.directory / "cbm.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.database.items()]
    config.write_text("\n".join(["[database]", *lines, ""]))
    command = [sys.executable, "-c", _CBM, "--config", str(config)]
    command += ["parcels", "import", "bm:2024", str(path), "--id", "column:parcel_id"]
    run([*command, "--crop-code", "crop_code", "--crop-name", "crop_name"], server, cost)
    postgis.drop_database(server, name)


def theirs(path: Path, server: Server, template: str, cost: Cost, *, same: bool) -> None:
    """Import into a fresh database by ogr2ogr; with ``same`` do what an import does after it."""
    name = postgis.new_database(server, template)
    parameters = server.parameters(name, postgis.SUPERUSER)
    address = " ".join(f"{key}={value}" for key, value in parameters.items())
    command = ["ogr2ogr", "-f", "PostgreSQL", f"PG:{address}", str(path), "-nln", "public.parcels"]
    command += ["-nlt", "PROMOTE_TO_MULTI", "-gt", "65536", "-lco", "GEOMETRY_NAME=geom"]
    command += ["-lco", "FID=fid", "--config", "PG_USE_COPY", "YES"]
    if same:
        queries = [str(server.bindir / "psql"), "-qXv", "ON_ERROR_STOP=1", address]
        queries += ["-c", "SET search_path = public", "-c", _SAME_IN_SQL]
        command = ["sh", "-c", f"{shlex.join(command)} && {shlex.join(queries)}"]
    run(command, server, cost)
    postgis.drop_database(server, name)


def benchmark(arguments: argparse.Namespace, report: Report) -> None:
    small, large = (
        write_parcels(arguments.folder, arguments.count, arguments.seed, times)
        for times in (1, _LARGE)
    )
    report.workload = {"parcels": arguments.count, "file": f"{small.stat().st_size / 1e6:.0f} MB"}
    peer = shutil.which("ogr2ogr") is not None
    costs = {name: Cost() for name in (OURS, PLAIN, SAME)[: 3 if peer else 1]}
    if not peer:
        report.note("ogr2ogr is not installed (Debian: gdal-bin): no comparison was made.")
    with postgis.server() as server:
        template = postgis.new_database(server, "cbm_empty")
        runner.migrate(server.settings(template))
        cases: list[Callable[[], None]] = [lambda: ours(small, server, template, costs[OURS])]
        if peer:
            cases += [
                lambda: theirs(small, server, template, costs[PLAIN], same=False),
                lambda: theirs(small, server, template, costs[SAME], same=True),
            ]
        for _ in range(arguments.rounds):
            for case in cases:
                case()
        wide = Cost()
        if not arguments.no_memory:
            ours(large, server, template, wide)
    report.figures = [cost.row(name) for name, cost in costs.items()]
    mine = costs[OURS]
    if peer:
        _compare(report, mine, costs[PLAIN], costs[SAME])
    if wide.peak:
        growth = (wide.peak[0] - median(mine.peak)) * 1e3 / ((_LARGE - 1) * arguments.count)
        report.bar("memory per further parcel, kB", growth, "<=", _GROWTH_KB)
        report.note(
            f"Peak memory: {median(mine.peak):.0f} MB for {arguments.count} parcels,"
            f" {wide.peak[0]:.0f} MB for {_LARGE * arguments.count}"
            f" ({wide.wall[0]:.1f} s, CPU {wide.cpu[0]:.1f} s)."
        )


def _compare(report: Report, mine: Cost, plain: Cost, same: Cost) -> None:
    for name, peer in ((SAME, same), (PLAIN, plain)):
        ratios = [a / b for a, b in zip(mine.wall, peer.wall, strict=True)]
        spread = (max(ratios) - min(ratios)) / median(ratios)
        report.bar(f"wall time, import : {name}", median(ratios), "<=", 1.0, spread)
        report.note(
            f"CPU, client + server: {median(mine.client):.2f} + {median(mine.server):.2f} s against"
            f" {median(peer.client):.2f} + {median(peer.server):.2f} s of {name}."
        )
    report.note(
        "The import validates and repairs, normalises and hashes every geometry, looks for"
        " duplicates and overlaps, reprojects to EPSG:4326, measures areas in EPSG:3035, and"
        f" compares with what the layer holds. `{PLAIN}` copies the rows as they are; `{SAME}`"
        " leaves only the overlaps out."
    )


def options(parser: argparse.ArgumentParser) -> None:
    workload.options(parser)
    parser.add_argument(
        "--no-memory", action="store_true", help=f"leave the import of {_LARGE} x as many out"
    )


if __name__ == "__main__":
    main(Report("Import of parcels"), benchmark, options)
