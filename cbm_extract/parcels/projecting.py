"""Parcels on the globe: longitude and latitude, cut at the antimeridian, and areas."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from cbm_core.errors import CbmError
from cbm_extract.parcels.crs import Bounds, EqualArea
from cbm_extract.parcels.geometry import Objects, polygonal
from cbm_extract.parcels.spool import Spool
from cbm_extract.plan import pipeline as pipelines
from cbm_extract.plan.pipeline import Pipeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_Number = TypeVar("_Number", np.float64, np.int64)

_FULL_CIRCLE = 360.0
_HALF_CIRCLE = 180.0
_POLE = 90.0
# Parcels whose boxes are moved at once.
_BLOCK = 20_000
# Of a box's larger side, how much its sides bulge in degrees at the most: 0.1 % at 50 km.
_CURVED = 0.01

# WKB of a MultiPolygon with one polygon of one ring: its parts and rings are counted where
# _COUNTS and _RINGS say, its coordinates begin after _HEAD bytes.
_COUNTS, _RINGS, _HEAD, _POINT = slice(5, 9), slice(14, 18), 22, 16
_ONE_PART = _ONE_RING = struct.pack("<I", 1)


class Projector:
    """Moves MultiPolygons of a source's CRS to EPSG:4326 by one pipeline, and measures them."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take the pipeline chosen for the whole source."""
        self._pipeline = pipeline
        self._measure = EqualArea(CRS.from_user_input(pipeline.target_crs))

    def project_wkb(self, wkb: list[bytes]) -> tuple[list[bytes], Floats]:
        """Do what :meth:`project` does from WKB to WKB (little-endian, 2D, MultiPolygons).

        Polygons of one ring, most parcels, are moved as one array of coordinates, without being
        made into geometries.
        """
        plain = np.array([w[_COUNTS] == _ONE_PART and w[_RINGS] == _ONE_RING for w in wkb], bool)
        moved: list[bytes] = list(wkb)
        areas = np.empty(len(wkb))
        rows = np.flatnonzero(plain)
        if len(rows):
            done, areas[rows], within = self._project_rings([wkb[row] for row in rows.tolist()])
            for row, one in zip(rows.tolist(), done, strict=True):
                moved[row] = one
            plain[rows[~within]] = False
        rows = np.flatnonzero(~plain)
        if len(rows):
            polygons, areas[rows] = self.project(
                shapely.from_wkb(np.array([wkb[row] for row in rows.tolist()], dtype=object))
            )
            others = shapely.to_wkb(polygons, byte_order=1, output_dimension=2, flavor="iso")
            for row, one in zip(rows.tolist(), others.tolist(), strict=True):
                moved[row] = one
        return moved, areas

    def _project_rings(self, wkb: list[bytes]) -> tuple[list[bytes], Floats, Bools]:
        """Return WKB, areas, and which lie within -180..180 degrees: the others are to be cut."""
        ends = np.cumsum([(len(w) - _HEAD) // _POINT for w in wkb])
        starts = np.concatenate([[0], ends[:-1]])
        coordinates = np.frombuffer(b"".join([w[_HEAD:] for w in wkb]), "<f8").reshape(-1, 2)
        moved = np.ascontiguousarray(pipelines.transform(self._pipeline, coordinates))
        _require_on_earth(moved, self._pipeline)
        west, east = (f.reduceat(moved[:, 0], starts) for f in (np.minimum, np.maximum))
        within = (east - west <= _HALF_CIRCLE) & (east <= _HALF_CIRCLE) & (west >= -_HALF_CIRCLE)
        body = moved.astype("<f8", copy=False).tobytes()
        places = zip(wkb, (starts * _POINT).tolist(), (ends * _POINT).tolist(), strict=True)
        done = [w[:_HEAD] + body[start:end] for w, start, end in places]
        return done, ring_areas(self._measure.metres(moved), starts, ends), within

    def project(self, polygons: Objects) -> tuple[Objects, Floats]:
        """Return MultiPolygons in degrees, cut at the antimeridian, and areas in m2 (EPSG:3035).

        Raises:
            CbmError: ``coordinates_invalid`` where a coordinate has no place on the Earth.

        """
        moved = shapely.transform(polygons, lambda xy: pipelines.transform(self._pipeline, xy))
        _require_on_earth(shapely.bounds(moved).reshape(-1, 2), self._pipeline)
        cut = cut_at_antimeridian(moved)
        return cut, shapely.area(shapely.transform(cut, self._measure.metres))


def _require_on_earth(degrees: Floats, pipeline: Pipeline) -> None:
    if not (np.isfinite(degrees).all() and (np.abs(degrees[:, 1]) <= _POLE).all()):
        raise CbmError(
            "coordinates_invalid",
            "Some coordinates have no place on the Earth in the given CRS "
            f"({pipeline.source_crs[:60]}).",
            "Check the CRS and the order of the axes.",
        )


def ring_areas(coordinates: Floats, starts: Ints, ends: Ints) -> Floats:
    """Return the areas of closed rings that stand one behind the other in [n, 2] (shoelace)."""
    # From each ring's first vertex on: large coordinates would cost digits.
    x, y = (coordinates - np.repeat(coordinates[starts], ends - starts, axis=0)).T
    twice = np.zeros(len(coordinates))
    twice[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    # A ring's last vertex is its first, the origin: what it shares with the next ring is 0.
    areas: Floats = np.abs(np.add.reduceat(twice, starts)) / 2
    return areas


def cut_at_antimeridian(polygons: Objects) -> Objects:
    """Return MultiPolygons within -180..180 degrees.

    A polygon wider than half the globe is one whose vertices lie on both sides of the
    antimeridian: a parcel that wide does not exist.
    """
    bounds = shapely.bounds(polygons)
    west, east = bounds[:, 0], bounds[:, 2]
    beyond = (east > _HALF_CIRCLE) | (west < -_HALF_CIRCLE)
    rows = np.flatnonzero(((east - west) > _HALF_CIRCLE) | beyond)
    if len(rows) == 0:
        return polygons
    found = polygons.copy()
    for row in rows:
        found[row] = _cut(polygons[row])
    return found


def _cut(polygon: shapely.Geometry) -> shapely.Geometry:
    """Join the parts in 0..360 degrees, then bring what lies east of 180 back to the west."""
    joined = shapely.transform(polygon, _eastward)
    east = shapely.box(0, -_POLE, _HALF_CIRCLE, _POLE)
    west = shapely.box(_HALF_CIRCLE, -_POLE, _FULL_CIRCLE, _POLE)
    parts = [
        shapely.intersection(joined, east),
        shapely.transform(shapely.intersection(joined, west), lambda xy: xy - [_FULL_CIRCLE, 0.0]),
    ]
    pieces = np.array([shapely.geometrycollections(parts)], dtype=object)
    whole = polygonal(pieces)[0]
    return whole if whole.geom_type == "MultiPolygon" else shapely.multipolygons([whole])


def _eastward(xy: Floats) -> Floats:
    moved = xy.copy()
    moved[:, 0] %= _FULL_CIRCLE
    return moved


def choose_pipeline(definition: str, extent: Bounds, allow_ballpark: bool) -> Pipeline:
    """Choose the pipeline to EPSG:4326 for an extent in degrees (see ``plan.pipeline.choose``).

    Raises:
        CbmError: ``coordinates_invalid`` when the extent is not on the globe, and what ``choose``
            raises.

    """
    west, south, east, north = extent
    on_globe = np.isfinite(extent).all() and -_POLE <= south <= north <= _POLE
    if not on_globe or max(abs(west), abs(east)) > _FULL_CIRCLE:
        raise CbmError(
            "coordinates_invalid",
            f"The coordinates lie at {', '.join(f'{v:g}' for v in extent)} degrees (west, south, "
            "east, north): not on the globe.",
            "Check the CRS and the order of the axes.",
        )
    west, east = (_wrapped(west), _wrapped(east)) if east - west < _FULL_CIRCLE else (-180.0, 180.0)
    return pipelines.choose(definition, "EPSG:4326", (west, south, east, north), allow_ballpark)


def _wrapped(longitude: float) -> float:
    if abs(longitude) <= _HALF_CIRCLE:
        return longitude
    return (longitude + _HALF_CIRCLE) % _FULL_CIRCLE - _HALF_CIRCLE


def extent(spool: Spool, rows: Ints, pipeline: Pipeline, rough: Bounds) -> Bounds:
    """Return west, south, east, north in degrees of what parcels become by a pipeline.

    West > east crosses the antimeridian. ``rows`` are the parcels, at least one; ``rough`` is about
    where they are, in degrees.

    Raises:
        CbmError: ``coordinates_invalid`` where a coordinate has no place on the Earth.

    """
    west, _, east, _ = rough
    middle = (west + (east if east >= west else east + _FULL_CIRCLE)) / 2
    low, high = _nothing()
    outermost = _outermost(spool.bounds[rows], pipeline, middle)
    for part in _blocks(rows[outermost]):
        moved = pipelines.transform(pipeline, shapely.get_coordinates(spool.geometries(part)))
        _require_on_earth(moved, pipeline)
        moved = _around(middle, moved)
        low, high = np.minimum(low, moved.min(axis=0)), np.maximum(high, moved.max(axis=0))
    return (_wrapped(float(low[0])), float(low[1]), _wrapped(float(high[0])), float(high[1]))


def _outermost(boxes: Floats, pipeline: Pipeline, middle: float) -> Bools:
    """Say which of the parcels in boxes [n, 4] may reach furthest: only these need all vertices.

    A parcel touches all four sides of its box. So, whatever the angle between the axes and the
    meridian, it reaches at least as far as the box's centre, and at most as far as a corner.
    """
    low, high = _nothing()
    reach = []
    for block in _blocks(boxes):
        centres = (block[:, :2] + block[:, 2:]) / 2
        corners = [block[:, [x, y]] for x in (0, 2) for y in (1, 3)]
        moved = pipelines.transform(pipeline, np.concatenate([centres, *corners]))
        moved = _around(middle, moved).reshape(5, -1, 2)
        least, most = moved[1:].min(axis=0), moved[1:].max(axis=0)
        # The sides of a box are not quite straight in degrees.
        slack = _CURVED * (most - least).max(axis=1, keepdims=True)
        low = np.fmin(low, np.fmin.reduce(moved[0] + slack))
        high = np.fmax(high, np.fmax.reduce(moved[0] - slack))
        reach.append(np.concatenate([least - slack, most + slack], axis=1))
    ends = np.concatenate(reach)
    outermost: Bools = np.any(np.c_[~(ends[:, :2] > low), ~(ends[:, 2:] < high)], axis=1)
    return outermost


def _nothing() -> tuple[Floats, Floats]:
    return np.full(2, np.inf), np.full(2, -np.inf)


def _blocks(rows: NDArray[_Number]) -> Iterator[NDArray[_Number]]:
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]


def _around(middle: float, places: Floats) -> Floats:
    """Count longitudes from ``middle`` - 180 to ``middle`` + 180; of no place they are no number.

    Those that are there already stay to the last bit.
    """
    moved = places.copy()
    with np.errstate(invalid="ignore"):
        moved[:, 0] -= _FULL_CIRCLE * np.round((moved[:, 0] - middle) / _FULL_CIRCLE)
    return moved


def degrees(pipeline: Pipeline, points: Floats) -> Floats:
    """Return longitude and latitude [n, 2] of points in the source's CRS."""
    return pipelines.transform(pipeline, points)


def transformer_name(pipeline: Pipeline) -> str:
    """Return PROJ's name of the operation, "none" where the source is in degrees already."""
    if pipeline.source_crs == pipeline.target_crs:
        return "none"
    return pipeline.description or Transformer.from_pipeline(pipeline.definition).description
