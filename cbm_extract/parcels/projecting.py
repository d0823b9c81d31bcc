"""Parcels on the globe: longitude and latitude, cut at the antimeridian, and areas."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from cbm_core.errors import CbmError
from cbm_extract.parcels.crs import EqualArea
from cbm_extract.parcels.geometry import Objects, polygonal
from cbm_extract.plan import pipeline as pipelines
from cbm_extract.plan.pipeline import Pipeline

Floats = NDArray[np.float64]

_FULL_CIRCLE = 360.0
_HALF_CIRCLE = 180.0
_POLE = 90.0


class Projector:
    """Moves MultiPolygons of a source's CRS to EPSG:4326 by one pipeline, and measures them."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take the pipeline chosen for the whole source."""
        self._pipeline = pipeline
        self._measure = EqualArea(CRS.from_user_input(pipeline.target_crs))

    def project(self, polygons: Objects) -> tuple[Objects, Floats]:
        """Return MultiPolygons in degrees, cut at the antimeridian, and areas in m2 (EPSG:3035).

        Raises:
            CbmError: ``coordinates_invalid`` where a coordinate has no place on the Earth.

        """
        moved = shapely.transform(polygons, lambda xy: pipelines.transform(self._pipeline, xy))
        bounds = shapely.bounds(moved)
        if not (np.isfinite(bounds).all() and (np.abs(bounds[:, 1::2]) <= _POLE).all()):
            raise CbmError(
                "coordinates_invalid",
                "Some coordinates have no place on the Earth in the given CRS "
                f"({self._pipeline.source_crs[:60]}).",
                "Check the CRS and the order of the axes.",
            )
        cut = cut_at_antimeridian(moved)
        return cut, shapely.area(shapely.transform(cut, self._measure.metres))


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


def choose_pipeline(
    definition: str, extent: tuple[float, float, float, float], allow_ballpark: bool
) -> Pipeline:
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


def degrees(pipeline: Pipeline, points: Floats) -> Floats:
    """Return longitude and latitude [n, 2] of points in the source's CRS."""
    return pipelines.transform(pipeline, points)


def transformer_name(pipeline: Pipeline) -> str:
    """Return PROJ's name of the operation, "none" where the source is in degrees already."""
    if pipeline.source_crs == pipeline.target_crs:
        return "none"
    return pipeline.description or Transformer.from_pipeline(pipeline.definition).description
