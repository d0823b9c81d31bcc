"""The store: loading, size on disk, one parcel's series, one scene read back.

On a PostgreSQL of its own in /tmp with production settings: WAL for replicas, fsync, the unique key
in place. Rows are written by the extraction's own code; CPU is that of the server's process.

    python -m benchmarks.store [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.harness import Report, main
from cbm_core import db
from cbm_core.database import partitions
from cbm_core.db import Connection
from cbm_core.migrations import runner
from cbm_core.settings import Settings
from cbm_extract.store import signatures
from cbm_extract.store.signatures import Slice
from tests import postgis

TUNING = (
    "-c wal_level=replica -c shared_buffers=512MB -c max_wal_size=4GB -c checkpoint_timeout=30min "
    "-c effective_cache_size=4GB -c random_page_cost=1.1 -c work_mem=32MB -c jit=off"
)
START = datetime(2024, 3, 1, 10, 30, tzinfo=UTC)
TICKS = os.sysconf("SC_CLK_TCK")
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]

_WORLD = """
INSERT INTO cbm.dataset (aoi, year, imagery_start, imagery_end)
  VALUES ('wide', 2024, '2024-01-01', '2024-12-31'), ('long', 2024, '2024-01-01', '2024-12-31');
INSERT INTO cbm.crs VALUES (32632, 'EPSG:32632');
INSERT INTO cbm.parcel_set (dataset_id, source, checksum, options, crs_id, report, parcels, added,
    changed, removed, software_version)
  SELECT id, 'made', '', '{}', 32632, '{}', 0, 0, 0, 0, '0' FROM cbm.dataset ORDER BY id;
INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom, area_m2)
  SELECT d, d, decode(md5(d || ' ' || n), 'hex'),
    ST_Multi(ST_MakeEnvelope(4e5 + n, 5e6, 4e5 + n + 90, 5e6 + 90, 32632)),
    ST_Multi(ST_MakeEnvelope(8 + n * 1e-6, 47, 8.001 + n * 1e-6, 47.001, 4326)), 8100
  FROM (VALUES (1, %(wide)s), (2, %(long)s)) AS t (d, many), generate_series(1, many) AS n
  ORDER BY d, n;
INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from)
  SELECT dataset_id, '', row_number() OVER (PARTITION BY dataset_id ORDER BY id), id, dataset_id,
         '2024-01-01'
  FROM cbm.parcel_geometry;
INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
  VALUES ('s2', 1, 's2', %(bands)s, '{}', 'a'), ('bs', 1, 'bs', '{VV,VH}', '{}', 'b');
ANALYZE cbm.parcel, cbm.parcel_geometry, cbm.product;
"""
_SCENE = """
INSERT INTO cbm.scene (reference, card, platform, obstime, datatake_start, tile, footprint,
    extent_crs, extent_bounds, assets, source)
  VALUES (%(name)s, %(card)s, 'S2A', %(at)s, %(at)s, '32TMT',
    ST_Multi(ST_MakeEnvelope(7, 46, 9, 48, 4326)), 'EPSG:32632', '{0,0,1,1}', '{}', 'made')
  RETURNING id"""
_RUN = """
INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from, parcel_set_to, token,
    worker, software_version, product_hash, plans, assets, rows, digest, started_at)
  VALUES (%s, %s, %s, 'full', 0, 1, 1, 'made', '0', '', '[]', '{}', %s, %s, now())"""


@dataclass(frozen=True)
class Load:
    """Scenes to be stored: ``first`` is the first geometry id, ``days`` lie between two."""

    dataset: int
    product: int
    variables: int
    first: int
    parcels: int
    scenes: int
    start: datetime
    days: float

    @property
    def month(self) -> datetime:
        """The first moment of the first month."""
        return self.start.replace(day=1, hour=0, minute=0)


def backend_cpu(pid: int) -> float:
    """Return the CPU seconds a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def made(load: Load, scene_id: int, at: datetime) -> Slice:
    """Make a scene's rows: values as of reflectance, two classes per parcel."""
    random = np.random.default_rng(scene_id)
    shape = (load.parcels, load.variables * 8)
    stats = random.normal(2000, 600, shape).astype(np.float32)
    classes = np.zeros((load.parcels, 12), np.int64)
    classes[:, [4, 5]] = random.integers(1, 40, (load.parcels, 2))
    pixels = classes.sum(axis=1).astype(np.int32)
    return Slice(
        obstime=at,
        scene_id=scene_id,
        dataset_id=load.dataset,
        product_id=load.product,
        geometry_ids=np.arange(load.first, load.first + load.parcels, dtype=np.int32),
        px_imaged=pixels,
        px_clear=pixels,
        tile_rank=np.zeros(load.parcels, np.int16),
        stats=stats,
        class_counts=classes if load.product == 1 else None,
    )


def store(connection: Connection, load: Load) -> list[float]:
    """Write all scenes; return band-rows per CPU second of the server, scene by scene."""
    rates = []
    pid = connection.info.backend_pid
    for number in range(load.scenes):
        at = load.start + timedelta(days=load.days * number)
        card = "s2" if load.product == 1 else "bs"
        with db.transaction(connection) as cursor:
            cursor.execute(
                _SCENE, {"name": f"{card}-{load.dataset}-{number}", "card": card, "at": at}
            )
            scene_id = db.one_row(cursor)[0]
        rows = made(load, scene_id, at)
        before = backend_cpu(pid)
        leaf = signatures.ensure_partition(connection, load.dataset, at)
        with db.transaction(connection) as cursor:
            digest = signatures.insert(cursor, leaf, rows)
            cursor.execute(_RUN, (scene_id, load.dataset, load.product, len(rows), digest))
        took = max(backend_cpu(pid) - before, 1 / TICKS)
        rates.append(len(rows) * load.variables / took)
    return rates


def analyze(connection: Connection) -> None:
    """Do what the end of an extraction does."""
    with db.transaction(connection) as cursor:
        found = partitions.months(cursor)
    for month in found:
        signatures.analyze_partition(connection, month.dataset_id, month.month)


def analyze_small(owner: Connection) -> None:
    """Do what autovacuum does to the other tables within minutes."""
    with db.transaction(owner) as cursor:
        cursor.execute("ANALYZE cbm.scene, cbm.dataset, cbm.run")


def bytes_per_band_row(connection: Connection, dataset: int, month: datetime) -> float:
    """Return heap and index over band-rows of one month, counted."""
    with db.transaction(connection) as cursor:
        (found,) = (one for one in partitions.months(cursor, dataset) if one.month == month.date())
        cursor.execute(
            """SELECT sum(rows * cardinality(variables))
               FROM cbm.run r
               JOIN cbm.scene s ON s.id = r.scene_id JOIN cbm.product p ON p.id = r.product_id
               WHERE dataset_id = %s AND date_trunc('month', obstime) = %s""",
            (dataset, month),
        )
        return (found.heap_bytes + found.index_bytes) / int(db.one_row(cursor)[0])


def server_ms(connection: Connection, query: str, parameters: list[tuple[object, ...]]) -> float:
    """Return the median execution time in the server, the second time each is asked."""
    times = []
    with db.transaction(connection) as cursor:
        for values in parameters:
            for _ in range(3):
                cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}", values)
                (document,) = db.one_row(cursor)[0]
            times.append(document["Execution Time"])
    return statistics.median(times)


def seconds(case: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return median and spread of the wall seconds of a case."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        case()
        times.append(time.perf_counter() - start)
    middle = statistics.median(times[1:])
    return middle, (max(times[1:]) - min(times[1:])) / middle


DIRECT = "SELECT obstime, stats FROM cbm.signature WHERE dataset_id = 2 AND geometry_id = %s"
LONG = """SELECT obstime, band, count, mean, std, min, max, p25, p50, p75 FROM cbm.signature_long
          WHERE dataset_id = 2 AND pid = %s"""
SCENE = """SELECT geometry_id, stats[41], stats[42], stats[43], stats[44], stats[45], stats[46],
             stats[47], stats[48]
           FROM cbm.signature WHERE dataset_id = 1 AND obstime = %s AND product_id = 1"""
SCENE_LONG = """SELECT pid, count, mean, std, min, max, p25, p50, p75 FROM cbm.signature_long
                WHERE dataset_id = 1 AND obstime = %s AND product = 's2' AND band = 'B07'"""


def rows_of(connection: Connection, query: str, at: datetime, expected: int) -> None:
    """Read a scene as an analyst does and see that all of it came."""
    with db.transaction(connection) as cursor:
        cursor.execute(query, (at,))
        assert len(cursor.fetchall()) == expected


def compare_reads(
    report: Report, connection: Connection, wide: Load, long: Load, rounds: int, when: str
) -> None:
    """Measure both kinds of reading; after compaction they are held against the bars."""
    ordered = when == "after compaction"
    parcels = [long.first + n * 1999 % long.parcels for n in range(21)]
    direct = server_ms(connection, DIRECT, [(one,) for one in parcels])
    through = server_ms(connection, LONG, [(str(one - long.first + 1),) for one in parcels])
    size = long.parcels * long.scenes * long.variables / 1e6
    if ordered:
        report.bar(
            f"one parcel, {long.scenes} scenes x 10 bands of {size:.0f} M band-rows, ms",
            direct, "<=", 1.0,
        )  # fmt: skip
    report.note(f"One parcel's series, {when}: {direct:.2f} ms; signature_long {through:.1f} ms.")
    scene, spread = seconds(lambda: rows_of(connection, SCENE, wide.start, wide.parcels), rounds)
    if ordered:
        name = f"one scene, one band, {wide.parcels} parcels read back, s"
        report.bar(name, scene, "<=", 2.0, spread)
    view, _ = seconds(lambda: rows_of(connection, SCENE_LONG, wide.start, wide.parcels), 1)
    report.note(f"One scene, one band, {when}: {scene:.2f} s; signature_long {view:.2f} s.")


def measure(arguments: argparse.Namespace, report: Report) -> None:
    """Make the world, load it, and ask."""
    wide = Load(1, 1, 10, 1, arguments.parcels, 20, START, 1.4)
    narrow = Load(1, 2, 2, 1, arguments.parcels, 5, START - timedelta(days=28), 5)
    long = Load(2, 1, 10, arguments.parcels + 1, arguments.parcels // 5, 100, START, 2.4)
    report.workload = {
        "wide": f"{wide.parcels} parcels x {wide.scenes} scenes x 10 bands in one month",
        "two bands": f"{narrow.parcels} parcels x {narrow.scenes} scenes x 2 bands in one month",
        "long": f"{long.parcels} parcels x {long.scenes} scenes x 10 bands in eight months",
        "server": TUNING.replace("-c ", ""),
    }
    with postgis.server(TUNING) as server:
        settings = server.settings("cbm_empty")
        runner.migrate(settings)
        with closing(db.connect(settings, "owner")) as owner, db.transaction(owner) as cursor:
            cursor.execute("SET LOCAL ROLE cbm_owner")
            cursor.execute(_WORLD, {"wide": wide.parcels, "long": long.parcels, "bands": BANDS})
        with closing(db.connect(settings)) as connection:
            _measure(report, settings, connection, (wide, narrow, long), arguments.rounds)


def _measure(
    report: Report, settings: Settings, connection: Connection, loads: tuple[Load, Load, Load],
    rounds: int,
) -> None:  # fmt: skip
    wide, narrow, long = loads
    rates = store(connection, wide)
    two = store(connection, narrow)
    rate = statistics.median(rates)
    spread = (max(rates) - min(rates)) / rate
    report.bar("10 bands: M band-rows per CPU s of the server", rate / 1e6, ">=", 1.2, spread)
    report.note(f"2 bands: {statistics.median(two) / 1e6:.2f} M band-rows per CPU second.")
    store(connection, long)
    analyze(connection)
    with closing(db.connect(settings, "owner")) as owner:
        analyze_small(owner)
    first, earlier = wide.month, narrow.month
    ten, pair = (bytes_per_band_row(connection, 1, one) for one in (first, earlier))
    report.bar("10 bands: bytes per band-row, heap and index", ten, "<=", 50)
    report.bar("2 bands: bytes per band-row, heap and index", pair, "<=", 115)
    compare_reads(report, connection, wide, long, rounds, "before compaction")
    compact(report, connection)
    ten, pair = (bytes_per_band_row(connection, 1, one) for one in (first, earlier))
    report.note(f"Bytes per band-row after compaction: {ten:.1f} with 10 bands, {pair:.1f} with 2.")
    compare_reads(report, connection, wide, long, rounds, "after compaction")


def compact(report: Report, connection: Connection) -> None:
    """Compact what is due; every month is."""
    with db.transaction(connection) as cursor:
        due = partitions.plan(cursor, None)
    pid = connection.info.backend_pid
    for one in due:
        start, before = time.perf_counter(), backend_cpu(pid)
        assert partitions.compact(connection, one.month.dataset_id, one.month.month)
        wall, cpu = time.perf_counter() - start, backend_cpu(pid) - before
        if one.month.dataset_id == 1:
            told = f"{one.month.rows} rows ({one.reason}): {cpu:.1f} CPU s, {wall:.1f} s"
            report.note(f"Compaction of {told}.")


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    parser.add_argument("--parcels", type=int, default=100_000, help="of the wide dataset")


if __name__ == "__main__":
    main(Report("Store"), measure, options)
