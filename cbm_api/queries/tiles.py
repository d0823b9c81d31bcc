"""Mapbox vector tiles (version 2.1) of a dataset's parcels as known now, made by PostGIS.

Tiles are those of the OGC's tile matrix set WebMercatorQuad, 4096 units wide. From PARCEL_ZOOM on a
tile shows parcels, below counts in cells, which stand ready in ``cbm.grid_tile``.
"""

from __future__ import annotations

from cbm_api.queries.datasets import Dataset
from cbm_core.db import Cursor, one_row

PARCEL_ZOOM = 12
MAX_ZOOM = 22
MAX_BYTES = 500_000
# The tile's own fields: names of the layer and of its properties.
_FRAME_BYTES = 100
# Zoom level whose cells tell where a dataset is.
_BOUNDS_ZOOM = 11

# What a feature takes at most is known before it is written: its points are differences, of one
# byte up to 63 units and of two up to 8191; a ring starts and ends in 8; id, tags and lengths take
# 32. The largest parcels are kept as long as there is room beside the names of the crops.
_PARCELS = """
WITH tile AS (
  SELECT ST_TileEnvelope(%(z)s, %(x)s, %(y)s) AS box,
    ST_Transform(ST_TileEnvelope(%(z)s, %(x)s, %(y)s, margin => 1 / 64.0), 4326) AS area
), placed AS (
  SELECT p.id, p.pid, p.crop_code, p.crop_name, g.area_m2,
    ST_AsMVTGeom(ST_Transform(g.geom, 3857), tile.box, 4096, 64) AS geom
  FROM tile
  CROSS JOIN LATERAL cbm.geometries_in(%(dataset)s::smallint, tile.area) AS found
  JOIN cbm.parcel_geometry g ON g.id = found.id
  JOIN cbm.parcel p ON p.geometry_id = g.id AND p.dataset_id = g.dataset_id
  WHERE p.layer = %(layer)s AND p.known_to = 'infinity' AND p.valid_to = 'infinity'
), crops AS (
  SELECT coalesce(sum(octet_length(concat(crop_code, crop_name)) + 12), 0) AS bytes
  FROM (SELECT DISTINCT crop_code, crop_name FROM placed) named
), sized AS (
  SELECT placed.*, crops.bytes + sum(
      ST_NPoints(geom) * CASE WHEN greatest(
        ST_XMax(geom) - ST_XMin(geom), ST_YMax(geom) - ST_YMin(geom)) < 64 THEN 2 ELSE 4 END
      + 8 * ST_NRings(geom) + 32 + octet_length(pid)
    ) OVER (ORDER BY area_m2 DESC, id) AS bytes
  FROM placed, crops WHERE geom IS NOT NULL
)
SELECT
  (SELECT ST_AsMVT(feature, 'parcels', 4096, 'geom', 'id')
   FROM (SELECT id, pid, crop_code, crop_name, geom FROM sized WHERE bytes <= %(room)s) feature),
  count(*) FILTER (WHERE bytes <= %(room)s), count(*) FILTER (WHERE bytes > %(room)s)
FROM sized"""


def version(cursor: Cursor, dataset: Dataset) -> int:
    """Return a number that changes whenever the parcels of a dataset do: its last parcel set."""
    cursor.execute(
        "SELECT coalesce(max(id), 0) FROM cbm.parcel_set WHERE dataset_id = %s AND layer = %s",
        (dataset.id, dataset.layer),
    )
    return int(one_row(cursor)[0])


def parcels(cursor: Cursor, dataset: Dataset, z: int, x: int, y: int) -> tuple[bytes, int, int]:
    """Return a tile of parcels, how many it shows, and how many found no room.

    Layer ``parcels``: ids of the features are the database's own; properties ``pid``,
    ``crop_code`` and ``crop_name``. Parcels smaller than the tile's units are not shown.
    """
    values = {"z": z, "x": x, "y": y, "dataset": dataset.id, "layer": dataset.layer}
    cursor.execute(_PARCELS, {**values, "room": MAX_BYTES - _FRAME_BYTES})
    tile, shown, left_out = one_row(cursor)
    return bytes(tile or b""), shown, left_out


def grid(cursor: Cursor, dataset: Dataset, z: int, x: int, y: int) -> bytes:
    """Return a tile of counts; empty where there are no parcels.

    Layer ``grid``: squares with ``parcels``, ``area_ha``, and the ``crop_code`` and ``crop_name``
    of the crop that covers most.
    """
    cursor.execute(
        "SELECT mvt FROM cbm.grid_tile"
        " WHERE dataset_id = %s AND layer = %s AND z = %s AND x = %s AND y = %s",
        (dataset.id, dataset.layer, z, x, y),
    )
    row = cursor.fetchone()
    return bytes(row[0]) if row else b""


def bounds(cursor: Cursor, dataset: Dataset) -> list[float] | None:
    """Return west, south, east and north in degrees of the tiles that have parcels."""
    cursor.execute(
        """SELECT ST_XMin(area), ST_YMin(area), ST_XMax(area), ST_YMax(area) FROM (
             SELECT ST_Extent(ST_Transform(ST_TileEnvelope(z, x, y), 4326)) AS area
             FROM cbm.grid_tile WHERE dataset_id = %s AND layer = %s AND z = %s
           ) tiles""",
        (dataset.id, dataset.layer, _BOUNDS_ZOOM),
    )
    row = one_row(cursor)
    return None if row[0] is None else [float(value) for value in row]
