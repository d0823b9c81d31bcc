# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917 - kernels are compiled for what they are called with
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Which code-blocks the pixels of runs depend on.

A pixel of the 5/3 wavelet depends on few coefficients of each level (ITU-T T.800, F.3.8): pixel 2n
on low n and high n - 1 and n, pixel 2n + 1 on low n and n + 1 and high n - 1 to n + 1. Mirroring
at the edges of a tile stays within these, cut to the tile.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.runs import Runs
from cbm_extract.read.jp2.codestream import Coding
from cbm_extract.read.jp2.geometry import Geometry

_Marks = NDArray[np.uint8]
# Bands of one grid share their runs. An entry lives as long as its runs.
_known: dict[int, tuple[weakref.ref[Runs], dict[Coding, _Marks]]] = {}
_lock = threading.Lock()


def needed_blocks(runs: Sequence[Runs], coding: Coding, geometry: Geometry) -> _Marks:
    """Return uint8 [code-blocks of the file]: 1 where a pixel of the runs depends on it.

    Runs are in the file's own raster, of ``coding``'s size. They are followed once for files that
    are coded alike.
    """
    marks = np.zeros(geometry.blocks[-1], dtype=np.uint8)
    for one in runs:
        marks |= _marks_of(one, coding, geometry)
    return marks


def _marks_of(runs: Runs, coding: Coding, geometry: Geometry) -> _Marks:
    with _lock:
        reference, marks_by_coding = _known.get(id(runs), (None, {}))
        if reference is None or reference() is not runs:
            marks_by_coding = {}
            key = id(runs)
            _known[key] = weakref.ref(runs, lambda _: _known.pop(key, None)), marks_by_coding
        marks = marks_by_coding.get(coding)
        if marks is None:
            marks = np.zeros(geometry.blocks[-1], dtype=np.uint8)
            tile = coding.tile_height, coding.tile_width, coding.tiles[1]
            _mark(runs.row, runs.col, runs.length, *tile, *_tables(geometry), marks)
            marks_by_coding[coding] = marks
        return marks


def _tables(geometry: Geometry) -> tuple[NDArray[np.int64], ...]:
    return geometry.rectangles, geometry.resolutions, geometry.bands, geometry.blocks


@kernel
def _mark(
    row, col, length, tile_height, tile_width, tile_cols, rectangles, resolutions, bands, first,
    marks,
):  # fmt: skip
    """Mark what runs need.

    Runs of rows that need the same rows of code-blocks are followed as one where they touch.
    """
    if len(row) == 0:
        return
    alike = _row_classes(tile_height, tile_cols, rectangles, resolutions, bands)
    y, left = np.int64(row[0]), np.int64(col[0])
    last = left + np.int64(length[0]) - 1
    for j in range(1, len(row) + 1):
        if j < len(row):
            a = np.int64(col[j])
            b = a + np.int64(length[j]) - 1
            if alike[row[j]] == alike[y] and a <= last + 1 and b >= left - 1:
                left, last = min(left, a), max(last, b)
                continue
        down = y // tile_height
        for across in range(left // tile_width, last // tile_width + 1):
            t = down * tile_cols + across
            x0, x1 = max(left, rectangles[t, 0]), min(last, rectangles[t, 2] - 1)
            _mark_tile(x0, x1, y, resolutions[t], bands[t], marks[first[t] :])
        if j < len(row):
            y, left, last = np.int64(row[j]), a, b


@kernel
def _row_classes(tile_height, tile_cols, rectangles, resolutions, bands):
    """Give the rows of the raster that need the same rows of code-blocks the same number."""
    height = rectangles[len(rectangles) - 1, 3]
    classes = np.empty(height, np.int64)
    levels = resolutions.shape[1] - 1
    key, previous = np.empty((2, 4 * levels + 2), np.int64)
    number = 0
    for row in range(height):
        t = row // tile_height * tile_cols
        y0 = y1 = row
        for r in range(levels, 0, -1):
            b = 3 * r - 2
            low_y0, low_y1 = y0 >> 1, (y1 + 1) >> 1
            key[4 * r], key[4 * r + 1] = _block_rows(low_y0, low_y1, bands[t, b])
            key[4 * r - 2], key[4 * r - 1] = _block_rows(low_y0 - 1, low_y1, bands[t, b + 1])
            coarser = resolutions[t, r - 1]
            y0, y1 = max(low_y0, coarser[1]), min(low_y1, coarser[3] - 1)
        key[0], key[1] = _block_rows(y0, y1, bands[t, 0])
        if row % tile_height == 0 or (key != previous).any():
            number += 1
        classes[row] = number
        previous[:] = key
    return classes


@kernel
def _block_rows(y0, y1, band):
    """Return first and last row of code-blocks of the coefficients' rows [y0, y1]."""
    y0, y1 = max(y0, band[1]), min(y1, band[3] - 1)
    if y1 < y0:
        return -1, -1
    return y0 >> band[5], y1 >> band[5]


@kernel
def _mark_tile(x0, x1, y, resolutions, bands, marks):
    """Follow pixels [x0, x1] of row y, inside the tile, to the coarsest level."""
    y0 = y1 = y
    for r in range(len(resolutions) - 1, 0, -1):
        low_x0, low_x1 = x0 >> 1, (x1 + 1) >> 1
        low_y0, low_y1 = y0 >> 1, (y1 + 1) >> 1
        b = 3 * r - 2
        _mark_band(low_x0 - 1, low_x1, low_y0, low_y1, bands[b], marks)
        _mark_band(low_x0, low_x1, low_y0 - 1, low_y1, bands[b + 1], marks)
        _mark_band(low_x0 - 1, low_x1, low_y0 - 1, low_y1, bands[b + 2], marks)
        coarser = resolutions[r - 1]
        x0, x1 = max(low_x0, coarser[0]), min(low_x1, coarser[2] - 1)
        y0, y1 = max(low_y0, coarser[1]), min(low_y1, coarser[3] - 1)
    _mark_band(x0, x1, y0, y1, bands[0], marks)


@inlined
def _mark_band(x0, x1, y0, y1, band, marks):
    """Mark the code-blocks of the coefficients [x0, x1] x [y0, y1], cut to the subband."""
    x0, x1 = max(x0, band[0]), min(x1, band[2] - 1)
    y0, y1 = max(y0, band[1]), min(y1, band[3] - 1)
    if x1 < x0 or y1 < y0:
        return
    for v in range((y0 >> band[5]) - band[7], (y1 >> band[5]) - band[7] + 1):
        start = band[9] + v * band[8] - band[6]
        for u in range(x0 >> band[4], (x1 >> band[4]) + 1):
            marks[start + u] = 1
