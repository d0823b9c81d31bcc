"""Pictures of the ground from an agency's own orthophoto or map service. Nothing is kept."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio import warp, windows
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine, array_bounds
from rasterio.windows import Window

from cbm_api.imaging import services, sources
from cbm_api.imaging.windows import Place
from cbm_core.datasets.background import Background
from cbm_core.remote.web import Access

_WHAT = "the background"
_MERCATOR = CRS.from_epsg(3857)


def read(
    background: Background, place: Place, side: int, access: Access
) -> tuple[NDArray[np.uint8], Affine]:
    """Return the ground at a place: uint8 [4, side, side] (red, green, blue, opacity).

    In Web Mercator (EPSG:3857), with the transform from pixels to it.

    Raises:
        CbmError: ``raster_missing``, ``raster_unreachable``, ``raster_damaged``.

    """
    (x,), (y,) = warp.transform(CRS.from_epsg(4326), _MERCATOR, [place.lon], [place.lat])
    # Metres of Web Mercator are shorter than those on the ground.
    size = place.size_m / math.cos(math.radians(place.lat))
    pixel = size / side
    grid = Affine(pixel, 0.0, x - size / 2, 0.0, -pixel, y + size / 2)
    bounds = array_bounds(side, side, grid)
    if background.layers:
        return services.service(background, bounds, side, access), grid
    if background.is_tiles:
        pixels, transform = services.tiles(background, bounds, side, access)
        crs = _MERCATOR
    else:
        with sources.opened(background.source, access, _WHAT) as dataset:
            pixels, transform = _around(dataset, bounds, side)
            crs = dataset.crs
    ground = np.zeros((4, side, side), np.uint8)
    if pixels.size:
        warp.reproject(
            pixels, ground, src_transform=transform, src_crs=crs, dst_transform=grid,
            dst_crs=_MERCATOR, resampling=Resampling.bilinear,
        )  # fmt: skip
    return ground, grid


def _around(
    dataset: DatasetReader, bounds: tuple[float, float, float, float], side: int
) -> tuple[NDArray[np.uint8], Affine]:
    """Return the pixels within bounds of Web Mercator, from overviews where those are enough."""
    own = warp.transform_bounds(_MERCATOR, dataset.crs, *bounds)
    wanted = windows.from_bounds(*own, dataset.transform)
    (top, bottom), (left, right) = wanted.toranges()
    left, right = max(math.floor(left), 0), min(math.ceil(right), dataset.width)
    top, bottom = max(math.floor(top), 0), min(math.ceil(bottom), dataset.height)
    if left >= right or top >= bottom:
        return np.empty((4, 0, 0), np.uint8), dataset.transform
    window = Window(left, top, right - left, bottom - top)
    # Twice as fine as what is shown, so that bilinear interpolation sees enough.
    shape = tuple(min(length, 2 * side) for length in (window.height, window.width))
    bands = [1, 2, 3] if dataset.count >= 3 else [1, 1, 1]
    colours = dataset.read(bands, window=window, out_shape=(3, *shape))
    if colours.dtype != np.uint8:
        raise sources.damaged(_WHAT)
    opacity = dataset.dataset_mask(window=window, out_shape=shape)
    own_grid = windows.transform(window, dataset.transform)
    across, down = window.width / shape[1], window.height / shape[0]
    transform = Affine(own_grid.a * across, 0.0, own_grid.c, 0.0, own_grid.e * down, own_grid.f)
    return np.concatenate([colours, opacity[None]]), transform


def picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return the ground as a picture."""
    return Image.fromarray(np.moveaxis(pixels, 0, -1), "RGBA")


def geotiff(pixels: NDArray[np.uint8], grid: Affine) -> bytes:
    """Return the ground as a GeoTIFF in red, green and blue, black where there is nothing."""
    _, rows, columns = pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=3, height=rows, width=columns, dtype="uint8", crs=_MERCATOR,
            transform=grid, compress="deflate", photometric="RGB",
        ) as target:  # fmt: skip
            target.write(np.where(pixels[3] > 0, pixels[:3], 0).astype(np.uint8))
        return bytes(memory.getbuffer())
