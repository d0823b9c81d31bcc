"""Plans made from PostGIS, reprojection included, as the engine makes them; pixels as GDAL's.

Run ``python -m benchmarks.plan``. The parcels are in EPSG:3035, the lattice is that of 10 m in UTM
zone 32. CPU seconds are the client's, per 100,000 parcels; the database is a throw-away PostgreSQL.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from time import thread_time
from typing import Any

import numpy as np
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin

from benchmarks import database, workload
from benchmarks.harness import Report, Timing, interleave, main
from cbm_core import db
from cbm_core.settings import Settings
from cbm_extract.engine import plans
from cbm_extract.plan.chunk import PlanChunk
from cbm_extract.plan.lattice import Lattice
from cbm_extract.plan.pipeline import choose, transform
from cbm_extract.store import plans as stored
from tests.factories import sql
from tests.postgis import Server

LEGAL_CRS, LEGAL_SRID = "EPSG:3035", 3035
BUFFERS_M = (0.0, 5.0)
CHECKED = 2_000
_MARGIN = 3  # pixels around a parcel that is drawn by GDAL


def parcels_in(
    server: Server, settings: Settings, arguments: argparse.Namespace
) -> tuple[int, stored.ParcelSet]:
    """Put parcels into the database, in a legal CRS other than the lattice's."""
    number = database.dataset(settings, "pp", workload.parcels(arguments.count, arguments.seed))
    sql(settings, "INSERT INTO cbm.crs VALUES (%s, %s)", LEGAL_SRID, LEGAL_CRS)
    with closing(server.superuser(settings.database["dbname"])) as connection:
        cursor = connection.cursor()
        cursor.execute("UPDATE cbm.parcel_set SET crs_id = %s", (LEGAL_SRID,))
        cursor.execute(
            "UPDATE cbm.parcel_geometry SET geom_src = ST_Transform(geom_src, %s)", (LEGAL_SRID,)
        )
    ((parcel_set,),) = sql(settings, "SELECT id FROM cbm.parcel_set")
    return number, stored.ParcelSet(parcel_set, LEGAL_CRS, False)


def make(
    server: Server,
    settings: Settings,
    number: int,
    parcel_set: stored.ParcelSet,
    lattice: Lattice,
    buffer_m: float,
) -> None:
    """Make a plan and store it; the last one is removed first."""
    with closing(server.superuser(settings.database["dbname"])) as connection:
        connection.cursor().execute("TRUNCATE cbm.plan, cbm.plan_chunk, cbm.monitorability")
    with db.session(settings) as connection:
        plans.ensure(connection, number, parcel_set, lattice, buffer_m)


def chunks_of(settings: Settings) -> Iterator[PlanChunk]:
    """Read the stored plan."""
    for (payload,) in sql(settings, "SELECT payload FROM cbm.plan_chunk ORDER BY chunk"):
        yield PlanChunk.from_bytes(payload)


def differing(settings: Settings, lattice: Lattice, buffer_m: float) -> tuple[int, int, float]:
    """Draw parcels by GDAL: pixels that differ from the plan's, all pixels, seconds of GEOS."""
    shapes = sql(
        settings, "SELECT id, ST_AsBinary(geom_src) FROM cbm.parcel_geometry ORDER BY id LIMIT %s",
        CHECKED,
    )  # fmt: skip
    operation = choose(LEGAL_CRS, lattice.crs, workload.AREA)
    polygons = shapely.transform(
        shapely.from_wkb([bytes(shape) for _, shape in shapes]), partial(transform, operation)
    )
    seconds = -thread_time()
    if buffer_m:
        polygons = shapely.buffer(polygons, -buffer_m, quad_segs=8)
    seconds += thread_time()
    chunk = next(chunks_of(settings))
    wrong = total = 0
    for k, (identity, _) in enumerate(shapes):
        assert chunk.geometry_ids[k] == identity
        mine = drawn(chunk, k)
        total += len(mine)
        wrong += len(mine ^ by_gdal(polygons[k], lattice))
    return wrong, total, seconds


def drawn(chunk: PlanChunk, k: int) -> set[tuple[int, int]]:
    """Return the pixels (row, column) of a geometry of a plan."""
    runs = range(chunk.indptr[k], chunk.indptr[k + 1])
    return {
        (chunk.row0 + int(chunk.run_row[j]), chunk.col0 + int(chunk.run_col[j]) + c)
        for j in runs
        for c in range(int(chunk.run_len[j]))
    }


def by_gdal(polygon: Any, lattice: Lattice) -> set[tuple[int, int]]:
    """Return the pixels that GDAL's rasterize finds for a polygon."""
    if polygon.is_empty:
        return set()
    west, south, east, north = polygon.bounds
    col = int((west - lattice.xorigin) // lattice.xres) - _MARGIN
    row = int((lattice.yorigin - north) // lattice.yres) - _MARGIN
    width = int((east - west) / lattice.xres) + 2 * _MARGIN + 2
    height = int((north - south) / lattice.yres) + 2 * _MARGIN + 2
    corner = lattice.xorigin + col * lattice.xres, lattice.yorigin - row * lattice.yres
    found = rasterize(
        [(polygon, 1)],
        out_shape=(height, width),
        transform=from_origin(*corner, lattice.xres, lattice.yres),
        dtype="uint8",
    )
    rows, cols = np.nonzero(found)
    return set(zip((rows + row).tolist(), (cols + col).tolist(), strict=True))


def hold(report: Report, name: str, timing: Timing, count: int, geos: float) -> None:
    """Hold a plan's CPU against the bar, per 100,000 parcels; there is none for buffers."""
    taken = timing.cpu * 1e5 / count
    if geos:
        report.note(f"{name}: {taken:.1f} CPU s per 100k parcels, GEOS's buffer {geos:.1f}.")
    else:
        report.bar(f"{name}: client CPU s per 100k parcels", taken, "<=", 3, timing.spread)


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Measure everything."""
    lattice = workload.placement().lattice
    report.workload = {"parcels": arguments.count, "from": LEGAL_CRS, "to": lattice.key}
    with database.running() as (server, settings):
        number, parcel_set = parcels_in(server, settings, arguments)
        cases = {
            "plain" if buffer_m == 0 else f"buffer of {buffer_m:g} m": partial(
                make, server, settings, number, parcel_set, lattice, buffer_m
            )
            for buffer_m in BUFFERS_M
        }
        timings = interleave(cases, min(arguments.rounds, 3))
        report.timings(timings)
        for (name, case), buffer_m in zip(cases.items(), BUFFERS_M, strict=True):
            case()
            ((size, count),) = sql(
                settings,
                "SELECT sum(octet_length(payload)), (SELECT sum(geometries) FROM cbm.plan)"
                " FROM cbm.plan_chunk",
            )
            report.bar(f"{name}: bytes per parcel", float(size) / float(count), "<=", 150)
            wrong, total, geos = differing(settings, lattice, buffer_m)
            report.bar(f"{name}: pixels of {total:,} unlike GDAL's", wrong, "==", 0)
            buffering = geos * 1e5 / CHECKED if buffer_m else 0.0
            hold(report, name, timings[name], arguments.count, buffering)


if __name__ == "__main__":
    main(Report("Plans from PostGIS"), run, workload.options)
