"""Which tile a geometry is best seen in, where tiles and UTM zones overlap.

A scene's rank for a geometry is 0 at best: 2 is added where the raster's rectangle does not wholly
contain the geometry, 1 where the tile's UTM zone is not that of the geometry's centroid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_core.db import Cursor

NOT_CONTAINED = 2
OTHER_ZONE = 1

_UTM = re.compile(r"^EPSG:32[67](\d\d)$")
_EPSG = re.compile(r"^EPSG:(\d+)$")


@dataclass(frozen=True)
class Tile:
    """A scene as a place: its raster's rectangle in the CRS ``srid``, and its UTM zone.

    ``zone`` is the zone's range of longitudes [west, east) in degrees, None where the raster is not
    in UTM or the scene has no tile: no geometry is then out of zone.
    """

    scene_id: int
    name: str
    srid: int
    bounds: tuple[float, float, float, float]
    zone: tuple[float, float] | None


def zone_longitudes(crs: str, latitude: float) -> tuple[float, float] | None:
    """Return the longitudes [west, east) of a CRS's UTM zone as the MGRS grid draws it.

    Between 56 and 64 degrees north, zone 32 is widened to the west at the cost of zone 31. None
    where the CRS is not UTM on WGS 84.
    """
    match = _UTM.match(crs)
    if not match:
        return None
    zone = int(match[1])
    west, east = 6.0 * zone - 186.0, 6.0 * zone - 180.0
    if 56.0 <= latitude < 64.0 and zone in {31, 32}:
        return (0.0, 3.0) if zone == 31 else (3.0, 12.0)
    return west, east


def find(cursor: Cursor, scene_id: int) -> Tile | None:
    """Return a scene's tile; None where its CRS has no EPSG code."""
    return next(iter(_tiles(cursor, sql.SQL("id = %(scene)s"), scene_id)), None)


def rivals(cursor: Cursor, scene_id: int) -> list[Tile]:
    """Return the other active scenes of the same datatake whose footprints meet a scene's."""
    condition = sql.SQL("""state = 'active' AND id <> %(scene)s AND EXISTS (
      SELECT FROM cbm.scene s
      WHERE s.id = %(scene)s AND s.card = o.card AND s.platform = o.platform
        AND s.datatake_start = o.datatake_start AND ST_Intersects(s.footprint, o.footprint))""")
    return _tiles(cursor, condition, scene_id)


def _tiles(cursor: Cursor, condition: sql.SQL, scene_id: int) -> list[Tile]:
    cursor.execute(
        sql.SQL("""SELECT id, tile, extent_crs, extent_bounds, ST_Y(ST_Centroid(footprint))
                   FROM cbm.scene o WHERE {} ORDER BY id""").format(condition),
        {"scene": scene_id},
    )
    return [
        # A slice of Sentinel-1 is no tile of a grid: its zone says nothing about its parcels.
        Tile(
            number,
            tile,
            int(match[1]),
            tuple(bounds),
            zone_longitudes(crs, latitude) if tile else None,
        )
        for number, tile, crs, bounds, latitude in cursor.fetchall()
        if (match := _EPSG.match(crs))
    ]


def out_of_zone(cursor: Cursor, tile: Tile, dataset_id: int) -> NDArray[np.int32]:
    """Return the geometries under a scene whose centroid is in another zone, int32, rising."""
    if tile.zone is None:
        return np.empty(0, dtype=np.int32)
    # What lies beside the zone is asked for, so that a tile far from its edges looks at nothing.
    cursor.execute(
        """SELECT g.id FROM cbm.scene s, cbm.parcel_geometry g, (VALUES
             (ST_MakeEnvelope(-360, -90, %(west)s, 90, 4326)),
             (ST_MakeEnvelope(%(east)s, -90, 360, 90, 4326))) AS beside (zone)
           WHERE s.id = %(scene)s AND g.dataset_id = %(dataset)s AND g.geom && s.footprint
             AND g.geom && beside.zone
             AND NOT (ST_X(ST_Centroid(g.geom)) >= %(west)s
                      AND ST_X(ST_Centroid(g.geom)) < %(east)s)
           GROUP BY g.id ORDER BY g.id""",
        {
            "scene": tile.scene_id,
            "dataset": dataset_id,
            "west": tile.zone[0],
            "east": tile.zone[1],
        },
    )
    return np.array([row[0] for row in cursor.fetchall()], dtype=np.int32)


def _rank(prefix: str) -> sql.Composed:
    """Return the rank of geometry p in a tile as one expression.

    It ranks either of two tiles, so that exactly one of them finds itself behind.
    """
    west, east = (sql.Placeholder(f"{prefix}_{side}") for side in ("west", "east"))
    return sql.SQL("""
      (CASE WHEN ST_Covers(r.{rectangle}, p.geom) THEN 0 ELSE 2 END
       + CASE WHEN {west}::double precision IS NULL THEN 0
              WHEN ST_XMin(p.geom) >= {west} AND ST_XMax(p.geom) < {east} THEN 0
              WHEN ST_X(ST_Centroid(p.geom)) >= {west} AND ST_X(ST_Centroid(p.geom)) < {east} THEN 0
              ELSE 1 END)""").format(rectangle=sql.Identifier(prefix), west=west, east=east)


def _rectangle(prefix: str) -> sql.Composed:
    """Return a tile's rectangle in degrees: brought there once, not every geometry to it.

    An edge of 1 km is straight in degrees to 2 cm. A rectangle across the antimeridian comes out
    wrong, but the same for both tiles: a worse tile may be chosen, never none.
    """
    names = ("left", "bottom", "right", "top", "srid")
    return sql.SQL("""ST_Transform(ST_Segmentize(
        ST_MakeEnvelope({left}, {bottom}, {right}, {top}, {srid}), 1000), 4326)""").format(
        **{name: sql.Placeholder(f"{prefix}_{name}") for name in names}
    )


# ST_Covers, not ST_CoveredBy: PostGIS prepares the constant geometry of the former only.
_SERVED = sql.SQL("""
WITH r AS MATERIALIZED (
  SELECT s.footprint AS seen, o.footprint AS seen_elsewhere, {my_rectangle} AS my,
         {their_rectangle} AS their
  FROM cbm.scene s, cbm.scene o WHERE s.id = %(my_scene)s AND o.id = %(their_scene)s
)
SELECT p.id FROM cbm.parcel_geometry p, r
WHERE p.dataset_id = %(dataset)s AND p.geom && r.seen AND p.geom && r.seen_elsewhere
  AND ({theirs}, %(their_name)s::text) < ({mine}, %(my_name)s::text)
  AND ST_Covers(r.seen_elsewhere, p.geom)""").format(
    my_rectangle=_rectangle("my"),
    their_rectangle=_rectangle("their"),
    theirs=_rank("their"),
    mine=_rank("my"),
)


def served_elsewhere(cursor: Cursor, tile: Tile, dataset_id: int) -> NDArray[np.int32]:
    """Return the geometries that a better tile of the same datatake covers, int32, rising.

    Better is the lower (rank, tile name); of equal ones none is better.
    """
    served: set[int] = set()
    for rival in rivals(cursor, tile.scene_id):
        parameters = {"dataset": dataset_id, **_named("my", tile), **_named("their", rival)}
        cursor.execute(_SERVED, parameters)
        served.update(row[0] for row in cursor.fetchall())
    return np.array(sorted(served), dtype=np.int32)


def _named(prefix: str, tile: Tile) -> dict[str, object]:
    left, bottom, right, top = tile.bounds
    west, east = tile.zone or (None, None)
    values = {
        "scene": tile.scene_id,
        "name": tile.name,
        "srid": tile.srid,
        "left": left,
        "bottom": bottom,
        "right": right,
        "top": top,
        "west": west,
        "east": east,
    }
    return {f"{prefix}_{name}": value for name, value in values.items()}
