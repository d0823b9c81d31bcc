"""Cutting masked pixels out of runs, so that everything after is blind to the mask."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from cbm_core.errors import CbmError
from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.lattice import Lattice, Placement, nest
from cbm_extract.plan.runs import Runs

# What a pixel of the class raster is.
_MASKED, _UNSEEN = np.uint8(1), np.uint8(2)


@dataclass(frozen=True)
class Mask:
    """The masked pixels of a class raster.

    ``values`` is uint8 [height, width] of ``placement``. ``kinds`` uint8 [256] says of each value
    if it is masked (1), without data (2: class 0), both (3) or neither. Pixels outside the raster
    are of class 0: ``outside`` is its kind.
    """

    placement: Placement
    values: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    outside: int


@dataclass(frozen=True)
class Cut:
    """What a mask leaves of runs, and what the class raster alone says about them.

    ``runs`` are of the same geometries, some perhaps without a pixel. ``hidden`` and ``clear``
    int64 [n] count the pixels with data (class not 0) that are masked, and those that are not.
    """

    runs: Runs
    hidden: NDArray[np.int64]
    clear: NDArray[np.int64]


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
    kinds = np.zeros(256, dtype=np.uint8)
    kinds[sorted(masked_classes)] = _MASKED
    kinds[0] |= _UNSEEN
    outside = int(kinds[0])
    if dilation_m > 0 and len(masked_classes):
        classes = _dilate(classes, kinds, _half_widths(placement.lattice, dilation_m))
        kinds = np.arange(256, dtype=np.uint8)
    return Mask(placement, classes, kinds, outside)


def cut(runs: Runs, mask: Mask) -> Cut:
    """Take masked pixels out of runs.

    The pixels of one grid must consist of whole pixels of the other (SCL at 20 m, bands at 10, 20
    or 60 m). A pixel that covers several pixels of the mask is masked, or without data, where any
    of them is.

    Raises CbmError ``grids_not_nested``.
    """
    ours, theirs = runs.placement, mask.placement
    coarse_mask = ours.lattice.xres <= theirs.lattice.xres * (1 + 1e-9)
    nesting = nest(ours, theirs) if coarse_mask else nest(theirs, ours)
    indptr, row, col, length, hidden, clear = _cut(
        runs.indptr,
        runs.row,
        runs.col,
        runs.length,
        mask.values,
        mask.kinds,
        mask.outside,
        coarse_mask,
        nesting.factor,
        nesting.row_offset,
        nesting.col_offset,
    )
    left = replace(runs, indptr=indptr, row=row, col=col, length=length)
    return Cut(left, hidden, clear)


def without_clouded(cuts: Sequence[Cut], min_clear_share: float) -> list[Cut]:
    """Take the pixels of clouded geometries out of all the grids of a product.

    Clouded is a geometry of whose pixels with data less than ``min_clear_share`` are clear, on the
    finest of the grids. Its clear pixels with data then count as hidden.
    """
    if not cuts:
        return []
    finest = min(cuts, key=lambda one: one.runs.placement.lattice.xres)
    few = finest.clear < min_clear_share * (finest.clear + finest.hidden)
    clouded = finest.runs.geometry_ids[few]
    return [_without(one, np.isin(one.runs.geometry_ids, clouded)) for one in cuts]


def _without(one: Cut, clouded: NDArray[np.bool_]) -> Cut:
    runs = one.runs
    count = np.diff(runs.indptr)
    keep = np.repeat(~clouded, count)
    indptr = np.zeros_like(runs.indptr)
    np.cumsum(np.where(clouded, 0, count), out=indptr[1:])
    left = replace(
        runs, indptr=indptr, row=runs.row[keep], col=runs.col[keep], length=runs.length[keep]
    )
    hidden = one.hidden + np.where(clouded, one.clear, 0)
    return Cut(left, hidden, np.where(clouded, 0, one.clear))


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
def _dilate(classes, kinds, half_widths):
    """Return the kinds of the pixels, masked where a masked pixel lies within reach."""
    height, width = classes.shape
    reach = len(half_widths) // 2
    begins, spans = _masked_spans(classes, kinds)
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
            out[row, c] = (kinds[classes[row, c]] & _UNSEEN) | np.uint8(depth > 0)
    return out


@kernel
def _masked_spans(classes, kinds):
    """Find the masked columns [from, to) of each row, CSR."""
    height, width = classes.shape
    begins = np.zeros(height + 1, np.int64)
    for fill in range(2):
        spans = np.empty((begins[height] if fill else 0, 2), np.int64)
        k = 0
        for row in range(height):
            inside = False
            for c in range(width + 1):
                here = c < width and kinds[classes[row, c]] & _MASKED != 0
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
def _cut(indptr, row, col, length, values, kinds, outside, coarse, factor, down, right):
    n = len(indptr) - 1
    out = np.zeros(n + 1, np.int64)
    hidden, clear = np.zeros(n, np.int64), np.zeros(n, np.int64)
    runs = np.empty((len(row) + len(row) // 4 + 64, 3), np.int32)
    # Steps along a run: pixels of a coarse mask, or our own pixels over squares of a fine one.
    block, stride = (1, factor) if coarse else (factor, 1)
    used = 0
    for g in range(n):
        for j in range(indptr[g], indptr[g + 1]):
            if used + length[j] // 2 + 1 > len(runs):
                runs = _grown(runs, used, length[j])
            c, end = np.int64(col[j]), np.int64(col[j]) + np.int64(length[j])
            if coarse:
                top, left = (np.int64(row[j]) - down) // factor, (c - right) // factor
                edge = (left + 1) * factor + right
            else:
                top, left = np.int64(row[j]) * factor + down, c * factor + right
                edge = c + 1
            start = np.int64(-1)
            while c < end:
                kind = _kind(values, kinds, outside, top, left, block)
                following = min(edge, end)
                if kind == 0:
                    clear[g] += following - c
                elif kind == _MASKED:
                    hidden[g] += following - c
                if kind & _MASKED:
                    if start >= 0:
                        runs[used, 0], runs[used, 1], runs[used, 2] = row[j], start, c - start
                        used += 1
                        start = np.int64(-1)
                elif start < 0:
                    start = c
                c = following
                edge += stride
                left += block
            if start >= 0:
                runs[used, 0], runs[used, 1], runs[used, 2] = row[j], start, end - start
                used += 1
        out[g + 1] = used
    kept = runs[:used]
    return out, kept[:, 0].copy(), kept[:, 1].copy(), kept[:, 2].astype(np.uint16), hidden, clear


@kernel
def _grown(runs, used, more):
    larger = np.empty((2 * len(runs) + more, 3), np.int32)
    for k in range(used):
        larger[k, 0], larger[k, 1], larger[k, 2] = runs[k, 0], runs[k, 1], runs[k, 2]
    return larger


@inlined
def _kind(values, kinds, outside, top, left, block):
    """Return the kinds of a square of the mask together."""
    found = np.uint8(0)
    for r in range(top, top + block):
        for c in range(left, left + block):
            if r < 0 or c < 0 or r >= values.shape[0] or c >= values.shape[1]:
                found |= np.uint8(outside)
            else:
                found |= kinds[values[r, c]]
    return found
