"""From chunks of a plan to the runs inside one raster."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.chunk import PlanChunk
from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.lattice import Placement
from cbm_extract.plan.runs import Runs


class _Part(NamedTuple):
    ids: NDArray[np.int32]
    contained: NDArray[np.bool_]
    runs_of: NDArray[np.int64]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    length: NDArray[np.uint16]


_KINDS = (np.int32, np.bool_, np.int64, np.int32, np.int32, np.uint16)


def clip(
    chunks: Iterable[PlanChunk], placement: Placement, without: NDArray[np.int32] | None = None
) -> Runs:
    """Cut plans to a raster; keep the geometries with at least one pixel in it.

    Geometries keep the order of the chunks. Those of ``without`` (ids, int32) are left out: retired
    ones, or those that another tile serves. Chunks may come from several plans of the lattice and
    may be an iterator: one at a time is held.
    """
    columns: list[NDArray[Any]] = [np.empty(0, kind) for kind in _KINDS]
    # `map` lets go of a chunk before it asks for the next, and its part is not kept beside the
    # whole: a plan is a good part of a worker's memory.
    for part in map(partial(_clip, placement=placement, without=without), chunks):
        if part is None:
            continue
        pieces: tuple[NDArray[Any], ...] = part
        for column, piece in zip(columns, pieces, strict=True):
            _append(column, piece)
    ids, contained, runs_of, row, col, length = columns
    indptr = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum(runs_of, out=indptr[1:])
    return Runs(placement, ids, contained, indptr, row, col, length)


def _append(column: NDArray[Any], piece: NDArray[Any]) -> None:
    """Lengthen an array in its place: large ones are moved by the kernel, not copied."""
    column.resize(len(column) + len(piece), refcheck=False)
    column[len(column) - len(piece) :] = piece


def _overlaps(chunk: PlanChunk, placement: Placement) -> bool:
    if chunk.lattice.key != placement.lattice.key:
        raise ValueError(f"plan on {chunk.lattice.key}, raster on {placement.lattice.key}")
    row0, col0, row1, col1 = chunk.bounds
    return (
        row0 < placement.row0 + placement.height
        and row1 >= placement.row0
        and col0 < placement.col0 + placement.width
        and col1 >= placement.col0
    )


def _clip(
    chunk: PlanChunk, placement: Placement, without: NDArray[np.int32] | None
) -> _Part | None:
    if not _overlaps(chunk, placement):
        return None
    keep = np.ones(len(chunk.geometry_ids), dtype=bool)
    if without is not None and len(without):
        keep = np.isin(chunk.geometry_ids, without, invert=True)
    runs_of, contained, row, col, length = _clip_runs(
        chunk.indptr,
        chunk.run_row,
        chunk.run_col,
        chunk.run_len,
        keep,
        chunk.row0 - placement.row0,
        chunk.col0 - placement.col0,
        placement.height,
        placement.width,
    )
    inside = runs_of > 0
    if not inside.any():
        return None
    return _Part(chunk.geometry_ids[inside], contained[inside], runs_of[inside], row, col, length)


@kernel
def _clip_runs(indptr, run_row, run_col, run_len, keep, down, right, height, width):
    n = len(indptr) - 1
    runs_of = np.zeros(n, np.int64)
    contained = np.ones(n, np.bool_)
    row = np.empty(len(run_row), np.int32)
    col = np.empty(len(run_row), np.int32)
    length = np.empty(len(run_row), np.uint16)
    used = 0
    for g in range(n):
        if not keep[g]:
            continue
        first = used
        for j in range(indptr[g], indptr[g + 1]):
            r = np.int64(run_row[j]) + down
            a = np.int64(run_col[j]) + right
            b = min(a + np.int64(run_len[j]), width)
            start = max(a, 0)
            if r < 0 or r >= height or b <= start:
                contained[g] = False
                continue
            if b - start < run_len[j]:
                contained[g] = False
            row[used], col[used], length[used] = r, start, b - start
            used += 1
        runs_of[g] = used - first
    # What was not written to takes no memory.
    return runs_of, contained, row[:used], col[:used], length[:used]
