"""Cutting masked pixels out of runs, so that everything after is blind to the mask."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from cbm_core.errors import CbmError
from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.lattice import Lattice, Placement, nest
from cbm_extract.plan.runs import Runs


@dataclass(frozen=True)
class Mask:
    """The masked pixels of a class raster.

    ``values`` is uint8 [height, width] of ``placement``; a pixel is masked where
    ``masked[value]`` (bool [256]). Pixels outside the raster count as class 0: ``outside``.
    """

    placement: Placement
    values: NDArray[np.uint8]
    masked: NDArray[np.bool_]
    outside: bool


def class_mask(
    placement: Placement,
    classes: NDArray[np.uint8],
    masked_classes: Collection[int],
    dilation_m: float = 0.0,
) -> Mask:
    """Mask classes of a class raster (uint8 [height, width], from ``classes.as_classes``).

    With ``dilation_m`` a pixel is masked as well where the centre of a masked pixel lies within
    that distance of its centre: a disk. Pixels outside the raster spread nothing.

    Raises CbmError ``dilation_in_degrees`` for rasters in degrees.
    """
    if classes.shape != (placement.height, placement.width):
        raise ValueError(f"classes {classes.shape} for a raster placed at {placement}")
    masked = np.zeros(256, dtype=bool)
    masked[sorted(masked_classes)] = True
    outside = bool(masked[0])
    if dilation_m > 0 and masked.any():
        classes = _dilate(classes, masked, _half_widths(placement.lattice, dilation_m))
        masked = np.arange(256) == 1
    return Mask(placement, classes, masked, outside)


def cut(runs: Runs, mask: Mask) -> Runs:
    """Return the runs without masked pixels; the same geometries, also those left without a pixel.

    The pixels of one grid must consist of whole pixels of the other (SCL at 20 m, bands at 10, 20
    or 60 m). A pixel that covers several pixels of the mask is masked where any of them is.

    Raises CbmError ``grids_not_nested``.
    """
    ours, theirs = runs.placement, mask.placement
    coarse_mask = ours.lattice.xres <= theirs.lattice.xres * (1 + 1e-9)
    nesting = nest(ours, theirs) if coarse_mask else nest(theirs, ours)
    indptr, row, col, length = _cut(
        runs.indptr,
        runs.row,
        runs.col,
        runs.length,
        mask.values,
        mask.masked,
        mask.outside,
        coarse_mask,
        nesting.factor,
        nesting.row_offset,
        nesting.col_offset,
    )
    return replace(runs, indptr=indptr, row=row, col=col, length=length)


def _half_widths(lattice: Lattice, dilation_m: float) -> NDArray[np.int64]:
    """How far a masked pixel spreads along rows, for each row up and down: int64 [2 reach + 1]."""
    crs = CRS.from_user_input(lattice.crs)
    if crs.is_geographic:
        raise CbmError(
            "dilation_in_degrees",
            f"Expected a projected raster for a mask dilated by {dilation_m:g} m, found "
            f"{lattice.key}, which is in degrees.",
            "Use a product without dilation for this raster, or warp the raster.",
        )
    reach = dilation_m / (crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0)
    rows = int(np.floor(reach / lattice.yres + 1e-9))
    down = np.arange(-rows, rows + 1) * lattice.yres
    along = np.sqrt(np.maximum(reach * reach - down * down, 0.0))
    return np.floor(along / lattice.xres + 1e-9).astype(np.int64)


@kernel
def _dilate(classes, masked, half_widths):
    """Return 1 where a masked pixel lies within reach, else 0."""
    height, width = classes.shape
    reach = len(half_widths) // 2
    begins, spans = _masked_spans(classes, masked)
    out = np.zeros((height, width), np.uint8)
    edges = np.zeros(width + 1, np.int32)
    for row in range(height):
        edges[:] = 0
        for source in range(max(row - reach, 0), min(row + reach + 1, height)):
            half = half_widths[source - row + reach]
            for k in range(begins[source], begins[source + 1]):
                edges[max(spans[k, 0] - half, 0)] += 1
                edges[min(spans[k, 1] + half, width)] -= 1
        depth = np.int32(0)
        for c in range(width):
            depth += edges[c]
            out[row, c] = depth > 0
    return out


@kernel
def _masked_spans(classes, masked):
    """Find the masked columns [from, to) of each row, CSR."""
    height, width = classes.shape
    begins = np.zeros(height + 1, np.int64)
    for fill in range(2):
        spans = np.empty((begins[height] if fill else 0, 2), np.int64)
        k = 0
        for row in range(height):
            inside = False
            for c in range(width + 1):
                here = c < width and masked[classes[row, c]]
                if here and not inside:
                    if fill:
                        spans[k, 0] = c
                elif inside and not here:
                    if fill:
                        spans[k, 1] = c
                    k += 1
                inside = here
            begins[row + 1] = k
    return begins, spans


@kernel
def _cut(
    indptr,
    row,
    col,
    length,
    values,
    masked,
    outside,
    coarse,
    factor,
    down,
    right,
):
    n = len(indptr) - 1
    out = np.zeros(n + 1, np.int64)
    runs = np.empty((len(row) + len(row) // 4 + 64, 3), np.int32)
    # Steps along a run: pixels of a coarse mask, or our own pixels over squares of a fine one.
    block, stride = (1, factor) if coarse else (factor, 1)
    used = 0
    for g in range(n):
        for j in range(indptr[g], indptr[g + 1]):
            if used + length[j] // 2 + 1 > len(runs):
                larger = np.empty((2 * len(runs) + length[j], 3), np.int32)
                for k in range(used):
                    larger[k, 0], larger[k, 1], larger[k, 2] = runs[k, 0], runs[k, 1], runs[k, 2]
                runs = larger
            c, end = np.int64(col[j]), np.int64(col[j]) + np.int64(length[j])
            if coarse:
                top, left = (np.int64(row[j]) - down) // factor, (c - right) // factor
                edge = (left + 1) * factor + right
            else:
                top, left = np.int64(row[j]) * factor + down, c * factor + right
                edge = c + 1
            start = np.int64(-1)
            while c < end:
                if _hidden(values, masked, outside, top, left, block):
                    if start >= 0:
                        runs[used, 0], runs[used, 1], runs[used, 2] = row[j], start, c - start
                        used += 1
                        start = np.int64(-1)
                elif start < 0:
                    start = c
                c = min(edge, end)
                edge += stride
                left += block
            if start >= 0:
                runs[used, 0], runs[used, 1], runs[used, 2] = row[j], start, end - start
                used += 1
        out[g + 1] = used
    kept = runs[:used]
    return out, kept[:, 0].copy(), kept[:, 1].copy(), kept[:, 2].astype(np.uint16)


@inlined
def _hidden(values, masked, outside, top, left, block):
    """Say whether any pixel of a square of the mask is masked."""
    for r in range(top, top + block):
        for c in range(left, left + block):
            if r < 0 or c < 0 or r >= values.shape[0] or c >= values.shape[1]:
                if outside:
                    return True
            elif masked[values[r, c]]:
                return True
    return False
