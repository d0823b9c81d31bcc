"""From parcels' geometries to chunks of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from cbm_core.errors import CbmError
from cbm_extract.plan.chunk import MAX_EXTENT, PlanChunk
from cbm_extract.plan.lattice import Lattice, canonical_crs
from cbm_extract.plan.measures import mean_width, metres_per_unit, whole_pixels
from cbm_extract.plan.pipeline import Pipeline, transform
from cbm_extract.plan.rasterise import LatticeRuns, rasterise
from cbm_extract.plan.rings import PixelRings, Rings

CHUNK_SIZE = 10_000
MAX_INDEX = 2**30

Int32Array = NDArray[np.int32]


@dataclass(frozen=True)
class _Planned:
    """What a batch of geometries comes to on the lattice, before it is cut into chunks."""

    ids: Int32Array
    runs: LatticeRuns
    pixels: NDArray[np.int64]
    whole: NDArray[np.int64]
    pixel_area: NDArray[np.float64]
    width: NDArray[np.float64]
    emptied: NDArray[np.bool_]


def build_chunks(
    geometry_ids: Int32Array,
    wkb: Sequence[bytes] | NDArray[Any],
    source_crs: str,
    lattice: Lattice,
    buffer_m: float,
    pipeline: Pipeline,
    chunk_size: int = CHUNK_SIZE,
) -> list[PlanChunk]:
    """Rasterise polygons on a lattice.

    ``wkb`` holds (Multi)Polygons in ``source_crs``; ``pipeline`` leads from it to the lattice's
    CRS; ``buffer_m`` >= 0 is taken off inwards in that CRS (round at reflex corners, 8 segments per
    quarter circle). Geometries keep their order; a chunk holds at most ``chunk_size`` of them and
    spans at most 65,535 rows and columns. Every geometry is in exactly one chunk, also one
    without a pixel.

    Raises CbmError: ``buffer_in_degrees``, ``pipeline_mismatch``, ``geometry_not_polygon``,
    ``geometry_unreadable``, ``reprojection_failed``, ``geometry_too_wide``; the last four name ids.
    """
    _check(source_crs, lattice, buffer_m, pipeline)
    ids = np.asarray(geometry_ids, dtype=np.int32)
    chunks: list[PlanChunk] = []
    for begin in range(0, len(ids), chunk_size):
        part = slice(begin, begin + chunk_size)
        planned = _plan(ids[part], wkb[part], lattice, buffer_m, pipeline)
        chunks += _cut(planned, lattice, buffer_m)
    return chunks


def _check(source_crs: str, lattice: Lattice, buffer_m: float, pipeline: Pipeline) -> None:
    if buffer_m < 0:
        raise CbmError(
            "buffer_negative",
            f"Expected an inward buffer of 0 m or more, found {buffer_m:g} m.",
            "Give the distance inwards as a positive number.",
        )
    if buffer_m > 0 and CRS.from_user_input(lattice.crs).is_geographic:
        raise CbmError(
            "buffer_in_degrees",
            f"Expected a projected raster for an inward buffer of {buffer_m:g} m, found "
            f"{lattice.key}, which is in degrees.",
            "Use a product without a buffer for this raster, or warp the raster.",
        )
    pair = canonical_crs(source_crs), lattice.crs
    if pair != (pipeline.source_crs, pipeline.target_crs):
        raise CbmError(
            "pipeline_mismatch",
            f"Expected an operation from {pair[0][:60]} to {pair[1][:60]}, found one from "
            f"{pipeline.source_crs[:60]} to {pipeline.target_crs[:60]}.",
        )


def _plan(
    ids: Int32Array,
    wkb: Sequence[bytes] | NDArray[Any],
    lattice: Lattice,
    buffer_m: float,
    pipeline: Pipeline,
) -> _Planned:
    rings = _project(_read(ids, wkb), ids, pipeline)
    scale = metres_per_unit(rings, lattice)
    pixels = rings.in_pixels(lattice)
    _check_extent(pixels, ids)
    runs = rasterise(pixels)
    counts, whole = runs.pixels(), whole_pixels(pixels, runs)
    width = mean_width(rings, scale)
    emptied = np.zeros(len(ids), dtype=bool)
    if buffer_m > 0:
        shrunk = shapely.buffer(rings.to_shapely(), -buffer_m / scale[0, 0], quad_segs=8)
        emptied = shapely.is_empty(shrunk)
        runs = rasterise(Rings.from_shapely(shrunk, ids).in_pixels(lattice))
    pixel_area = lattice.xres * lattice.yres * scale[:, 0] * scale[:, 1]
    return _Planned(ids, runs, counts, whole, pixel_area, width, emptied)


def _read(ids: Int32Array, wkb: Sequence[bytes] | NDArray[Any]) -> Rings:
    try:
        geometries = shapely.from_wkb(np.asarray(wkb, dtype=object))
    except (shapely.errors.GEOSException, TypeError) as error:
        raise CbmError(
            "geometry_unreadable",
            f"Expected geometries as WKB (ids {ids[0]} to {ids[-1]}), found something else: "
            f"{error}.",
            "Import the parcels again.",
        ) from None
    return Rings.from_shapely(geometries, ids)


def _project(rings: Rings, ids: Int32Array, pipeline: Pipeline) -> Rings:
    projected = rings.with_coordinates(transform(pipeline, rings.coordinates))
    lost = ~np.isfinite(projected.coordinates).all(axis=1)
    if lost.any():
        owner = np.repeat(ids, np.diff(rings.vertices()))
        bad = np.unique(owner[lost])
        raise CbmError(
            "reprojection_failed",
            f"Expected to bring {len(ids)} geometries from {pipeline.source_crs[:60]} to "
            f"{pipeline.target_crs[:60]}, found {len(bad)} with points outside its reach "
            f"(first ids: {', '.join(map(str, bad[:10]))}).",
            "Check the CRS of the parcels and these geometries' coordinates.",
            geometry_ids=bad.tolist(),
        )
    return projected


def _check_extent(pixels: PixelRings, ids: Int32Array) -> None:
    """Refuse geometries whose pixels a chunk cannot hold, before they fill the memory."""
    first = pixels.rings.vertices()
    has = first[1:] > first[:-1]
    wide = np.zeros(len(ids), dtype=bool)
    if has.any():
        low = np.minimum.reduceat(pixels.rings.coordinates, first[:-1][has], axis=0)
        high = np.maximum.reduceat(pixels.rings.coordinates, first[:-1][has], axis=0)
        far = np.abs(pixels.origin[has]) >= MAX_INDEX
        wide[has] = (high - low > MAX_EXTENT - 1).any(axis=1) | far.any(axis=1)
    if wide.any():
        bad = ids[wide]
        raise CbmError(
            "geometry_too_wide",
            f"Expected geometries of less than {MAX_EXTENT} rows and columns of pixels, found "
            f"{len(bad)} wider or farther off (first ids: {', '.join(map(str, bad[:10]))}).",
            "Check the CRS of the parcels and these geometries' coordinates; split their parts.",
            geometry_ids=bad.tolist(),
        )


def _cut(planned: _Planned, lattice: Lattice, buffer_m: float) -> Iterator[PlanChunk]:
    """Cut a batch where its extent would exceed 65,535 rows or columns."""
    extents = _extents(planned)
    begin = 0
    for end in _ends(extents):
        yield _chunk(planned, extents[begin:end], begin, end, lattice, buffer_m)
        begin = end


def _extents(planned: _Planned) -> NDArray[np.int64]:
    """First row, first column, last row and last column of each geometry, [n, 4].

    One without a pixel takes those of the geometry before it, so that it never cuts a chunk.
    """
    runs = planned.runs
    n = len(planned.ids)
    extents = np.zeros((n, 4), dtype=np.int64)
    has = runs.indptr[1:] > runs.indptr[:-1]
    if not has.any():
        extents[:, 2:] = -1
        return extents
    starts = runs.indptr[:-1][has]
    last_col = runs.col + runs.length - 1
    extents[has, 0] = runs.row[starts]
    extents[has, 1] = np.minimum.reduceat(runs.col, starts)
    extents[has, 2] = runs.row[runs.indptr[1:][has] - 1]
    extents[has, 3] = np.maximum.reduceat(last_col, starts)
    filled = np.where(has, np.arange(n), -1)
    np.maximum.accumulate(filled, out=filled)
    filled[filled < 0] = np.argmax(has)
    return extents[filled]


def _ends(extents: NDArray[np.int64]) -> Iterator[int]:
    begin, n = 0, len(extents)
    while begin < n:
        lows = np.minimum.accumulate(extents[begin:, :2], axis=0)
        highs = np.maximum.accumulate(extents[begin:, 2:], axis=0)
        too_wide = (highs - lows >= MAX_EXTENT).any(axis=1)
        begin = begin + int(np.argmax(too_wide)) if too_wide.any() else n
        yield begin


def _chunk(
    planned: _Planned,
    extents: NDArray[np.int64],
    begin: int,
    end: int,
    lattice: Lattice,
    buffer_m: float,
) -> PlanChunk:
    runs, part = planned.runs, slice(begin, end)
    indptr = runs.indptr[begin : end + 1]
    mine = slice(indptr[0], indptr[-1])
    row0, col0 = (int(low) for low in extents[:, :2].min(axis=0))
    row1, col1 = (int(high) for high in extents[:, 2:].max(axis=0))
    return PlanChunk(
        lattice,
        float(buffer_m),
        row0,
        col0,
        row1 - row0 + 1,
        col1 - col0 + 1,
        planned.ids[part],
        (indptr - indptr[0]).astype(np.int32),
        (runs.row[mine] - row0).astype(np.uint16),
        (runs.col[mine] - col0).astype(np.uint16),
        runs.length[mine].astype(np.uint16),
        planned.pixels[part].astype(np.int32),
        planned.whole[part].astype(np.int32),
        runs.pixels()[part].astype(np.int32),
        planned.pixel_area[part].astype(np.float32),
        planned.width[part].astype(np.float32),
        planned.emptied[part],
    )
