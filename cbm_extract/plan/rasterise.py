"""Polygons to runs of pixels, by exactly the rule of GDAL's rasterize (all_touched=False).

A pixel belongs to a polygon where its centre lies inside. The rule at the edges is that of
GDALdllImageFilledPolygon (alg/llrasterize.cpp): on the centre line of each row an edge counts where
``top <= centre < bottom``; a crossing at x begins or ends a span at ``floor(x + 0.5)``; and with
all rings taken clockwise an edge that runs along a centre line from right to left fills its own
span, whatever the others do.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.rings import PixelRings


@dataclass(frozen=True)
class LatticeRuns:
    """Runs in absolute lattice indices: CSR, each geometry's runs in order of row, then column.

    ``row``, ``col`` (first column) and ``length`` are int32 [runs]; the runs of geometry k are
    ``indptr[k]:indptr[k + 1]`` (int64 [geometries + 1]). No two runs of a geometry overlap.
    """

    row: NDArray[np.int32]
    col: NDArray[np.int32]
    length: NDArray[np.int32]
    indptr: NDArray[np.int64]

    def pixels(self) -> NDArray[np.int64]:
        """Return the number of pixels of each geometry, int64 [geometries]."""
        total = np.concatenate([[0], np.cumsum(self.length, dtype=np.int64)])
        counts: NDArray[np.int64] = total[self.indptr[1:]] - total[self.indptr[:-1]]
        return counts


def rasterise(pixels: PixelRings) -> LatticeRuns:
    """Rasterise polygons given in pixels of a lattice."""
    rings = pixels.rings
    runs, indptr = _rasterise(
        rings.coordinates, rings.ring, rings.part, rings.geometry, pixels.origin
    )
    row, col, length = (np.ascontiguousarray(runs[:, k]) for k in range(3))
    return LatticeRuns(row, col, length, indptr)


@kernel
def _rasterise(xy, ring, part, geometry, origin):
    n = len(geometry) - 1
    runs = np.empty((max(16 * n, 64), 3), np.int32)  # row, col, length
    indptr = np.zeros(n + 1, np.int64)
    crossings = np.empty(256, np.int64)
    counts = np.empty(256, np.int64)
    used = 0
    for g in range(n):
        first = used
        unordered = geometry[g + 1] - geometry[g] > 1
        for p in range(geometry[g], geometry[g + 1]):
            low, high, flat = _rows(xy, ring, part[p], part[p + 1])
            unordered |= flat
            if high - low + 2 > len(counts):
                counts = np.empty(2 * (high - low + 2), np.int64)
            total = _count(xy, ring, part[p], part[p + 1], low, high, counts)
            if total > len(crossings):
                crossings = np.empty(2 * total, np.int64)
            _cross(xy, ring, part[p], part[p + 1], low, counts, crossings)
            runs, used = _spans(low, high, counts, crossings, runs, used)
            if flat:
                runs, used = _flat_spans(xy, ring, part[p], part[p + 1], runs, used)
        if unordered:
            used = _merge(runs, first, used)
        for k in range(first, used):
            runs[k, 0] += origin[g, 1]
            runs[k, 1] += origin[g, 0]
        indptr[g + 1] = used
    return runs[:used], indptr


@kernel
def _rows(xy, ring, ring0, ring1):
    """Find the first and last row whose centre is spanned, and if an edge lies on such a line."""
    top, bottom = np.inf, -np.inf
    flat = False
    for i in range(ring[ring0], ring[ring1]):
        y = xy[i, 1]
        top = min(top, y)
        bottom = max(bottom, y)
        if y - 0.5 == np.floor(y) and i > ring[ring0] and xy[i - 1, 1] == y:
            flat = True
    if top > bottom:
        return 0, -1, False
    return np.int64(np.ceil(top - 0.5)), np.int64(np.ceil(bottom - 0.5)) - 1, flat


@kernel
def _count(xy, ring, ring0, ring1, low, high, counts):
    """Count the crossings of each row; leave where each row's begin in ``counts``."""
    rows = high - low + 1
    if rows <= 0:
        return 0
    counts[: rows + 1] = 0
    for r in range(ring0, ring1):
        for i in range(ring[r] + 1, ring[r + 1]):
            top, bottom = min(xy[i - 1, 1], xy[i, 1]), max(xy[i - 1, 1], xy[i, 1])
            for row in range(np.int64(np.ceil(top - 0.5)), np.int64(np.ceil(bottom - 0.5))):
                counts[row - low + 1] += 1
    for row in range(rows):
        counts[row + 1] += counts[row]
    return counts[rows]


@kernel
def _cross(xy, ring, ring0, ring1, low, counts, crossings):
    """Write the crossings of each row; ``counts[row]`` becomes the end of the row's."""
    for r in range(ring0, ring1):
        for i in range(ring[r] + 1, ring[r + 1]):
            x1, y1, x2, y2 = xy[i - 1, 0], xy[i - 1, 1], xy[i, 0], xy[i, 1]
            if y1 > y2:
                x1, y1, x2, y2 = x2, y2, x1, y1
            for row in range(np.int64(np.ceil(y1 - 0.5)), np.int64(np.ceil(y2 - 0.5))):
                x = (row + 0.5 - y1) * (x2 - x1) / (y2 - y1) + x1
                crossings[counts[row - low]] = np.int64(np.floor(x + 0.5))
                counts[row - low] += 1


@kernel
def _spans(low, high, counts, crossings, runs, used):
    """Pair the sorted crossings of each row (even-odd) and append the runs."""
    begin = 0
    for row in range(low, high + 1):
        end = counts[row - low]
        _sort(crossings, begin, end)
        if used + (end - begin) // 2 > len(runs):
            runs = _grown(runs, used + (end - begin) // 2)
        last = used
        for k in range(begin, end - 1, 2):
            a, b = crossings[k], crossings[k + 1]
            if b <= a:
                continue
            if used > last and runs[used - 1, 1] + runs[used - 1, 2] == a:
                runs[used - 1, 2] += b - a
                continue
            runs[used, 0], runs[used, 1], runs[used, 2] = row, a, b - a
            used += 1
        begin = end
    return runs, used


@kernel
def _flat_spans(xy, ring, ring0, ring1, runs, used):
    """Append the spans of edges that run, clockwise, from right to left along a centre line."""
    for r in range(ring0, ring1):
        x0, y0, area = xy[ring[r], 0], xy[ring[r], 1], 0.0
        for i in range(ring[r] + 1, ring[r + 1]):
            area += (xy[i - 1, 0] - x0) * (xy[i, 1] - y0) - (xy[i, 0] - x0) * (xy[i - 1, 1] - y0)
        for i in range(ring[r] + 1, ring[r + 1]):
            y = xy[i, 1]
            if xy[i - 1, 1] != y or y - 0.5 != np.floor(y):
                continue
            a, b = np.floor(xy[i, 0] + 0.5), np.floor(xy[i - 1, 0] + 0.5)
            if area < 0:  # y points down: clockwise on the map is positive here
                a, b = b, a
            if b > a:
                if used == len(runs):
                    runs = _grown(runs, used + 1)
                runs[used, 0], runs[used, 1], runs[used, 2] = np.floor(y), a, b - a
                used += 1
    return runs, used


@kernel
def _merge(runs, first, used):
    """Put one geometry's runs in order and join those that overlap or touch."""
    _sort_runs(runs, first, used)
    out = first
    for k in range(first, used):
        row, a, b = runs[k, 0], runs[k, 1], runs[k, 1] + runs[k, 2]
        if out > first and runs[out - 1, 0] == row and runs[out - 1, 1] + runs[out - 1, 2] >= a:
            runs[out - 1, 2] = max(runs[out - 1, 1] + runs[out - 1, 2], b) - runs[out - 1, 1]
        else:
            runs[out, 0], runs[out, 1], runs[out, 2] = row, a, b - a
            out += 1
    return out


# Shellsort: numba takes seconds to compile numpy's sorts, and mostly there are a few values.


@kernel
def _sort(values, begin, end):
    gap = 1
    while gap < (end - begin) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            value = values[i]
            j = i
            while j >= begin + gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@kernel
def _sort_runs(runs, begin, end):
    """Sort by row, then column."""
    gap = 1
    while gap < (end - begin) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            row, col, length = runs[i, 0], runs[i, 1], runs[i, 2]
            j = i
            while j >= begin + gap and (
                runs[j - gap, 0] > row or (runs[j - gap, 0] == row and runs[j - gap, 1] > col)
            ):
                runs[j, 0], runs[j, 1], runs[j, 2] = (
                    runs[j - gap, 0],
                    runs[j - gap, 1],
                    runs[j - gap, 2],
                )
                j -= gap
            runs[j, 0], runs[j, 1], runs[j, 2] = row, col, length
        gap //= 3


@kernel
def _grown(runs, needed):
    larger = np.empty((2 * needed, 3), np.int32)
    for k in range(len(runs)):
        for part in range(3):
            larger[k, part] = runs[k, part]
    return larger
