"""The pixels of geometries in one raster: what the reduction works with."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.lattice import Placement

IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """In which order the geometries of Runs are complete when rows come from top to bottom.

    ``order`` int32 [n]: geometry positions by their last row (ties by position); ``last_row`` int32
    [n] and ``pixels_before`` int64 [n + 1] (pixels of all earlier ones) follow that order.
    ``opening`` int32 [m] lists the geometries of more than one row by their first row,
    ``first_row`` int32 [m] follows it. Geometries without a run have last row -1 and come first.
    """

    order: NDArray[np.int32]
    last_row: NDArray[np.int32]
    pixels_before: IndexArray
    opening: NDArray[np.int32]
    first_row: NDArray[np.int32]


@dataclass(frozen=True)
class Runs:
    """Runs of pixels in raster coordinates, CSR by geometry, in order of row, then column.

    - placement: where the raster lies on its lattice
    - geometry_ids int32 [n]; contained bool [n]: all planned pixels lie inside the raster
    - indptr int64 [n + 1]; row, col int32 [runs]; length uint16 [runs]

    Not changed after it is made: reducers of many bands share it.
    """

    placement: Placement
    geometry_ids: NDArray[np.int32]
    contained: NDArray[np.bool_]
    indptr: IndexArray
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    length: NDArray[np.uint16]

    @cached_property
    def pixels(self) -> IndexArray:
        """Pixels of each geometry, int64 [n]."""
        counts = np.zeros(len(self.indptr) - 1, dtype=np.int64)
        _sum_lengths(self.indptr, self.length, counts)
        return counts

    @cached_property
    def schedule(self) -> Schedule:
        """The order of completion; computed once for all bands."""
        n = len(self.geometry_ids)
        has = self.indptr[1:] > self.indptr[:-1]
        first = np.full(n, -1, dtype=np.int32)
        last = np.full(n, -1, dtype=np.int32)
        first[has] = self.row[self.indptr[:-1][has]]
        last[has] = self.row[self.indptr[1:][has] - 1]
        order = np.argsort(last, kind="stable").astype(np.int32)
        before = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(self.pixels[order], out=before[1:])
        opening = np.flatnonzero(last > first).astype(np.int32)
        opening = opening[np.argsort(first[opening], kind="stable")]
        return Schedule(order, last[order], before, opening, first[opening])

    @cached_property
    def _rows_before(self) -> IndexArray:
        before = np.zeros(self.placement.height + 1, dtype=np.int64)
        _mark_rows(self.row, before[1:])
        return np.cumsum(before, out=before)

    def wanted(self, row0: int, row1: int) -> bool:
        """Say whether any pixel lies in the raster rows [row0, row1)."""
        low, high = max(row0, 0), min(row1, self.placement.height)
        return bool(high > low and self._rows_before[high] > self._rows_before[low])


@kernel
def _mark_rows(row, marks):
    for r in row:
        marks[r] = 1


@kernel
def _sum_lengths(indptr, length, counts):
    # numpy's reduceat makes all lengths int64 first: the memory of the runs once more.
    for g in range(len(counts)):
        for j in range(indptr[g], indptr[g + 1]):
            counts[g] += length[j]
