"""Brings a batch of geometries into one form: valid, 2D, normalised MultiPolygons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Objects = NDArray[np.object_]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7
_WKB_HEAD = 5
_DIMENSION_FLAGS = 0x1FFFFFFF
_CURVED = range(8, 15)

# Why a feature has no usable geometry; index 0 means that it has one.
LEFT_OUT = (
    "",
    "null_geometry",
    "empty_geometry",
    "unreadable_geometry",
    "not_finite",
    "not_polygon",
    "collapsed",
)
_OK, _NULL, _EMPTY, _UNREADABLE, _NOT_FINITE, _NOT_POLYGON, _COLLAPSED = range(len(LEFT_OUT))


@dataclass(frozen=True)
class Cleaned:
    """A batch of n geometries after cleaning.

    ``polygons``: object [n], MultiPolygon or None where left out. ``left_out``: int8 [n], an index
    into :data:`LEFT_OUT`. The masks are bool [n] and say what was done. ``area_before`` and
    ``area_after``: float64 [n], square metres of repaired geometries, NaN for others.
    """

    polygons: Objects
    left_out: NDArray[np.int8]
    repaired: Bools
    flattened: Bools
    from_collection: Bools
    linearised: Bools
    area_before: Floats
    area_after: Floats


def clean(
    wkb: Objects, linearise: Callable[[Ints], Objects], area: Callable[[Objects], Floats]
) -> Cleaned:
    """Clean a batch.

    Args:
        wkb: Object [n], bytes (any dialect of WKB, 2D to 4D) or None.
        linearise: Gives the WKB without curves of the rows (indices into the batch) that have any.
        area: Gives square metres of polygons, for the report of repairs.

    Invalid polygons go through ``make_valid`` with the method "structure": shells are united and
    holes taken away, so that overlapping parts count once and do not cancel out.

    """
    curved = np.isin(wkb_types(wkb), _CURVED)
    if curved.any():
        wkb = wkb.copy()
        wkb[curved] = linearise(np.flatnonzero(curved))
    geometries, unclosed = _parse(wkb)
    left_out = np.full(len(wkb), _OK, dtype=np.int8)
    left_out[geometries == None] = _UNREADABLE  # noqa: E711 - element-wise
    left_out[wkb == None] = _NULL  # noqa: E711
    left_out[shapely.is_empty(geometries)] = _EMPTY
    flattened = (shapely.has_z(geometries) | shapely.has_m(geometries)) & (left_out == _OK)
    if flattened.any():
        geometries = shapely.force_2d(geometries)
    left_out[_not_finite(geometries)] = _NOT_FINITE
    kinds = shapely.get_type_id(geometries)
    collection = (kinds == _COLLECTION) & (left_out == _OK)
    geometries[collection] = polygonal(geometries[collection])
    none_inside = collection & (geometries == None)  # noqa: E711
    other = ~np.isin(kinds, (_POLYGON, _MULTIPOLYGON, _COLLECTION))
    left_out[(left_out == _OK) & (other | none_inside)] = _NOT_POLYGON
    geometries[left_out != _OK] = None
    repaired, before, after = _repair(geometries, left_out, unclosed, area)
    return Cleaned(
        polygons=shapely.normalize(_as_multi(geometries)),
        left_out=left_out,
        repaired=repaired,
        flattened=flattened & (left_out == _OK),
        from_collection=collection & (left_out == _OK),
        linearised=curved & (left_out == _OK),
        area_before=before,
        area_after=after,
    )


def wkb_types(wkb: Objects) -> Ints:
    """Return the type of each WKB (1 point ... 17 triangle) without its dimensions, -1 for none."""
    none = bytes(_WKB_HEAD)
    heads = b"".join(
        [none if w is None or len(w) < _WKB_HEAD else w[:_WKB_HEAD] for w in wkb.tolist()]
    )
    head = np.frombuffer(heads, dtype=[("order", "u1"), ("kind", "<u4")])
    kinds = np.where(head["order"] == 1, head["kind"], head["kind"].byteswap()).astype(np.int64)
    return np.where(kinds == 0, -1, (kinds & _DIMENSION_FLAGS) % 1000)


def polygonal(geometries: Objects) -> Objects:
    """Return the union of the polygons in each geometry, None where there are none."""
    parts, rows = shapely.get_parts(geometries, return_index=True)
    # A collection may hold MultiPolygons and further collections.
    while (shapely.get_type_id(parts) > _POLYGON).any():
        parts, inner = shapely.get_parts(parts, return_index=True)
        rows = rows[inner]
    polygons = (shapely.get_type_id(parts) == _POLYGON) & ~shapely.is_empty(parts)
    found: Objects = np.full(len(geometries), None, dtype=object)
    rows, starts = np.unique(rows[polygons], return_index=True)
    for row, of_row in zip(rows, np.split(parts[polygons], starts[1:]), strict=False):
        found[row] = of_row[0] if len(of_row) == 1 else _united(of_row)
    return found


def _united(polygons: Objects) -> shapely.Geometry:
    return shapely.make_valid(
        shapely.multipolygons(polygons), method="structure", keep_collapsed=False
    )


def _parse(wkb: Objects) -> tuple[Objects, Bools]:
    """Return geometries, and where rings had to be closed; None where WKB cannot be read."""
    with np.errstate(invalid="ignore"):
        geometries = shapely.from_wkb(wkb, on_invalid="ignore")
        failed = (geometries == None) & (wkb != None)  # noqa: E711
        if failed.any():
            geometries[failed] = shapely.from_wkb(wkb[failed], on_invalid="fix")
    return geometries, failed & (geometries != None)  # noqa: E711


def _not_finite(geometries: Objects) -> Ints:
    """Return the rows with a coordinate that is no number (bounds would pass over a NaN)."""
    coordinates, rows = shapely.get_coordinates(geometries, return_index=True)
    return np.unique(rows[~np.isfinite(coordinates).all(axis=1)])


def _repair(
    geometries: Objects,
    left_out: NDArray[np.int8],
    unclosed: Bools,
    area: Callable[[Objects], Floats],
) -> tuple[Bools, Floats, Floats]:
    """Make valid in place; return which were not, and their areas before and after."""
    before, after = (np.full(len(geometries), np.nan) for _ in range(2))
    present = left_out == _OK
    invalid = present & (unclosed | ~shapely.is_valid(geometries))
    if invalid.any():
        rows = np.flatnonzero(invalid)
        before[rows] = area(geometries[rows])
        fixed = polygonal(
            shapely.make_valid(geometries[rows], method="structure", keep_collapsed=False)
        )
        geometries[rows] = fixed
        gone = rows[fixed == None]  # noqa: E711
        left_out[gone] = _COLLAPSED
        after[rows] = area(geometries[rows])
        after[gone] = 0.0
    return invalid & (left_out == _OK), before, after


def _as_multi(geometries: Objects) -> Objects:
    single = shapely.get_type_id(geometries) == _POLYGON
    found = geometries.copy()
    rows = np.flatnonzero(single)
    if len(rows):
        found[rows] = shapely.multipolygons(geometries[rows], indices=np.arange(len(rows)))
    return found
