"""How well a polygon can be seen on a lattice: pixels wholly inside it, and its mean width."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.lattice import Lattice
from cbm_extract.plan.rasterise import LatticeRuns
from cbm_extract.plan.rings import PixelRings, Rings

FloatArray = NDArray[np.float64]

# An edge that enters a pixel by less than this (in pixels) only touches its border: float noise of
# edges through pixel corners.
TOUCH_TOLERANCE = 1e-9


def whole_pixels(pixels: PixelRings, runs: LatticeRuns) -> NDArray[np.int64]:
    """Count the pixels whose square lies wholly inside each polygon, int64 [geometries].

    ``runs`` are the same polygons' pixels by centre. A pixel is whole where its centre is inside
    and no edge passes through the inside of its square; an edge along its border does no harm.
    """
    rings = pixels.rings
    counts: NDArray[np.int64] = _whole_pixels(
        rings.coordinates,
        rings.ring,
        rings.part,
        rings.geometry,
        pixels.origin,
        runs.row,
        runs.col,
        runs.length,
        runs.indptr,
    )
    return counts


def metres_per_unit(rings: Rings, lattice: Lattice) -> FloatArray:
    """Return the size of one unit of the lattice's CRS in metres (x, y), float64 [geometries, 2].

    Projected CRSs: the unit's length (map scale is not corrected). Geographic CRSs: the length of a
    degree of longitude and latitude on the ellipsoid at each geometry's first vertex.
    """
    crs = CRS.from_user_input(lattice.crs)
    count = len(rings.geometry) - 1
    if not crs.is_geographic:
        factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        return np.full((count, 2), factor)
    first = np.minimum(rings.vertices()[:-1], max(len(rings.coordinates) - 1, 0))
    latitude = np.zeros(count)
    if len(rings.coordinates):
        latitude = np.radians(rings.coordinates[first, 1])
    ellipsoid = crs.ellipsoid
    geod = (
        Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)
        if ellipsoid
        else Geod(ellps="WGS84")
    )
    squared = 1.0 - geod.es * np.sin(latitude) ** 2
    along_parallel = geod.a * np.cos(latitude) / np.sqrt(squared)
    along_meridian = geod.a * (1.0 - geod.es) / squared**1.5
    return np.radians(np.column_stack([along_parallel, along_meridian]))


def mean_width(rings: Rings, scale: FloatArray) -> FloatArray:
    """Return 2 x area / perimeter in metres, float64 [geometries]; 0 for empty ones.

    For a long strip that is its width, for a square half its side. ``scale`` is that of
    ``metres_per_unit``. Holes take away from the area and add to the perimeter.
    """
    widths: FloatArray = _mean_width(
        rings.coordinates, rings.ring, rings.part, rings.geometry, scale
    )
    return widths


@kernel
def _mean_width(xy, ring, part, geometry, scale):
    n = len(geometry) - 1
    width = np.zeros(n)
    for g in range(n):
        area, perimeter = 0.0, 0.0
        sx, sy = scale[g, 0], scale[g, 1]
        for p in range(geometry[g], geometry[g + 1]):
            for r in range(part[p], part[p + 1]):
                if ring[r] == ring[r + 1]:
                    continue
                x0, y0, twice = xy[ring[r], 0], xy[ring[r], 1], 0.0
                for i in range(ring[r] + 1, ring[r + 1]):
                    ax, ay = (xy[i - 1, 0] - x0) * sx, (xy[i - 1, 1] - y0) * sy
                    bx, by = (xy[i, 0] - x0) * sx, (xy[i, 1] - y0) * sy
                    twice += ax * by - bx * ay
                    perimeter += np.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
                area += abs(twice) / 2 if r == part[p] else -abs(twice) / 2
        if perimeter > 0.0:
            width[g] = 2.0 * area / perimeter
    return width


@kernel
def _whole_pixels(xy, ring, part, geometry, origin, row, col, length, indptr):
    n = len(geometry) - 1
    counts = np.zeros(n, np.int64)
    begins = np.empty(256, np.int64)
    touched = np.empty((256, 2), np.int64)  # columns [from, to) of each row that an edge enters
    for g in range(n):
        if indptr[g] == indptr[g + 1]:
            continue
        low, high = row[indptr[g]] - origin[g, 1], row[indptr[g + 1] - 1] - origin[g, 1]
        if high - low + 2 > len(begins):
            begins = np.empty(2 * (high - low + 2), np.int64)
        begins[: high - low + 2] = 0
        ring0, ring1 = part[geometry[g]], part[geometry[g + 1]]
        for r in range(ring0, ring1):
            for i in range(ring[r] + 1, ring[r + 1]):
                a, b = _bands(xy[i - 1, 1], xy[i, 1], low, high)
                for band in range(a, b):
                    begins[band - low + 1] += 1
        for k in range(high - low + 1):
            begins[k + 1] += begins[k]
        if begins[high - low + 1] > len(touched):
            touched = np.empty((2 * begins[high - low + 1], 2), np.int64)
        for r in range(ring0, ring1):
            for i in range(ring[r] + 1, ring[r + 1]):
                _touch(xy[i - 1], xy[i], low, high, begins, touched)
        begin = 0
        j = indptr[g]
        for k in range(high - low + 1):
            end = begins[k]
            _sort_pairs(touched, begin, end)
            while j < indptr[g + 1] and row[j] - origin[g, 1] == low + k:
                start = col[j] - origin[g, 0]
                counts[g] += _untouched(start, start + length[j], touched, begin, end)
                j += 1
            begin = end
    return counts


@kernel
def _bands(y1, y2, low, high):
    """Rows [from, to) whose inside an edge enters, of those between low and high."""
    top, bottom = min(y1, y2), max(y1, y2)
    a, b = np.floor(top + TOUCH_TOLERANCE), np.ceil(bottom - TOUCH_TOLERANCE)
    return max(np.int64(a), low), min(np.int64(b), high + 1)


@kernel
def _touch(p, q, low, high, begins, touched):
    """Write the columns that an edge enters in each row; ``begins[k]`` becomes the row's end."""
    x1, y1, x2, y2 = p[0], p[1], q[0], q[1]
    a, b = _bands(y1, y2, low, high)
    for band in range(a, b):
        xa, xb = x1, x2
        if y1 != y2:
            slope = (x2 - x1) / (y2 - y1)
            upper, lower = max(min(y1, y2), float(band)), min(max(y1, y2), band + 1.0)
            xa, xb = x1 + (upper - y1) * slope, x1 + (lower - y1) * slope
        touched[begins[band - low], 0] = np.floor(min(xa, xb) + TOUCH_TOLERANCE)
        touched[begins[band - low], 1] = np.ceil(max(xa, xb) - TOUCH_TOLERANCE)
        begins[band - low] += 1


@kernel
def _untouched(start, stop, touched, begin, end):
    """Count columns of [start, stop) that no interval covers; intervals sorted by their start."""
    free = 0
    at = start
    for k in range(begin, end):
        if touched[k, 0] >= stop:
            break
        if touched[k, 0] > at:
            free += touched[k, 0] - at
        at = max(at, touched[k, 1])
    return free + max(stop - at, 0)


@kernel
def _sort_pairs(pairs, begin, end):
    """Sort by the first column (Shellsort: compiles fast, and mostly there are a few)."""
    gap = 1
    while gap < (end - begin) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            a, b = pairs[i, 0], pairs[i, 1]
            j = i
            while j >= begin + gap and pairs[j - gap, 0] > a:
                pairs[j, 0], pairs[j, 1] = pairs[j - gap, 0], pairs[j - gap, 1]
                j -= gap
            pairs[j, 0], pairs[j, 1] = a, b
        gap //= 3
