"""What can only be said of all parcels together: ids, overlaps, and where they lie."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.parcels.ahead import in_order
from cbm_extract.parcels.crs import Bounds, EqualArea, SourceCrs
from cbm_extract.parcels.geometry import Objects
from cbm_extract.parcels.spool import Spool

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Duplicates = Literal["refuse", "suffix", "first"]

LISTED = 20
_BLOCK = 20_000
_PAIRS = 4_000
# A planar area may be a little smaller than the true one (scale factors below 1).
_PLANAR_MARGIN = 0.9


@dataclass(frozen=True)
class Ids:
    """``pids``: string [n], unique among ``kept`` rows; ``kept``: row numbers, int64, ascending.

    ``duplicated``: the ids that stood more than once in the source.
    """

    pids: pa.Array
    kept: Ints
    duplicated: list[str]
    surplus: int


def settle_ids(pids: pa.ChunkedArray, duplicates: Duplicates) -> Ids:
    """Make ids unique as asked: the first row of an id keeps it.

    ``suffix`` calls the further ones ``id_2``, ``id_3`` in file order; ``first`` drops them.

    Raises:
        CbmError: ``duplicate_ids`` with the list when refused, or when a suffixed id is taken.

    """
    whole = pids.combine_chunks() if pids.num_chunks != 1 else pids.chunk(0)
    encoded = whole.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    duplicated = encoded.dictionary.take(pa.array(np.flatnonzero(counts > 1))).to_pylist()
    order = np.argsort(codes, kind="stable")
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    surplus = np.flatnonzero(rank > 0)
    if len(surplus) and duplicates == "refuse":
        raise _duplicate(duplicated, "stand more than once")
    kept = np.arange(len(codes))
    if duplicates == "first":
        kept = np.flatnonzero(rank == 0)
    elif len(surplus):
        further = whole.take(pa.array(surplus)).to_pylist()
        new = [f"{pid}_{rank[row] + 1}" for pid, row in zip(further, surplus, strict=True)]
        whole = pc.replace_with_mask(whole, pa.array(rank > 0), pa.array(new, pa.string()))
        taken = [
            pair["values"] for pair in pc.value_counts(whole).to_pylist() if pair["counts"] > 1
        ]
        if taken:
            raise _duplicate(taken, "would stand more than once after adding suffixes")
    return Ids(whole, kept, duplicated, len(surplus))


def _duplicate(ids: list[str], what: str) -> CbmError:
    listing = ", ".join(ids[:10]) + (" ..." if len(ids) > 10 else "")
    return CbmError(
        "duplicate_ids",
        f"Expected unique ids; {len(ids)} {what}: {listing}.",
        "Map the id to a unique column, or combine columns (expression:{A}-{B}), or choose "
        "`duplicates`: suffix (id_2, id_3, ... in file order) or first (drop the others).",
        ids=ids[:1000],
    )


@dataclass
class Overlaps:
    """Pairs of parcels that share more than the threshold; ``largest`` is (m2, row, row)."""

    threshold_m2: float
    pairs: int = 0
    area_m2: float = 0.0
    largest: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, areas: Floats, first: Ints, second: Ints) -> None:
        """Count pairs and keep the largest."""
        self.pairs += len(areas)
        self.area_m2 += float(areas.sum())
        for found in zip(areas.tolist(), first.tolist(), second.tolist(), strict=True):
            if len(self.largest) < LISTED:
                heapq.heappush(self.largest, found)
            elif found > self.largest[0]:
                heapq.heapreplace(self.largest, found)


def overlaps(
    spool: Spool, kept: Ints, crs: SourceCrs, measure: EqualArea, threshold_m2: float
) -> Overlaps:
    """Find overlapping parcels; identical geometries are no overlap but a duplicate.

    Boxes that share enough are looked for in blocks along the Hilbert curve; the geometries of a
    bounded number of such pairs are in memory.
    """
    wanted = np.zeros(len(spool), dtype=bool)
    wanted[kept] = True
    order = spool.hilbert()
    order = order[wanted[order]]
    order = order[spool.first_of_each_geometry(order)]
    found = Overlaps(threshold_m2)
    smallest = _PLANAR_MARGIN * threshold_m2 / crs.metres_per_unit**2

    def measured(pairs: tuple[Ints, Ints, int]) -> tuple[Floats, Ints, Ints, int]:
        first, second, done = pairs
        shared, of = _shared(spool, first, second, smallest)
        areas = area_m2(shared, measure)
        over = areas > threshold_m2
        return areas[over], first[of[over]], second[of[over]], done

    with step("overlaps", len(order), "parcels") as progress:
        for areas, first, second, done in in_order(measured, _pairs(spool, order, smallest)):
            found.add(areas, first, second)
            progress.advance(done)
    return found


def _pairs(spool: Spool, order: Ints, smallest: float) -> Iterator[tuple[Ints, Ints, int]]:
    """Give pairs of rows whose boxes share more than ``smallest``, and parcels then done."""
    for block, others in _blocks(spool.bounds, order):
        a, b = _close(spool.bounds[block], spool.bounds[others], smallest)
        if block is others:
            a, b = a[a < b], b[a < b]
        for first in range(0, len(a), _PAIRS):
            part = slice(first, first + _PAIRS)
            yield block[a[part]], others[b[part]], 0
        if block is others:
            yield block[:0], block[:0], len(block)


def _close(left: Floats, right: Floats, smallest: float) -> tuple[Ints, Ints]:
    """Return which boxes [n, 4] of one side share more than ``smallest`` with which of another."""
    tree = shapely.STRtree(shapely.box(*right.T))
    a, b = tree.query(shapely.box(*left.T))
    sides = np.minimum(left[a, 2:], right[b, 2:]) - np.maximum(left[a, :2], right[b, :2])
    large = np.prod(np.maximum(sides, 0.0), axis=1) > smallest
    return a[large], b[large]


def _blocks(bounds: Floats, order: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Give each block with itself, then with slices of the later rows whose boxes meet its box."""
    for start in range(0, len(order), _BLOCK):
        block, later = order[start : start + _BLOCK], order[start + _BLOCK :]
        yield block, block
        low, high = bounds[block, :2].min(axis=0), bounds[block, 2:].max(axis=0)
        meets = (bounds[later, :2] <= high).all(axis=1) & (bounds[later, 2:] >= low).all(axis=1)
        near = later[meets]
        for first in range(0, len(near), _BLOCK):
            yield block, near[first : first + _BLOCK]


def _shared(spool: Spool, first: Ints, second: Ints, smallest: float) -> tuple[Objects, Ints]:
    """Return what pairs share where that exceeds ``smallest`` in the plane, and of which pairs."""
    rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    geometries = spool.geometries(rows)
    left, right = geometries[places[: len(first)]], geometries[places[len(first) :]]
    meet = np.flatnonzero(shapely.intersects(left, right))
    shared = shapely.intersection(left[meet], right[meet])
    large = shapely.area(shared) > smallest
    return shared[large], meet[large]


def area_m2(polygons: Objects, measure: EqualArea) -> Floats:
    """Return areas in square metres in the projection of EPSG:3035: float64 [n]."""
    moved = shapely.transform(polygons, measure.metres)
    areas: Floats = shapely.area(moved)
    return areas


def outside(points: Floats, bounds: Bounds) -> NDArray[np.bool_]:
    """Say which longitude/latitude points [n, 2] lie outside of west, south, east, north.

    West greater than east crosses the antimeridian.
    """
    west, south, east, north = bounds
    width = (east - west) % 360.0 if east != west + 360.0 else 360.0
    away = (points[:, 0] - west) % 360.0 > width
    return away | (points[:, 1] < south) | (points[:, 1] > north)
