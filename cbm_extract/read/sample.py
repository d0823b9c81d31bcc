"""Some pixels of a raster, to see whether it holds what it is said to."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cbm_extract.read import gdal

_SIZE = 256  # rows and columns looked at


def middle(href: str, index: int) -> NDArray[Any]:
    """Return the raw values around the middle of a band, at most 256 x 256, of the band's dtype.

    A part that cannot be decoded comes out empty: to say so is the business of those who read all
    of it.

    Raises:
        CbmError: as :func:`cbm_extract.read.gdal.open_raster` does.

    """
    with gdal.open_raster(href) as dataset:
        width, height = min(dataset.width, _SIZE), min(dataset.height, _SIZE)
        left, top = (dataset.width - width) // 2, (dataset.height - height) // 2
        try:
            values: NDArray[Any] = dataset.read(index, window=Window(left, top, width, height))
        except RasterioError:
            return dataset.read(index, window=Window(0, 0, 0, 0))  # type: ignore[no-any-return]
    return values
