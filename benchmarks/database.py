"""A throw-away PostgreSQL with datasets of the tile's parcels and scenes to extract."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyproj
import shapely

from benchmarks.workload import CRS, NORTH, SIDE, WEST, Polygons
from cbm_core import db
from cbm_core.migrations import runner
from cbm_core.settings import Settings
from cbm_extract.engine.worker import Worker
from cbm_extract.ledger import enqueue
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.ledger.states import Scope
from cbm_extract.products.definition import Product
from cbm_extract.store import products
from tests import postgis
from tests.factories import add_dataset, add_scene, asset, sql

FIRST_DAY = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
_SRID = int(CRS.split(":")[1])


@contextmanager
def running(tuning: str = postgis.CARELESS) -> Iterator[tuple[postgis.Server, Settings]]:
    """Start a cluster with the whole schema; nothing runs in it but what is asked for."""
    with postgis.server(tuning) as server:
        with closing(server.superuser()) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET autovacuum = off")
            cursor.execute("SELECT pg_reload_conf()")
        settings = server.settings(postgis.new_database(server, "cbm_empty"))
        runner.migrate(settings)
        yield server, settings


def backend_cpu(server: postgis.Server) -> float:
    """Return the CPU seconds of the cluster's processes so far, ended ones included."""
    return tree_cpu(int((server.directory / "data" / "postmaster.pid").read_text().split()[0]))


def tree_cpu(parent: int) -> float:
    """Return the CPU seconds so far of a process and its children, ended ones included."""
    total = sum(_times(parent))
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        try:
            total += sum(_times(int(child))[:2])
        except FileNotFoundError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


def _times(pid: int) -> list[int]:
    """Ticks of a process: user, system, and the same of its children that have ended (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(value) for value in fields[11:15]]


def dataset(settings: Settings, aoi: str, polygons: Polygons) -> int:
    """Make a dataset of parcels; return its id."""
    number = add_dataset(settings, aoi)
    sql(settings, "INSERT INTO cbm.crs VALUES (%s, %s) ON CONFLICT DO NOTHING", _SRID, CRS)
    parcel_set = sql(
        settings,
        """INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id, report,
             parcels, added, changed, removed, software_version)
           VALUES (%s, '', 'benchmark', 'c', '{}', %s, '{}', %s, %s, 0, 0, '0') RETURNING id""",
        number, _SRID, len(polygons), len(polygons),
    )[0][0]  # fmt: skip
    with db.session(settings) as connection, db.transaction(connection) as cursor:
        # COPY refuses tables with row-level security.
        cursor.execute(
            """CREATE TEMPORARY TABLE given (hash bytea, geom_src geometry, geom geometry,
                 area_m2 double precision) ON COMMIT DROP"""
        )
        cursor.copy_expert("COPY given FROM STDIN", io.StringIO("".join(_lines(polygons))))
        cursor.execute(
            """INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom,
                 area_m2) SELECT %s, %s, given.* FROM given""",
            (number, parcel_set),
        )
        cursor.execute(
            """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id,
                 valid_from)
               SELECT dataset_id, '', id, id, parcel_set_id, '2024-01-01'
               FROM cbm.parcel_geometry WHERE dataset_id = %s""",
            (number,),
        )
    sql(settings, "ANALYZE")
    return number


def _lines(polygons: Polygons) -> Iterator[str]:
    move = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform
    multi = shapely.multipolygons(polygons[:, None])
    degrees = shapely.set_srid(shapely.transform(multi, move, interleaved=False), 4326)
    source = shapely.to_wkb(shapely.set_srid(multi, _SRID), hex=True, include_srid=True)
    target = shapely.to_wkb(degrees, hex=True, include_srid=True)
    for one, other, area in zip(source, target, shapely.area(polygons), strict=True):
        digest = hashlib.sha256(one.encode()).hexdigest()[:32]
        yield f"\\\\x{digest}\t{one}\t{other}\t{area}\n"


def scenes(settings: Settings, files: dict[str, Path], count: int, side: float = SIDE) -> None:
    """Catalogue dates of the tile that all have the same files, with an offset as since 2022."""
    corner = (WEST, NORTH - side, WEST + side, NORTH)
    edge = shapely.segmentize(shapely.box(*corner), 1000.0)
    move = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform
    footprint = shapely.transform(edge, move, interleaved=False)
    assets = {band: asset(path, offset=_offset(band)) for band, path in files.items()}
    before = sql(settings, "SELECT count(*) FROM cbm.scene")[0][0]
    for number in range(before, before + count):
        add_scene(
            settings, assets, reference=f"date{number}", footprint=footprint, bounds=corner,
            crs=CRS, obstime=FIRST_DAY + timedelta(hours=number),
        )  # fmt: skip


def _offset(band: str) -> float:
    return 0.0 if band == "SCL" else -1000.0


def enqueued(settings: Settings, product: Product, *datasets: int) -> Scope:
    """Enqueue all scenes for a product of datasets; return the scope of the product."""
    with db.session(settings) as connection, db.transaction(connection) as cursor:
        number = products.register(cursor, product)
        wanted = [Wanted(product.name, product.card, number)]
        for one in datasets:
            todo = enqueue.plan(cursor, one, wanted, date(2024, 1, 1), date(2024, 12, 31))
            enqueue.apply(cursor, todo, {product.name: number})
    return Scope(None, (number,))


def work_on(settings: Settings, scope: Scope) -> int:
    """Claim and do one scene as a worker does, in a session of its own; return the rows written."""
    with db.session(settings) as connection:
        outcome = Worker(settings, connection, scope, 600.0).do_next()
    assert outcome is not None and set(outcome.items) == {"done"}, outcome
    return outcome.rows
