"""Parcels of a collection as GeoJSON, page by page, and those alike nearby.

PostgreSQL writes the GeoJSON (RFC 7946): a page is text that only needs to be put together. Pages
follow the ids of geometries, which lie along a curve through the country; a page begins behind the
key that the one before ended with, so that the last page costs what the first does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2 import sql

from cbm_api.crs import Crs
from cbm_api.queries.boxes import widened
from cbm_api.queries.datasets import Dataset
from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError

Key = tuple[int, int]
"""A place in the order of pages: ids of a parcel's geometry and of its row."""
START: Key = (0, 0)

# So many geometries are looked at for a page, and then at most for what it still lacks.
_FIRST_LOOK, _WIDEST_LOOK = 100, 65_536
# After so many seconds a page ends with what was found.
PAGE_SECONDS = 8.0


@dataclass(frozen=True)
class Search:
    """Which parcels are meant.

    ``area`` is EWKT in EPSG:4326. Of a parcel the last period that meets ``days`` (first and last,
    inclusive) counts; without days the one that has no end. ``as_of`` is the time of knowledge,
    None for now.
    """

    area: str | None = None
    days: tuple[date, date] | None = None
    as_of: datetime | None = None
    crop_code: str | None = None
    crop_name: str | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether few of the parcels may be meant, and many be looked at in vain."""
        return not (self.area is None and self.crop_code is None and self.crop_name is None)


@dataclass(frozen=True)
class Reach:
    """How far peers may be, from border to border, how many there may be, and how small."""

    distance_m: float
    limit: int
    min_area_m2: float


@dataclass(frozen=True)
class Peer:
    """A parcel of the same crop nearby: its row, its id, and its GeoJSON."""

    row_id: int
    pid: str
    feature: str


@dataclass(frozen=True)
class Shown:
    """A parcel that was looked up: its row, its geometry, and its GeoJSON."""

    row_id: int
    geometry_id: int
    feature: str


def page(
    cursor: Cursor, dataset: Dataset, search: Search, crs: Crs, after: Key, limit: int
) -> tuple[list[str], Key | None]:
    """Return up to ``limit`` features behind a key, and the key to go on with; None at the end.

    Where a search takes long there are fewer features, or none, and a key.
    """
    values = _values(dataset, search, crs)
    values |= {"after_geometry": after[0], "after_row": after[1], "most": limit + 1}
    found, seen = (
        _in_looks(cursor, search, values)
        if search.is_narrow
        else _everywhere(cursor, search, values)
    )
    features = [text for _, _, text in found[:limit]]
    if len(found) > limit:
        return features, found[limit - 1][:2]
    return features, None if seen is None else (seen + 1, 0)


# (geometry id, row id, feature) in order, and the last geometry looked at where there are more.
_Found = tuple[list[tuple[int, int, str]], int | None]


def _everywhere(cursor: Cursor, search: Search, values: dict[str, Any]) -> _Found:
    """Return the parcels behind the key."""
    cursor.execute(
        "SELECT min(id), max(id) FROM cbm.parcel_geometry WHERE dataset_id = %(dataset)s", values
    )
    first, last = one_row(cursor)
    if first is None:
        return [], None
    # Said of both tables: what lies before, of other pages and datasets, is then never looked at.
    between = "{} BETWEEN %(first_id)s AND %(last_id)s"
    among = sql.SQL(f"{between} AND {between}").format(
        sql.Identifier("p", "geometry_id"), sql.Identifier("g", "id")
    )
    bounds = {"first_id": max(first, values["after_geometry"]), "last_id": last}
    cursor.execute(_of_geometries(search, among), values | bounds)
    return cursor.fetchall(), None


def _in_looks(cursor: Cursor, search: Search, values: dict[str, Any]) -> _Found:
    """Return parcels behind the key, more than a page where that costs nothing."""
    near = _IN_DATASET if search.area is None else _IN_AREA
    statement = _of_geometries(search, sql.SQL("p.geometry_id = ANY (%(ids)s::integer[])"))
    deadline = time.monotonic() + PAGE_SECONDS
    found: list[tuple[int, int, str]] = []
    # The geometry of the last feature may have another parcel.
    seen, look = values["after_geometry"] - 1, max(_FIRST_LOOK, 2 * values["most"])
    while len(found) < values["most"]:
        cursor.execute(near, values | {"seen": seen, "look": look})
        ids = [row[0] for row in cursor.fetchall()]
        cursor.execute(statement, values | {"ids": ids})
        found += cursor.fetchall()
        if len(ids) < look:
            return found, None
        seen, look = ids[-1], min(4 * look, _WIDEST_LOOK)
        if time.monotonic() > deadline:
            break
    return found, seen


def item(cursor: Cursor, dataset: Dataset, pid: str, search: Search, crs: Crs) -> Shown:
    """Return one parcel as it is in its last period, or in the last that meets the days.

    Raises:
        CbmError: ``parcel_unknown``.

    """
    statement = _OF_PID.format(
        feature=_feature(), of_collection=_of_collection("p", search), meets=_meets("p", search)
    )
    cursor.execute(statement, _values(dataset, search, crs) | {"pid": pid})
    row = cursor.fetchone()
    if row is None:
        raise CbmError(
            "parcel_unknown",
            "The collection has no such parcel, or not at that time.",
            "Its items list the parcels.",
        )
    return Shown(*row)


def peers(
    cursor: Cursor, dataset: Dataset, pid: str, search: Search, crs: Crs, reach: Reach
) -> list[Peer]:
    """Return the parcels of the same crop within reach of a parcel, the nearest first.

    The crop is the code, or the name where there is no code; without either there are no peers.
    Each has ``distance_m``, from border to border on the ellipsoid.

    Raises:
        CbmError: ``parcel_unknown``.

    """
    own = item(cursor, dataset, pid, search, crs)
    cursor.execute(
        "SELECT ST_XMin(geom), ST_YMin(geom), ST_XMax(geom), ST_YMax(geom)"
        " FROM cbm.parcel_geometry WHERE id = %s",
        (own.geometry_id,),
    )
    values = _values(dataset, search, crs) | widened(one_row(cursor), reach.distance_m)
    values |= {"own": own.row_id, "distance": reach.distance_m}
    values |= {"smallest": reach.min_area_m2, "most": reach.limit}
    statement = _PEERS.format(
        feature=_feature(" || jsonb_build_object('distance_m', d.metres)"),
        of_collection=_of_collection("p", search),
        valid=_valid(search),
    )
    cursor.execute(statement, values)
    return [Peer(*row) for row in cursor.fetchall()]


def _values(dataset: Dataset, search: Search, crs: Crs) -> dict[str, Any]:
    first, last = search.days or (None, None)
    return {
        "dataset": dataset.id,
        "layer": dataset.layer,
        "area": search.area,
        "first": first,
        "last": last,
        "as_of": search.as_of,
        "crop_code": search.crop_code,
        "crop_name": search.crop_name,
        "srid": crs.srid,
        "north_first": crs.north_first,
        "digits": crs.digits,
        "names": _NAMES,
    }


_IN_AREA = """
SELECT id
FROM cbm.geometries_in(%(dataset)s::smallint, ST_GeomFromEWKT(%(area)s), %(seen)s, %(look)s)"""
_IN_DATASET = """
SELECT id FROM cbm.parcel_geometry WHERE dataset_id = %(dataset)s AND id > %(seen)s
ORDER BY id LIMIT %(look)s"""
# The coordinates of the file where they are asked for, else those on the globe.
_SHAPE = sql.SQL("""(
  SELECT CASE WHEN %(north_first)s THEN ST_FlipCoordinates(s.shape) ELSE s.shape END
  FROM (SELECT CASE WHEN %(srid)s = 4326 THEN g.geom
                    WHEN ST_SRID(g.geom_src) = %(srid)s THEN g.geom_src
                    ELSE ST_Transform(g.geom, %(srid)s) END AS shape) s)""")
# A column of the file that is called like a property of ours gets another name.
_ATTRIBUTES = sql.SQL("""(
  CASE WHEN p.attributes ?| %(names)s THEN (
    SELECT jsonb_object_agg(
      CASE WHEN a.key = ANY (%(names)s) THEN 'source_' ELSE '' END || a.key, a.value)
    FROM jsonb_each(p.attributes) a)
  ELSE p.attributes END)""")
_NAMES = ["pid", "crop_code", "crop_name", "area_m2", "valid_from", "valid_to", "distance_m"]
_FEATURE = sql.SQL("""
  '{{"type":"Feature","id":' || to_json(p.pid)
  || ',"geometry":' || ST_AsGeoJSON({shape}, %(digits)s, 0)
  || ',"properties":' || ({attributes} || jsonb_build_object(
    'pid', p.pid, 'crop_code', p.crop_code, 'crop_name', p.crop_name,
    'area_m2', round(g.area_m2::numeric, 1), 'valid_from', p.valid_from,
    'valid_to', CASE WHEN p.valid_to < 'infinity' THEN p.valid_to END){more}) || '}}'""")
_OF_GEOMETRIES = sql.SQL("""
SELECT p.geometry_id, p.id, {feature}
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE {among} AND (p.geometry_id, p.id) > (%(after_geometry)s, %(after_row)s)
  AND {of_collection} AND {valid} AND {wanted}
ORDER BY p.geometry_id, p.id LIMIT %(most)s""")
_OF_PID = sql.SQL("""
SELECT p.id, g.id, {feature}
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE p.pid = %(pid)s AND {of_collection} AND {meets}
ORDER BY p.valid_from DESC LIMIT 1""")
_PEERS = sql.SQL("""
SELECT p.id, p.pid, {feature}
FROM cbm.parcel own
JOIN cbm.parcel_geometry og ON og.id = own.geometry_id
CROSS JOIN cbm.geometries_in(%(dataset)s::smallint,
  ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)) near
JOIN cbm.parcel p ON p.geometry_id = near.id
JOIN cbm.parcel_geometry g ON g.id = near.id
CROSS JOIN LATERAL (
  SELECT round(ST_Distance(g.geom::geography, og.geom::geography)::numeric, 1) AS metres) d
WHERE own.id = %(own)s
  AND {of_collection} AND {valid} AND p.pid <> own.pid
  AND CASE WHEN own.crop_code IS NULL THEN p.crop_name = own.crop_name
           ELSE p.crop_code = own.crop_code END
  AND g.area_m2 >= %(smallest)s AND d.metres <= %(distance)s
ORDER BY d.metres, p.pid LIMIT %(most)s""")
_LATER = sql.SQL("""
NOT EXISTS (SELECT FROM cbm.parcel n
            WHERE n.pid = p.pid AND n.valid_from > p.valid_from AND {of_collection} AND {meets})""")


def _feature(more: str = "") -> sql.Composable:
    return _FEATURE.format(shape=_SHAPE, attributes=_ATTRIBUTES, more=sql.SQL(more))


def _of_geometries(search: Search, among: sql.Composable) -> sql.Composable:
    return _OF_GEOMETRIES.format(
        feature=_feature(),
        among=among,
        of_collection=_of_collection("p", search),
        valid=_valid(search),
        wanted=_wanted(search),
    )


def _of_collection(row: str, search: Search) -> sql.Composable:
    """Return the condition that a row is of the layer, and known at the time that is asked for."""
    known = (
        "{row}.known_to = 'infinity'"
        if search.as_of is None
        # Two indexes share the rows between them.
        else "{row}.known_from <= %(as_of)s AND {row}.known_to > %(as_of)s"
        " AND ({row}.known_to = 'infinity' OR {row}.known_to < 'infinity')"
    )
    layer = "{row}.dataset_id = %(dataset)s AND {row}.layer = %(layer)s"
    return sql.SQL(f"{layer} AND {known}").format(row=sql.Identifier(row))


def _meets(row: str, search: Search) -> sql.Composable:
    """Return the condition that a row meets the days that are asked for."""
    if search.days is None:
        return sql.SQL("true")
    return sql.SQL("{row}.valid_from <= %(last)s AND {row}.valid_to > %(first)s").format(
        row=sql.Identifier(row)
    )


def _valid(search: Search) -> sql.Composable:
    """Return the condition that of a parcel's periods it is this one that counts."""
    if search.days is None:
        return sql.SQL("p.valid_to = 'infinity'")
    later = _LATER.format(of_collection=_of_collection("n", search), meets=_meets("n", search))
    return sql.SQL("{} AND {}").format(_meets("p", search), later)


def _wanted(search: Search) -> sql.Composable:
    """Return the conditions on crop and place."""
    conditions = {
        "p.crop_code = %(crop_code)s": search.crop_code,
        "p.crop_name = %(crop_name)s": search.crop_name,
        "ST_Intersects(g.geom, ST_GeomFromEWKT(%(area)s))": search.area,
    }
    given = [text for text, value in conditions.items() if value is not None]
    return sql.SQL(" AND ".join(["true", *given]))
