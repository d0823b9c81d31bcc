"""Which images show a parcel or a place, and where their files are.

Scenes belong to no dataset: they are looked for only where a parcel of a granted dataset is, which
whoever calls this has asked first (:func:`parcel`, :func:`parcel_near`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cbm_api.imaging.windows import Asset
from cbm_api.queries.datasets import Dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

_METRES_PER_DEGREE = 111_320.0
_FIELDS = """s.id, s.reference, s.card, s.platform, s.tile, s.obstime, s.cloud_percent,
  s.orbit_direction, s.relative_orbit, s.assets"""
# Of a datatake one scene is shown: it covers all, else it is of the zone, else it is the first.
_IMAGES = f"""
SELECT * FROM (
  SELECT DISTINCT ON (s.card, s.platform, s.datatake_start) {_FIELDS}
  FROM cbm.scene s, (SELECT %(area)s::geometry AS shape) a
  WHERE s.state = 'active' AND s.card = %(card)s AND ST_Intersects(s.footprint, a.shape)
    AND s.obstime >= %(start)s AND s.obstime < %(end)s
    AND (%(cloud)s::float8 IS NULL OR s.cloud_percent <= %(cloud)s::float8)
  ORDER BY s.card, s.platform, s.datatake_start, ST_Covers(s.footprint, a.shape) DESC,
    substring(s.extent_crs FROM '^EPSG:32[67]([0-9]{{2}})$')::integer
      IS DISTINCT FROM (floor((ST_X(ST_Centroid(a.shape)) + 180) / 6) + 1)::integer,
    s.tile, s.id
) found ORDER BY obstime, id LIMIT %(most)s"""  # noqa: S608 constants
_PARCEL = """
SELECT p.pid, encode(ST_AsEWKB(g.geom), 'hex'), ST_AsGeoJSON(g.geom, 9, 0),
  ST_XMin(g.geom), ST_YMin(g.geom), ST_XMax(g.geom), ST_YMax(g.geom)
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE p.dataset_id = %s AND p.layer = %s AND p.pid = %s AND p.known_to = 'infinity'
ORDER BY p.valid_from DESC LIMIT 1"""
_NEAR = """
SELECT d.aoi, d.year, p.layer, p.pid, d.settings
FROM cbm.dataset d
CROSS JOIN (SELECT %(area)s::geometry AS area) a
CROSS JOIN LATERAL cbm.geometries_in(d.id, a.area) f
JOIN cbm.parcel_geometry g ON g.id = f.id
JOIN cbm.parcel p ON p.geometry_id = g.id AND p.dataset_id = d.id
WHERE d.purged_at IS NULL AND p.known_to = 'infinity' AND ST_Intersects(g.geom, a.area)
  AND (%(setting)s::text IS NULL OR jsonb_exists(d.settings, %(setting)s))
LIMIT 1"""


@dataclass(frozen=True)
class Image:
    """A scene, and the files of its bands."""

    assets: dict[str, Asset]
    id: int
    reference: str
    card: str
    platform: str
    tile: str
    obstime: datetime
    cloud_percent: float | None
    orbit_direction: str | None
    relative_orbit: int | None

    @property
    def name(self) -> str:
        """Its reference without the ending, which tells nothing."""
        return self.reference.removesuffix(".SAFE")


@dataclass(frozen=True)
class Parcel:
    """Where a parcel is: ``shape`` for further queries, ``outline`` GeoJSON in EPSG:4326.

    ``lon`` and ``lat`` are the middle of its box in degrees, ``side_m`` the box's longer side.
    """

    pid: str
    shape: str
    outline: dict[str, Any]
    lon: float
    lat: float
    side_m: float


@dataclass(frozen=True)
class Near:
    """A parcel that lets its readers look at a place."""

    dataset: str
    pid: str
    settings: dict[str, Any]


def parcel(cursor: Cursor, dataset: Dataset, pid: str) -> Parcel:
    """Return where a parcel is, as known now, in its latest period.

    Raises:
        CbmError: ``parcel_unknown``.

    """
    cursor.execute(_PARCEL, (dataset.id, dataset.layer, pid))
    row = cursor.fetchone()
    if row is None:
        raise CbmError("parcel_unknown", f"The collection {dataset.name} has no such parcel.")
    found, shape, outline, west, south, east, north = row
    lat = (south + north) / 2
    wide = (east - west) * math.cos(math.radians(lat))
    side = max(wide, north - south) * _METRES_PER_DEGREE
    return Parcel(found, shape, json.loads(outline), (west + east) / 2, lat, side)


def parcel_near(cursor: Cursor, area: str, setting: str | None = None) -> Near | None:
    """Return a parcel of a granted dataset that meets an area; None where there is none.

    ``area`` is an EWKT. With ``setting`` only datasets that have it count.
    """
    cursor.execute(_NEAR, {"area": area, "setting": setting})
    row = cursor.fetchone()
    if row is None:
        return None
    aoi, year, layer, pid, settings = row
    return Near(f"{aoi}_{year}" + (f".{layer}" if layer else ""), pid, settings)


def point(lon: float, lat: float) -> str:
    """Return a place as EWKT."""
    return f"SRID=4326;POINT({lon!r} {lat!r})"


def square(lon: float, lat: float, size_m: float) -> str:
    """Return a square around a place as EWKT, in degrees."""
    high = size_m / 2 / _METRES_PER_DEGREE
    wide = high / max(math.cos(math.radians(lat)), 0.01)
    west, south, east, north = lon - wide, lat - high, lon + wide, lat + high
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return f"SRID=4326;POLYGON(({', '.join(f'{x!r} {y!r}' for x, y in corners)}))"


def images(
    cursor: Cursor,
    card: str,
    area: str,
    period: tuple[datetime, datetime],
    most: int,
    cloud: float | None = None,
) -> list[Image]:
    """Return the images of a card that meet an area, by time, one per datatake.

    ``area`` is an EWKT or a parcel's ``shape``; ``cloud`` the highest cloud percentage of the
    whole scene.
    """
    start, end = period
    given = {"card": card, "area": area, "start": start, "end": end, "cloud": cloud, "most": most}
    cursor.execute(_IMAGES, given)
    return [_image(row) for row in cursor.fetchall()]


def image(cursor: Cursor, scene_id: int, area: str) -> Image:
    """Return a scene that meets an area.

    Raises:
        CbmError: ``scene_unknown``, also of scenes elsewhere and of retracted ones.

    """
    cursor.execute(
        f"SELECT {_FIELDS} FROM cbm.scene s WHERE s.id = %s AND s.state <> 'retracted'"  # noqa: S608
        " AND ST_Intersects(s.footprint, %s::geometry)",
        (scene_id, area),
    )
    row = cursor.fetchone()
    if row is None:
        raise CbmError("scene_unknown", "There is no such scene that shows this place.")
    return _image(row)


def named(cursor: Cursor, references: list[str], area: str, most: int) -> list[Image]:
    """Return the scenes with these references, with or without ``.SAFE``, that meet an area."""
    names = [name for one in references for name in (one, f"{one}.SAFE")]
    cursor.execute(
        f"SELECT {_FIELDS} FROM cbm.scene s WHERE s.reference = ANY(%s)"  # noqa: S608
        " AND s.state <> 'retracted' AND ST_Intersects(s.footprint, %s::geometry)"
        " ORDER BY s.obstime, s.id LIMIT %s",
        (names, area, most),
    )
    return [_image(row) for row in cursor.fetchall()]


def _image(row: tuple[Any, ...]) -> Image:
    *facts, assets = row
    files = {
        band: Asset(one["href"], one["index"], one["scale"], one["offset"], tuple(one["nodata"]))
        for band, one in assets.items()
    }
    return Image(files, *facts)
