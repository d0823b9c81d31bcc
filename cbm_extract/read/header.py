"""What a raster says of itself, without reading its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import shown
from cbm_extract.read import gdal
from cbm_extract.read.fingerprint import fingerprint
from cbm_extract.scene import Extent

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


@dataclass(frozen=True)
class RasterHeader:
    """Georeference and layout of a north-up raster.

    ``crs`` is an authority code (``EPSG:32632``). ``transform`` holds the affine coefficients
    (a, b, c, d, e, f): x = a*col + b*row + c, y = d*col + e*row + f at pixel corners, with
    b = d = 0, a > 0 and e < 0, in units of the CRS. The tuples have one entry per band;
    ``nodata`` is None where the file declares none. ``block_shapes`` are (rows, columns).
    """

    href: str
    driver: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    descriptions: tuple[str | None, ...]
    block_shapes: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Return the number of bands."""
        return len(self.dtypes)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Return width and height of a pixel, both positive, in units of the CRS."""
        return self.transform[0], -self.transform[4]

    @property
    def extent(self) -> Extent:
        """Return the rectangle the raster covers."""
        width, height = self.pixel_size
        left, top = self.transform[2], self.transform[5]
        bounds = (left, top - self.height * height, left + self.width * width, top)
        return Extent(self.crs, bounds)


def inspect(href: str) -> RasterHeader:
    """Read a raster's header.

    Raises:
        CbmError: as :func:`cbm_extract.read.gdal.open_raster` does, and ``raster_without_crs``,
            ``raster_crs_unknown``, ``raster_without_georeference``, ``raster_not_north_up``,
            ``raster_type_unsupported``, ``raster_damaged``.

    """
    with gdal.open_raster(href) as dataset:
        return header_of(href, dataset)


def header_of(href: str, dataset: DatasetReader) -> RasterHeader:
    """Return the header of an open dataset, checked; raises as :func:`inspect` does."""
    try:
        return _checked(href, dataset)
    finally:
        # GDAL reads on where the network left gaps: what it then says of the file means nothing.
        trouble = gdal.trouble(dataset)
        if trouble:
            raise trouble


def _checked(href: str, dataset: DatasetReader) -> RasterHeader:
    transform = dataset.transform
    if transform.is_identity:
        raise CbmError(
            "raster_without_georeference",
            f"{shown(href)} does not say where on Earth it lies.",
            "Write its georeference into the file; world files and other sidecars are not read.",
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise CbmError(
            "raster_not_north_up",
            f"{shown(href)} is rotated or mirrored; expected rows that run west to east and"
            f" from north to south, found the transform {tuple(transform)[:6]}.",
            "Warp it to a north-up grid first.",
        )
    unsupported = sorted({dtype for dtype in dataset.dtypes if "complex" in dtype})
    if unsupported:
        raise CbmError(
            "raster_type_unsupported",
            f"{shown(href)} holds {', '.join(unsupported)}; expected integers or floats.",
            "Derive an intensity or amplitude raster first.",
        )
    header = RasterHeader(
        href=href,
        driver=dataset.driver,
        crs=_crs(href, dataset),
        transform=tuple(float(value) for value in tuple(transform)[:6]),  # type: ignore[arg-type]
        width=dataset.width,
        height=dataset.height,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        descriptions=tuple(dataset.descriptions),
        block_shapes=tuple(dataset.block_shapes),
    )
    if dataset.driver == "ENVI":
        _check_size(header, dataset)
    return header


def _crs(href: str, dataset: DatasetReader) -> str:
    if not dataset.crs:
        raise CbmError(
            "raster_without_crs",
            f"{shown(href)} has no coordinate reference system.",
            "Write it into the file (gdal_edit.py -a_srs EPSG:...).",
        )
    authority = dataset.crs.to_authority()
    if authority is None:
        raise CbmError(
            "raster_crs_unknown",
            f"The coordinate reference system of {shown(href)} has no authority code:"
            f" {dataset.crs.to_wkt()[:120]}.",
            "Assign the EPSG code that is meant (gdal_edit.py -a_srs EPSG:...).",
        )
    return ":".join(authority)


def _check_size(header: RasterHeader, dataset: DatasetReader) -> None:
    """Refuse a raw file that is shorter than its header says: GDAL would read zeros."""
    import numpy as np

    pixels = header.width * header.height
    offset = int(dataset.tags(ns="ENVI").get("header_offset", 0))
    expected = offset + pixels * sum(np.dtype(dtype).itemsize for dtype in header.dtypes)
    size = fingerprint(header.href).size
    if size is not None and size < expected:
        raise CbmError(
            "raster_damaged",
            f"{shown(header.href)} is truncated: its header promises {expected} bytes, it has"
            f" {size}.",
            "Fetch or make the file again.",
        )
