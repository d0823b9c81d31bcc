"""A country of parcels with a season of statistics: made in SQL, by no code under test."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyproj

from cbm_core import db
from cbm_core.settings import Settings
from tests.factories import add_dataset, add_product, add_scene, sql

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CRS = "EPSG:32632"
# Metres between parcels: twenty on a square kilometre, as in the Netherlands.
SPACING = 220
WEST, SOUTH = 500_000, 5_200_000

_SET = """
INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id, report, parcels,
  added, changed, removed, software_version)
VALUES (%s, '', 'benchmark', 'c', '{}', 32632, '{}', %s, %s, 0, 0, '0') RETURNING id"""
_GEOMETRIES = """
INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom, area_m2)
SELECT %(dataset)s, %(set)s, decode(lpad(to_hex(i), 32, '0'), 'hex'), shape,
  ST_Transform(shape, 4326), ST_Area(shape)
FROM (
  SELECT i, ST_Multi(ST_SetSRID(ST_Buffer(ST_MakePoint(
    %(west)s + %(spacing)s * (i %% %(side)s), %(south)s + %(spacing)s * (i / %(side)s)),
    40 + (i::bigint * 7919 %% 70), 4), 32632)) AS shape
  FROM generate_series(0, %(count)s - 1) i
) made ORDER BY i"""
_PARCELS = """
INSERT INTO cbm.parcel (dataset_id, layer, pid, crop_code, crop_name, geometry_id, parcel_set_id,
  valid_from)
SELECT dataset_id, '', 'P' || row_number() OVER (ORDER BY id), 'C' || id %% 40,
  'Crop number ' || id %% 40, id, parcel_set_id, '2024-01-01'
FROM cbm.parcel_geometry WHERE dataset_id = %(dataset)s ORDER BY id"""
# Some hundred rows of numbers, the same every time, are dealt out to all parcels and scenes.
_KINDS = 997
_NUMBERS = """
CREATE TEMPORARY TABLE kind ON COMMIT DROP AS
SELECT k, (SELECT array_agg((1000 + (k * 7919 + n * 104729) %% 2003 / 7.0)::real ORDER BY n)
           FROM generate_series(1, %(numbers)s) n) AS stats
FROM generate_series(0, %(kinds)s - 1) k"""
_ROWS = """
INSERT INTO cbm.signature (obstime, geometry_id, scene_id, px_imaged, px_clear, dataset_id,
  product_id, tile_rank, stats, class_counts)
SELECT s.obstime, g.id, s.id, 40, 40, %(dataset)s, %(product)s, 0, kind.stats, '\\x04000028'
FROM (
  SELECT id FROM cbm.parcel_geometry WHERE dataset_id = %(dataset)s ORDER BY id LIMIT %(count)s
) g
CROSS JOIN cbm.scene s
JOIN kind ON kind.k = (g.id::bigint * 31 + s.id) %% %(kinds)s
WHERE s.id = ANY(%(scenes)s)
ORDER BY date_trunc('month', s.obstime), g.id, s.obstime"""


def make(settings: Settings, count: int) -> int:
    """Make the dataset bm:2024 of so many parcels, P1 and on, in rows from the south."""
    dataset = add_dataset(settings, "bm")
    sql(settings, "INSERT INTO cbm.crs VALUES (32632, 'EPSG:32632') ON CONFLICT DO NOTHING")
    values = {"dataset": dataset, "count": count, "west": WEST, "south": SOUTH,
              "spacing": SPACING, "side": side_of(count)}  # fmt: skip
    with closing(db.connect(settings)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_SET, (dataset, count, count))
        ((values["set"],),) = cursor.fetchall()
        cursor.execute(_GEOMETRIES, values)
        cursor.execute(_PARCELS, values)
    return dataset


def side_of(count: int) -> int:
    """Return how many parcels stand in a row."""
    return int(count**0.5) + 1


def season(settings: Settings, dataset: int, parcels: int, scenes: int) -> None:
    """Store so many scenes of ten bands for the first parcels, as lie after a compaction."""
    product = add_product(settings, variables=BANDS)
    first = datetime(2024, 3, 1, 10, 30, tzinfo=UTC)
    bounds = (WEST - 1000, SOUTH - 1000, WEST + 109_000, SOUTH + 109_000)
    ids = [
        add_scene(
            settings, {}, reference=f"scene{number}", bounds=bounds, crs=CRS,
            obstime=first + timedelta(days=2.5 * number),
        )
        for number in range(scenes)
    ]  # fmt: skip
    sql(
        settings,
        """SELECT cbm.ensure_signature_partition(%s::smallint, month) FROM (
             SELECT DISTINCT date_trunc('month', obstime)::date AS month FROM cbm.scene) months""",
        dataset,
    )
    sql(
        settings,
        """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id, state, parcel_set_id)
           SELECT s, %s, %s, 'done', (SELECT max(id) FROM cbm.parcel_set) FROM unnest(%s) s""",
        dataset, product, ids,
    )  # fmt: skip
    values = {"dataset": dataset, "product": product, "count": parcels, "scenes": ids,
              "numbers": 8 * len(BANDS), "kinds": _KINDS}  # fmt: skip
    with closing(db.connect(settings)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_NUMBERS, values)
        cursor.execute("ANALYZE kind")
        cursor.execute(_ROWS, values)


# Places in it

_DEGREES = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True)
_MERCATOR = pyproj.Transformer.from_crs(CRS, 3857, always_xy=True)
_HALF_WORLD = 20_037_508.342789244  # metres of Web Mercator


def place(chance: random.Random, count: int) -> tuple[float, float]:
    """Return a place among so many parcels, in the country's CRS."""
    number = chance.randrange(count)
    side = side_of(count)
    return WEST + SPACING * (number % side), SOUTH + SPACING * (number // side)


def box(chance: random.Random, count: int, side_m: float) -> str:
    """Return a box among so many parcels: west, south, east and north in degrees."""
    x, y = place(chance, count)
    corners = _DEGREES.transform_bounds(x, y, x + side_m, y + side_m)
    return ",".join(f"{value:.6f}" for value in corners)


def tile(chance: random.Random, count: int, zoom: int) -> str:
    """Return a tile among so many parcels: zoom, row and column."""
    x, y = _MERCATOR.transform(*place(chance, count))
    across, down = (x + _HALF_WORLD) / (2 * _HALF_WORLD), (_HALF_WORLD - y) / (2 * _HALF_WORLD)
    return f"{zoom}/{int(down * 2**zoom)}/{int(across * 2**zoom)}"
