"""Runs of a coarse grid as runs of the finer pixels they consist of."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.lattice import Nesting, Placement
from cbm_extract.plan.runs import Runs

_LONGEST = 65_535


def expand(runs: Runs, fine: Placement, nesting: Nesting) -> Runs:
    """Return the pixels of the raster ``fine`` under the pixels of ``runs``.

    ``nesting`` says how ``fine`` lies under the raster of the runs; what lies outside it is left
    out.
    """
    indptr, row, col, length = _expand(
        runs.indptr,
        runs.row,
        runs.col,
        runs.length,
        nesting.factor,
        nesting.row_offset,
        nesting.col_offset,
        fine.height,
        fine.width,
    )
    return replace(runs, placement=fine, indptr=indptr, row=row, col=col, length=length)


@kernel
def _expand(indptr, row, col, length, factor, down, right, height, width):
    n = len(indptr) - 1
    out = np.zeros(n + 1, np.int64)
    room = factor * (len(row) + width // _LONGEST * len(row))
    rows, cols = np.empty(room, np.int32), np.empty(room, np.int32)
    lengths = np.empty(room, np.uint16)
    used = 0
    for g in range(n):
        j = indptr[g]
        while j < indptr[g + 1]:
            following = j + 1
            while following < indptr[g + 1] and row[following] == row[j]:
                following += 1
            top = np.int64(row[j]) * factor + down
            for r in range(max(top, 0), min(top + factor, height)):
                for k in range(j, following):
                    c = max(np.int64(col[k]) * factor + right, 0)
                    end = (np.int64(col[k]) + np.int64(length[k])) * factor + right
                    end = min(end, width)
                    while c < end:
                        rows[used], cols[used] = r, c
                        lengths[used] = min(end - c, _LONGEST)
                        c += np.int64(lengths[used])
                        used += 1
            j = following
        out[g + 1] = used
    return out, rows[:used].copy(), cols[:used].copy(), lengths[:used].copy()
