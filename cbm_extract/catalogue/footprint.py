"""Footprints: polygons in EPSG:4326 (longitude, latitude), split at the antimeridian, as WKB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from cbm_core.errors import CbmError
from cbm_extract.scene import Extent

Point = tuple[float, float]

# Points per edge of a raster's rectangle: straight in UTM is bent in longitude and latitude, at
# most by some 20 m between points of a 110 km tile.
_POINTS_PER_EDGE = 21


def from_rings(polygons: Iterable[Sequence[Sequence[Point]]]) -> bytes:
    """Return the WKB of a MultiPolygon from polygons given as rings: exterior, then holes.

    Points are (longitude, latitude). Two neighbours more than 180 degrees apart are taken to lie
    on either side of the antimeridian, and the polygon is split there.

    Raises:
        CbmError: ``footprint_invalid``.

    """
    parts = [part for rings in polygons for part in _split(_polygon(rings))]
    if not parts:
        raise CbmError("footprint_invalid", "The footprint has no area.")
    merged = shapely.union_all(parts) if len(parts) > 1 else parts[0]
    return _wkb(merged)


def from_geojson(geometry: dict[str, Any] | None) -> bytes | None:
    """Return the WKB of a GeoJSON Polygon or MultiPolygon, None for null.

    Raises:
        CbmError: ``footprint_invalid``.

    """
    if geometry is None:
        return None
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in {"Polygon", "MultiPolygon"} or not isinstance(coordinates, list):
        raise CbmError(
            "footprint_invalid", f"Expected a Polygon or MultiPolygon as footprint, found {kind}."
        )
    polygons = [coordinates] if kind == "Polygon" else coordinates
    try:
        rings = [[[(float(p[0]), float(p[1])) for p in ring] for ring in poly] for poly in polygons]
    except (TypeError, ValueError, IndexError):
        raise CbmError("footprint_invalid", "The footprint has no usable coordinates.") from None
    return from_rings(rings)


def from_extent(extent: Extent) -> bytes:
    """Return the WKB of a raster's rectangle.

    Raises:
        CbmError: ``footprint_invalid``.

    """
    left, bottom, right, top = extent.bounds
    steps = [i / (_POINTS_PER_EDGE - 1) for i in range(_POINTS_PER_EDGE)]
    edge = [(left, top - s * (top - bottom)) for s in steps[:-1]]
    edge += [(left + s * (right - left), bottom) for s in steps[:-1]]
    edge += [(right, bottom + s * (top - bottom)) for s in steps[:-1]]
    edge += [(right - s * (right - left), top) for s in steps]
    try:
        xs, ys = _to_wgs84(extent.crs).transform(
            [x for x, _ in edge], [y for _, y in edge], errcheck=True
        )
    except ProjError as error:
        raise CbmError(
            "footprint_invalid",
            f"The extent {extent.bounds} in {extent.crs} has no place on Earth: {error}.",
            "Check the raster's coordinate reference system.",
        ) from None
    return from_rings([[list(zip(xs, ys, strict=True))]])


@lru_cache(maxsize=64)
def _to_wgs84(crs: str) -> Transformer:
    try:
        return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except ProjError:
        raise CbmError(
            "crs_unknown", f"{crs!r} is no coordinate reference system that PROJ knows."
        ) from None


def _polygon(rings: Sequence[Sequence[Point]]) -> BaseGeometry:
    if not rings or len(rings[0]) < 4:
        raise CbmError("footprint_invalid", "The footprint has fewer than four points.")
    exterior = _unwrap(rings[0], None)
    middle = sum(x for x, _ in exterior) / len(exterior)
    polygon = Polygon(exterior, [_unwrap(hole, middle) for hole in rings[1:]])
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _unwrap(ring: Sequence[Point], near: float | None) -> list[Point]:
    """Make longitudes continuous along a ring, starting as near as possible to ``near``."""
    shift = 0.0 if near is None else 360.0 * round((near - ring[0][0]) / 360.0)
    result = [(ring[0][0] + shift, ring[0][1])]
    for (before, _), (x, y) in pairwise(ring):
        if not (-540 <= x <= 540 and -90.000001 <= y <= 90.000001):
            raise CbmError(
                "footprint_invalid",
                f"The footprint has the point ({x}, {y}); expected longitude and latitude.",
            )
        shift += -360.0 if x - before > 180 else 360.0 if x - before < -180 else 0.0
        result.append((x + shift, y))
    if abs(result[-1][0] - result[0][0]) > 180:
        raise CbmError("footprint_invalid", "The footprint goes around a pole.")
    return result


def _split(polygon: BaseGeometry) -> list[BaseGeometry]:
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    worlds = range(-2, 3)
    parts = (
        translate(polygon.intersection(box(360 * k - 180, -90, 360 * k + 180, 90)), -360 * k)
        for k in worlds
    )
    return [part for part in parts if part.area > 0]


def _wkb(geometry: BaseGeometry) -> bytes:
    pieces = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    if geometry.geom_type == "GeometryCollection":
        pieces = [
            polygon
            for part in shapely.get_parts(geometry)
            for polygon in shapely.get_parts(part)
            if polygon.geom_type == "Polygon"
        ]
    if not pieces:
        raise CbmError("footprint_invalid", "The footprint has no area.")
    return bytes(shapely.to_wkb(MultiPolygon(pieces), byte_order=1))
