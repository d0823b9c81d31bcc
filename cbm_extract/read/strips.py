"""One band of a scene as strips of rows: each block of the file is decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cbm_core.errors import CbmError
from cbm_extract.read import gdal
from cbm_extract.read.header import RasterHeader, header_of
from cbm_extract.scene import BandAsset

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

MIN_STRIP_ROWS = 512


@dataclass(frozen=True)
class Band:
    """An open band; use it in the thread that opened it.

    ``nodata`` holds the raw values that are no observation, the asset's and the file's own, as
    floats that compare equal to pixels of ``dtype``; values the dtype cannot hold are left out.
    NaN is never in it: NaN is invalid in any float band.
    """

    asset: BandAsset
    header: RasterHeader
    nodata: tuple[float, ...]
    dtype: np.dtype[np.generic]
    _dataset: DatasetReader

    def strip_rows(self, row_start: int = 0, row_stop: int | None = None) -> list[tuple[int, int]]:
        """Return the strips [first row, one past the last) that :meth:`strips` reads.

        They are cut at multiples of :func:`strip_height`, clipped to the rows asked for.
        """
        stop = self.header.height if row_stop is None else min(row_stop, self.header.height)
        start = max(row_start, 0)
        height = strip_height(self.header.block_shapes[self.asset.index - 1][0])
        edges = [*range(start - start % height + height, stop, height), stop]
        return [(top, end) for top, end in zip([start, *edges], edges, strict=False) if top < end]

    def strips(
        self, row_start: int = 0, row_stop: int | None = None
    ) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """Iterate over (first row, raw values [rows, width] of ``dtype``) from north to south.

        The array is a view of a buffer that the next step overwrites: use it, or copy it, before
        going on.

        Raises:
            CbmError: ``raster_damaged`` or ``raster_unreachable``, naming file and rows.

        """
        parts = self.strip_rows(row_start, row_stop)
        tallest = max((stop - start for start, stop in parts), default=0)
        buffer = np.empty((tallest, self.header.width), self.dtype)
        for start, stop in parts:
            values = buffer[: stop - start]
            self._read(start, stop, values)
            yield start, values

    def _read(self, start: int, stop: int, values: NDArray[np.generic]) -> None:
        window = Window(0, start, self.header.width, stop - start)
        try:
            self._dataset.read(self.asset.index, window=window, out=values)
        except RasterioError as error:
            text = gdal.reason(error)
            where = f"rows {start}-{stop - 1} of {self.header.height}"
            if gdal.is_network(text):
                raise gdal.unreachable(self.asset.href, f"{where}: {text}") from error
            raise CbmError(
                "raster_damaged",
                f"{self.asset.href} is damaged or truncated in {where}: {text}.",
                "Fetch or make the file again, then retry the scene.",
                href=self.asset.href,
                row_start=start,
                row_stop=stop,
            ) from error


def strip_height(block_rows: int) -> int:
    """Return how many rows a strip has: whole blocks, at least 512 rows.

    A JPEG 2000 tile is decoded whole for every window that touches it, so strips that cut tiles
    cost double; 1024-row tiles give 1024-row strips.
    """
    return block_rows * math.ceil(MIN_STRIP_ROWS / block_rows)


@contextmanager
def open_band(asset: BandAsset) -> Iterator[Band]:
    """Open the band that an asset names, for the length of the block.

    Raises:
        CbmError: as :func:`cbm_extract.read.header.inspect`, and ``band_missing`` where the file
            has fewer bands.

    """
    with gdal.open_raster(asset.href) as dataset:
        header = header_of(asset.href, dataset)
        check_index(header, asset.index)
        dtype = np.dtype(header.dtypes[asset.index - 1])
        declared = header.nodata[asset.index - 1]
        wanted = asset.nodata if declared is None else (*asset.nodata, declared)
        yield Band(asset, header, representable(wanted, dtype), dtype, dataset)


def check_index(header: RasterHeader, index: int) -> None:
    """Refuse a band number that the file does not have."""
    if not 1 <= index <= header.count:
        raise CbmError(
            "band_missing",
            f"{header.href} has {header.count} band(s); band {index} was asked for.",
            "Correct the band's index in the scenes' description.",
        )


def representable(values: tuple[float, ...], dtype: np.dtype[np.generic]) -> tuple[float, ...]:
    """Return the values a pixel of ``dtype`` can have, rounded as the dtype does, each once."""
    kept: dict[float, None] = {}
    for value in values:
        if math.isnan(value):
            continue
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                kept[float(np.array(value).astype(dtype))] = None
        elif math.isfinite(value) and value == int(value):
            limits = np.iinfo(dtype.name)
            if limits.min <= value <= limits.max:
                kept[float(value)] = None
    return tuple(kept)
