"""Grids of rasters, and the lattices on which they lie.

A lattice is a CRS, a pixel size and an origin modulo the pixel size. All tiles and chips of a UTM
zone at 10 m lie on one lattice, so that parcels rasterised on it serve every one of them by an
integer offset.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

from pyproj import CRS
from pyproj.exceptions import CRSError

from cbm_core.errors import CbmError

# Origins are told apart to a millionth of a pixel: float noise of real files is a thousandth of it.
ORIGIN_DECIMALS = 6


@dataclass(frozen=True)
class Grid:
    """The pixel grid of one raster.

    ``crs`` is anything pyproj reads (``EPSG:32632``, WKT). ``transform`` is (a, b, c, d, e, f) in
    the order of ``affine.Affine`` and rasterio: x = a col + b row + c, y = d col + e row + f, for
    the corner of a pixel. ``width`` and ``height`` are in pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int


@dataclass(frozen=True)
class Lattice:
    """An unbounded pixel grid.

    ``crs`` is an authority code, or WKT where the CRS has none. Sizes and origins are in units of
    the CRS; 0 <= origin < size. The pixel (row, col) covers x from ``xorigin + col xres`` and
    y from ``yorigin - row yres`` downwards.
    """

    crs: str
    xres: float
    yres: float
    xorigin: float
    yorigin: float

    @property
    def key(self) -> str:
        """A stable name, for example ``EPSG:32632|10|10|0|0``; WKT is replaced by its hash."""
        name = self.crs
        if not _is_code(name):
            name = "wkt:" + hashlib.sha256(name.encode()).hexdigest()[:16]
        sizes = (f"{value:.15g}" for value in (self.xres, self.yres))
        origins = (f"{value:.9g}" for value in (self.xorigin, self.yorigin))
        return "|".join([name, *sizes, *origins])


@dataclass(frozen=True)
class Placement:
    """Where a raster lies on its lattice: the absolute index of its first pixel, and its size."""

    lattice: Lattice
    row0: int
    col0: int
    height: int
    width: int


@dataclass(frozen=True)
class Nesting:
    """How the pixels of a fine raster lie under those of a coarse one.

    Coarse raster pixel (r, c) consists of the fine raster's rows ``factor r + row_offset`` and
    columns ``factor c + col_offset`` and the ``factor - 1`` that follow, which may lie outside it.
    """

    factor: int
    row_offset: int
    col_offset: int


def place(grid: Grid) -> Placement:
    """Find the lattice of a raster and its place on it.

    Raises CbmError: ``grid_rotated``, ``grid_south_up`` or ``crs_unknown``.
    """
    a, b, x, d, e, y = grid.transform
    if b or d:
        raise CbmError(
            "grid_rotated",
            f"Expected a north-up raster, found a rotated or sheared grid {grid.transform}.",
            "Warp it to a north-up grid first (gdalwarp).",
        )
    if a <= 0 or e >= 0:
        raise CbmError(
            "grid_south_up",
            "Expected columns that run east and rows that run south, found pixel sizes "
            f"({a:g}, {e:g}).",
            "Warp it to a north-up grid first (gdalwarp).",
        )
    xres, yres = float(f"{a:.15g}"), float(f"{-e:.15g}")
    xorigin, yorigin = _modulus(x, xres), _modulus(y, yres)
    lattice = Lattice(canonical_crs(grid.crs), xres, yres, xorigin, yorigin)
    row0, col0 = round((yorigin - y) / yres), round((x - xorigin) / xres)
    return Placement(lattice, row0, col0, grid.height, grid.width)


def nest(fine: Placement, coarse: Placement) -> Nesting:
    """Say how ``fine`` lies under ``coarse``; the same pixel size gives factor 1.

    Raises CbmError ``grids_not_nested`` where a coarse pixel is no whole block of fine ones.
    """
    ours, theirs = fine.lattice, coarse.lattice
    factor = round(theirs.xres / ours.xres)
    cols = (theirs.xorigin - ours.xorigin) / ours.xres
    rows = (ours.yorigin - theirs.yorigin) / ours.yres
    fits = (
        ours.crs == theirs.crs
        and factor >= 1
        and math.isclose(theirs.xres, factor * ours.xres, rel_tol=1e-12)
        and math.isclose(theirs.yres, factor * ours.yres, rel_tol=1e-12)
        and abs(cols - round(cols)) < 10.0**-ORIGIN_DECIMALS * 2
        and abs(rows - round(rows)) < 10.0**-ORIGIN_DECIMALS * 2
    )
    if not fits:
        raise CbmError(
            "grids_not_nested",
            f"Expected pixels of {theirs.key} to consist of whole pixels of {ours.key}, "
            "found that they do not.",
            "Bands that are combined must come on grids of one CRS whose pixel edges coincide.",
        )
    return Nesting(
        factor,
        factor * coarse.row0 + round(rows) - fine.row0,
        factor * coarse.col0 + round(cols) - fine.col0,
    )


def _modulus(coordinate: float, size: float) -> float:
    fraction = round(coordinate / size % 1.0, ORIGIN_DECIMALS)
    return fraction % 1.0 * size


@lru_cache(maxsize=256)
def canonical_crs(crs: str) -> str:
    """Return ``AUTHORITY:CODE``, or WKT where the CRS has no code.

    Raises CbmError ``crs_unknown``.
    """
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise CbmError(
            "crs_unknown",
            f"Expected a coordinate reference system, found {crs[:80]!r} ({error}).",
            "Give a code such as EPSG:32632.",
        ) from None
    authority = parsed.to_authority()
    return ":".join(authority) if authority else str(parsed.to_wkt())


def _is_code(crs: str) -> bool:
    return "[" not in crs and len(crs) < 64
