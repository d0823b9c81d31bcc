"""Parcels as clients of the predecessor ask for them: by id, by place, and those alike nearby.

Answers are columns: a dict of equally long lists. A parcel with several periods is shown as in the
latest, as in the views of ``cbm dataset legacy-views``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from cbm_api.queries import areas
from cbm_api.queries.boxes import widened
from cbm_api.queries.datasets import Dataset
from cbm_core.db import Cursor, one_row

Columns = dict[str, list[Any]]

MOST_PARCELS = 100
"""As many parcels answer a polygon."""
FARTHEST_PEER_M = 20_000
SMALLEST_PEER_M2 = 3000
_FIRST_LOOK = 4 * MOST_PARCELS

_CURRENT = sql.SQL("""
p.dataset_id = %(dataset)s AND p.layer = %(layer)s AND p.known_to = 'infinity'
AND NOT EXISTS (SELECT FROM cbm.parcel n
                WHERE n.dataset_id = p.dataset_id AND n.layer = p.layer AND n.pid = p.pid
                  AND n.known_to = 'infinity' AND n.valid_from > p.valid_from)""")
_INFO = sql.SQL("""
SELECT p.pid, p.crop_name AS cropname, p.crop_code AS cropcode, ST_SRID(g.geom_src) AS srid,
  {geometry} AS geom, round(g.area_m2)::bigint AS area,
  ST_X(ST_Centroid(g.geom)) AS clon, ST_Y(ST_Centroid(g.geom)) AS clat
FROM cbm.parcel p
JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE {current} {condition}""")
_NEAR = sql.SQL("""
SELECT id FROM cbm.geometries_in(%(dataset)s::smallint, {area}, %(after)s, %(look)s)""")
_MEETING = sql.SQL("""
AND p.geometry_id = ANY (%(ids)s) AND ST_Intersects(g.geom, {area})
ORDER BY g.id, p.pid LIMIT %(most)s""")
_OWN = sql.SQL("""
SELECT p.crop_name, g.id, ST_XMin(g.geom), ST_YMin(g.geom), ST_XMax(g.geom), ST_YMax(g.geom)
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE {current} AND p.pid = %(pid)s""")
# OFFSET 0: a distance on the ellipsoid takes a tenth of a millisecond, and is asked for once.
_PEERS = sql.SQL("""
SELECT p.pid AS pids, d.distance
FROM (SELECT geom::geography AS place FROM cbm.parcel_geometry WHERE id = %(own)s OFFSET 0) own
CROSS JOIN cbm.geometries_in(%(dataset)s::smallint,
  ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)) near
JOIN cbm.parcel p ON p.geometry_id = near.id
JOIN cbm.parcel_geometry g ON g.id = near.id
CROSS JOIN LATERAL (SELECT ST_Distance(g.geom::geography, own.place) AS distance OFFSET 0) d
WHERE {current}
  AND p.crop_name = %(crop)s AND p.pid <> %(pid)s AND g.area_m2 > %(smallest)s
  AND d.distance <= %(within)s
ORDER BY d.distance, p.pid
LIMIT %(most)s""")


@dataclass(frozen=True)
class Show:
    """What of a parcel is shown."""

    geometry: bool = False
    wgs84: bool = False
    """The geometry in longitude and latitude rather than in the legal reference system."""
    ids_only: bool = False


def by_id(cursor: Cursor, dataset: Dataset, pid: str, show: Show) -> Columns:
    """Return the parcel with an id."""
    return _info(cursor, dataset, show, sql.SQL("AND p.pid = %(pid)s"), {"pid": pid})


def by_location(cursor: Cursor, dataset: Dataset, lon: float, lat: float, show: Show) -> Columns:
    """Return the parcels at a place, given in degrees (EPSG:4326)."""
    place = sql.SQL("ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326)")
    return _meeting(cursor, dataset, show, place, {"lon": lon, "lat": lat})


def by_polygon(
    cursor: Cursor, dataset: Dataset, ring: list[tuple[float, float]], show: Show
) -> Columns:
    """Return up to MOST_PARCELS parcels that meet a polygon.

    ``ring``: its closed outline, pairs of longitude and latitude in degrees (EPSG:4326).
    """
    # Outlines drawn by hand cross themselves.
    area = areas.usable(cursor, json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return _meeting(cursor, dataset, show, sql.SQL("%(area)s::geometry"), {"area": area})


def peers(cursor: Cursor, dataset: Dataset, pid: str, within_m: float, most: int) -> Columns | None:
    """Return parcels of the same crop name near a parcel, the nearest first; None without it.

    Columns are ``pids`` and ``distance``, in metres on the ellipsoid from border to border. Peers
    are larger than SMALLEST_PEER_M2; what is farther than FARTHEST_PEER_M is not looked for.
    """
    given = {"dataset": dataset.id, "layer": dataset.layer, "pid": pid}
    cursor.execute(_OWN.format(current=_CURRENT), given)
    row = cursor.fetchone()
    if row is None:
        return None
    crop, geometry, *bounds = row
    within = min(within_m, FARTHEST_PEER_M)
    cursor.execute(
        _PEERS.format(current=_CURRENT),
        given | widened(bounds, within) | {"crop": crop, "own": geometry, "within": within,
                                            "smallest": SMALLEST_PEER_M2, "most": most},
    )  # fmt: skip
    return _numbered(cursor, dataset, _columns(cursor), "pids")


def examples(cursor: Cursor, dataset: Dataset, most: int) -> list[str | int]:
    """Return the first ids of a dataset."""
    cursor.execute(
        """SELECT DISTINCT pid FROM cbm.parcel
           WHERE dataset_id = %s AND layer = %s AND known_to = 'infinity' ORDER BY pid LIMIT %s""",
        (dataset.id, dataset.layer, most),
    )
    return _numbered(cursor, dataset, _columns(cursor), "pid")["pid"]


def _meeting(
    cursor: Cursor, dataset: Dataset, show: Show, area: sql.SQL, given: dict[str, Any]
) -> Columns:
    """Return the parcels that meet an area; a country's are not all looked at for a hundred."""
    near, meeting = _NEAR.format(area=area), _MEETING.format(area=area)
    found: Columns = {}
    seen, look, most = 0, _FIRST_LOOK, MOST_PARCELS
    while True:
        cursor.execute(near, {**given, "dataset": dataset.id, "after": seen, "look": look})
        ids = [number for (number,) in cursor.fetchall()]
        part = _info(cursor, dataset, show, meeting, {**given, "ids": ids, "most": most})
        found = {name: found.get(name, []) + values for name, values in part.items()}
        most = MOST_PARCELS - len(found["pid"])
        if len(ids) < look or not most:
            return found
        seen, look = ids[-1], 4 * look


def _info(
    cursor: Cursor,
    dataset: Dataset,
    show: Show,
    condition: sql.Composable,
    given: dict[str, Any],
) -> Columns:
    shape = sql.Identifier("g", "geom" if show.wgs84 else "geom_src")
    # Without the name of the reference system: the column srid has it, and PostGIS knows not all.
    geometry = sql.SQL("ST_AsGeoJSON({}, 9, 0)").format(shape) if show.geometry else sql.NULL
    cursor.execute(
        _INFO.format(geometry=geometry, current=_CURRENT, condition=condition),
        {"dataset": dataset.id, "layer": dataset.layer, **given},
    )
    found = _numbered(cursor, dataset, _columns(cursor), "pid")
    if not show.geometry:
        del found["geom"]
    if show.ids_only:
        found = {name: found[name] for name in ("pid", "geom") if name in found}
    # Older clients call the id so.
    return {**found, "ogc_fid": found["pid"]}


def _columns(cursor: Cursor) -> Columns:
    """Return the rows of a query by column."""
    names = [column.name for column in cursor.description or ()]
    rows = cursor.fetchall()
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _numbered(cursor: Cursor, dataset: Dataset, columns: Columns, name: str) -> Columns:
    """Make ids numbers where all ids of the dataset are."""
    cursor.execute("SELECT cbm.ids_are_numbers(%s::smallint)", (dataset.id,))
    if one_row(cursor)[0]:
        columns[name] = [int(pid) for pid in columns[name]]
    return columns
