"""What reports read: products, parcels, series, scenes and the state of the extraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from cbm_core.datasets.products import Product
from cbm_core.db import Cursor, one_row

# A parcel as known now: of several periods of validity, the latest.
_CURRENT = """
SELECT DISTINCT ON (p.layer, p.pid)
  p.layer, p.pid, p.crop_code, p.crop_name, p.geometry_id, g.area_m2
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE p.dataset_id = %(dataset)s AND p.known_to = 'infinity'"""
_LATEST_FIRST = "ORDER BY p.layer, p.pid, p.valid_from DESC"

# Joined to parcels c or geometries d: of a geometry's lattices, the one with the finest pixels.
# Lateral, so that it is one look-up by key per geometry even while the tables have no planner
# statistics (just imported): a join of two sets then goes through all pairs.
_MONITORABILITY = """
LEFT JOIN LATERAL (
  SELECT code, pixels FROM cbm.monitorability
  WHERE geometry_id = {0}.geometry_id AND buffer_m = %(buffer)s AND dataset_id = %(dataset)s
  ORDER BY pixels DESC, lattice LIMIT 1
) m ON true"""
_OF_PARCELS = _MONITORABILITY.format("c")

# An extent crossing the antimeridian spans all longitudes here: more scenes are then looked at.
_EXTENT = """
SELECT ST_SetSRID(ST_Extent(geom)::geometry, 4326)
FROM cbm.parcel_geometry WHERE dataset_id = %(dataset)s AND retired_at IS NULL"""


@dataclass(frozen=True)
class Parcel:
    """A parcel as declared now; ``area_m2`` in EPSG:3035.

    ``code`` and ``pixels`` say how well it can be seen (``cbm.monitorability``, finest lattice);
    both are None before the first extraction.
    """

    layer: str
    pid: str
    crop_code: str | None
    crop_name: str | None
    geometry_id: int
    area_m2: float
    code: str | None
    pixels: int | None


@dataclass(frozen=True)
class Value:
    """One variable of one parcel in one scene, in the stored unit; None is no value.

    ``statistics`` are mean, std, min, p25, p50, p75, max. ``classes`` counts the pixels of each
    scene class, None for products without them.
    """

    layer: str
    pid: str
    obstime: datetime
    reference: str
    tile: str
    band: str
    count: int
    statistics: tuple[float | None, ...]
    px_imaged: int
    px_clear: int
    classes: dict[int, int] | None


@dataclass(frozen=True)
class CropCount:
    """The parcels of one crop: how many, of how many hectares, and how many can be monitored."""

    crop_code: str | None
    crop_name: str | None
    parcels: int
    hectares: float
    monitorable: int


@dataclass(frozen=True)
class SceneState:
    """A scene of the dataset's area and period and what became of it.

    ``item`` is the state of the work item of the product reported on, None where none was asked;
    ``rows`` are the parcels' rows its extraction stored, ``missing`` the bands it did not have.
    """

    obstime: datetime
    reference: str
    part: str
    tile: str
    baseline: str | None
    cloud_percent: float | None
    state: str
    reason: str | None
    item: str | None
    error: str | None
    rows: int
    missing: list[str]


def layers(cursor: Cursor, dataset_id: int) -> dict[str, tuple[int, float]]:
    """Return layer -> number of parcels and their hectares."""
    cursor.execute(
        f"""SELECT layer, count(*), sum(area_m2) / 10000 FROM ({_CURRENT} {_LATEST_FIRST}) c
            GROUP BY layer ORDER BY layer""",  # noqa: S608 - constants of this module
        {"dataset": dataset_id},
    )
    return {layer: (count, float(hectares)) for layer, count, hectares in cursor.fetchall()}


def some_pids(cursor: Cursor, dataset_id: int, limit: int) -> list[str]:
    """Return the first parcel ids of a dataset, to show what they look like."""
    cursor.execute(
        """SELECT DISTINCT pid FROM cbm.parcel WHERE dataset_id = %s AND known_to = 'infinity'
           ORDER BY pid LIMIT %s""",
        (dataset_id, limit),
    )
    return [pid for (pid,) in cursor.fetchall()]


def parcels(
    cursor: Cursor,
    dataset_id: int,
    buffer_m: float,
    *,
    layer: str | None = None,
    pids: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[Parcel]:
    """Return parcels by layer and id: those of a layer, with given ids, or the first ones."""
    cursor.execute(
        f"""SELECT c.*, m.code, m.pixels
            FROM ({_CURRENT}
                  AND (%(layer)s::text IS NULL OR p.layer = %(layer)s)
                  AND (%(pids)s::text[] IS NULL OR p.pid = ANY(%(pids)s))
                  {_LATEST_FIRST} LIMIT %(limit)s) c
            {_OF_PARCELS}
            ORDER BY c.layer, c.pid""",  # noqa: S608 - constants of this module
        {
            "dataset": dataset_id,
            "buffer": buffer_m,
            "layer": layer,
            "pids": None if pids is None else list(pids),
            "limit": limit,
        },
    )
    return [Parcel(*row) for row in cursor.fetchall()]


_PARCEL_COLUMNS = "layer, pid, crop_code, crop_name, geometry_id, area_m2, code, pixels"


def representative(
    cursor: Cursor,
    dataset_id: int,
    product: Product,
    *,
    crops: int,
    per_crop: int,
    layer: str | None = None,
) -> list[Parcel]:
    """Pick parcels of the most frequent crops: monitorable, imaged, of the crop's median area.

    Of the twenty parcels of a crop whose area is nearest to its median, the first ``per_crop``
    that have statistics; parcels that are not monitorable come last.
    """
    cursor.execute(
        f"""WITH all_parcels AS (
              SELECT c.*, m.code, m.pixels
              FROM ({_CURRENT} AND (%(layer)s::text IS NULL OR p.layer = %(layer)s)
                    {_LATEST_FIRST}) c
              {_OF_PARCELS}
              WHERE m.pixels > 0
            ), crop AS (
              SELECT crop_code, count(*) AS parcels,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY area_m2) AS median
              FROM all_parcels GROUP BY crop_code
              ORDER BY parcels DESC, crop_code LIMIT %(crops)s
            ), near AS (
              SELECT a.*, crop.parcels, row_number() OVER (
                PARTITION BY a.crop_code
                ORDER BY a.code <> 'ok', abs(a.area_m2 - crop.median), a.layer, a.pid) AS place
              FROM all_parcels a JOIN crop ON crop.crop_code IS NOT DISTINCT FROM a.crop_code
            ), imaged AS (
              SELECT near.*, row_number() OVER (PARTITION BY crop_code ORDER BY place) AS pick
              FROM near
              WHERE place <= 20 AND EXISTS (
                SELECT FROM cbm.signature s
                WHERE s.dataset_id = %(dataset)s AND s.geometry_id = near.geometry_id
                  AND s.product_id = %(product)s AND s.px_clear > 0)
            )
            SELECT {_PARCEL_COLUMNS} FROM imaged WHERE pick <= %(per_crop)s
            ORDER BY parcels DESC, crop_code, layer, pid""",  # noqa: S608 - constants of this module
        {
            "dataset": dataset_id,
            "buffer": product.buffer_m,
            "layer": layer,
            "product": product.id,
            "crops": crops,
            "per_crop": per_crop,
        },
    )
    return [Parcel(*row) for row in cursor.fetchall()]


def values(
    cursor: Cursor,
    dataset_id: int,
    product: Product,
    chosen: Sequence[Parcel],
    *,
    bands: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
) -> list[Value]:
    """Return parcels' rows of ``signature_long`` by parcel, time and the product's variables.

    A parcel whose geometry changed in the season has rows of each geometry in its time.

    ``start`` and ``end`` are UTC days, both inclusive.
    """
    # Parcel by parcel: for many parcels at once the planner, before statistics of new partitions
    # are gathered, joins every row with every parcel (a minute instead of a second).
    cursor.execute(
        """SELECT v.layer, v.pid, v.obstime, v.reference, v.tile, v.band, v.count,
             v.mean, v.std, v.min, v.p25, v.p50, v.p75, v.max, v.px_imaged, v.px_clear, v.classes
           FROM unnest(%(layers)s::text[], %(pids)s::text[]) AS chosen (layer, pid)
           CROSS JOIN LATERAL (
             SELECT * FROM cbm.signature_long s
             WHERE s.dataset_id = %(dataset)s AND s.product_id = %(product)s
               AND s.layer = chosen.layer AND s.pid = chosen.pid
               AND (%(bands)s::text[] IS NULL OR s.band = ANY(%(bands)s))
               AND s.obstime >= coalesce(%(start)s::date::timestamptz, '-infinity')
               AND s.obstime < coalesce((%(end)s::date + 1)::timestamptz, 'infinity')
             OFFSET 0
           ) v
           ORDER BY v.layer, v.pid, v.obstime, v.tile,
             array_position(%(variables)s::text[], v.band)""",
        {
            "dataset": dataset_id,
            "product": product.id,
            "layers": [parcel.layer for parcel in chosen],
            "pids": [parcel.pid for parcel in chosen],
            "bands": None if bands is None else list(bands),
            "start": start,
            "end": end,
            "variables": list(product.variables),
        },
    )
    return [_value(row) for row in cursor.fetchall()]


def _value(row: tuple[Any, ...]) -> Value:
    layer, pid, obstime, reference, tile, band, count = row[:7]
    px_imaged, px_clear, classes = row[14:]
    return Value(
        layer=layer,
        pid=pid,
        obstime=obstime,
        reference=reference,
        tile=tile,
        band=band,
        count=count,
        statistics=tuple(row[7:14]),
        px_imaged=px_imaged,
        px_clear=px_clear,
        classes=None if classes is None else {int(name): n for name, n in classes.items()},
    )


def crop_counts(cursor: Cursor, dataset_id: int, buffer_m: float) -> list[CropCount]:
    """Count the parcels per crop, the most frequent first."""
    cursor.execute(
        f"""SELECT crop_code, min(crop_name), count(*), sum(area_m2) / 10000,
              count(*) FILTER (WHERE m.code = 'ok')
            FROM ({_CURRENT} {_LATEST_FIRST}) c {_OF_PARCELS}
            GROUP BY crop_code ORDER BY count(*) DESC, crop_code""",  # noqa: S608 - constants
        {"dataset": dataset_id, "buffer": buffer_m},
    )
    return [CropCount(row[0], row[1], row[2], float(row[3]), row[4]) for row in cursor.fetchall()]


def monitorability_counts(cursor: Cursor, dataset_id: int, buffer_m: float) -> dict[str, int]:
    """Count the distinct geometries in use per code of monitorability."""
    cursor.execute(
        f"""SELECT coalesce(m.code, 'not planned yet'), count(*)
            FROM (SELECT DISTINCT geometry_id FROM ({_CURRENT} {_LATEST_FIRST}) c) d
            {_MONITORABILITY.format("d")}
            GROUP BY 1 ORDER BY 2 DESC, 1""",  # noqa: S608 - constants of this module
        {"dataset": dataset_id, "buffer": buffer_m},
    )
    return dict(cursor.fetchall())


def scenes(
    cursor: Cursor, dataset_id: int, product: Product, start: date, end: date
) -> list[SceneState]:
    """Return the product's card's scenes of area and period (days inclusive), in order of time."""
    cursor.execute(
        f"""SELECT sc.obstime, sc.reference, sc.part, sc.tile, sc.baseline, sc.cloud_percent,
              sc.state, sc.state_reason, w.state, w.error, coalesce(done.rows, 0),
              coalesce(done.missing, '{{}}')
            FROM cbm.scene sc
            LEFT JOIN cbm.work_item w ON w.scene_id = sc.id AND w.dataset_id = %(dataset)s
              AND w.product_id = %(product)s
            LEFT JOIN LATERAL (
              SELECT sum(r.rows)::integer AS rows,
                (array_agg(r.missing_bands::text ORDER BY r.id DESC))[1]::text[] AS missing
              FROM cbm.run r
              WHERE r.dataset_id = %(dataset)s AND r.scene_id = sc.id
                AND r.product_id = %(product)s
                AND r.id >= (SELECT max(f.id) FROM cbm.run f
                             WHERE f.dataset_id = r.dataset_id AND f.scene_id = r.scene_id
                               AND f.product_id = r.product_id AND f.scope = 'full')
            ) done ON true
            WHERE sc.card = %(card)s AND sc.obstime >= %(start)s::date::timestamptz
              AND sc.obstime < (%(end)s::date + 1)::timestamptz
              AND (w.id IS NOT NULL OR sc.footprint && ({_EXTENT}))
            ORDER BY sc.obstime, sc.reference, sc.part""",  # noqa: S608 - constants of this module
        {
            "dataset": dataset_id,
            "product": product.id,
            "card": product.card,
            "start": start,
            "end": end,
        },
    )
    return [SceneState(*row) for row in cursor.fetchall()]


def progress(cursor: Cursor, dataset_id: int) -> dict[tuple[str, int], dict[str, int]]:
    """Return (product, revision) -> state -> number of work items."""
    cursor.execute(
        """SELECT pr.name, pr.revision, w.state, count(*)
           FROM cbm.work_item w JOIN cbm.product pr ON pr.id = w.product_id
           WHERE w.dataset_id = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
        (dataset_id,),
    )
    counts: dict[tuple[str, int], dict[str, int]] = {}
    for name, revision, state, number in cursor.fetchall():
        counts.setdefault((name, revision), {})[state] = number
    return counts


def last_extraction(cursor: Cursor, dataset_id: int) -> datetime | None:
    """Return when the dataset's newest statistics were stored, None without any."""
    cursor.execute("SELECT max(finished_at) FROM cbm.run WHERE dataset_id = %s", (dataset_id,))
    found: datetime | None = one_row(cursor)[0]
    return found
