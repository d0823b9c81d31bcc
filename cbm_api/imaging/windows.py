"""A square on the ground, cut out of the files of a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio import warp, windows
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from cbm_api.imaging import sources
from cbm_core.errors import CbmError
from cbm_core.remote.web import Access

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

MOST_PIXELS = 1024
"""So many pixels a side has at most."""
_METRES_PER_DEGREE = 111_320.0  # of a great circle


@dataclass(frozen=True)
class Place:
    """A square: its middle in degrees (EPSG:4326), its side in metres."""

    lon: float
    lat: float
    size_m: float


@dataclass(frozen=True)
class Asset:
    """Where a band is: ``stored = raw * scale + offset``; ``nodata`` are raw values."""

    href: str
    index: int
    scale: float
    offset: float
    nodata: tuple[float, ...]


@dataclass(frozen=True)
class Chip:
    """Bands in one grid: float32 [bands, rows, columns] in the stored unit, NaN without a value.

    ``transform`` maps (column, row) to ``crs``; rows run from north to south.
    """

    bands: tuple[str, ...]
    values: NDArray[np.float32]
    transform: Affine
    crs: CRS


@dataclass(frozen=True)
class Layer:
    """One band as its file has it around a place: [rows, columns], with a pixel to spare."""

    band: str
    values: NDArray[np.float32]
    transform: Affine
    crs: CRS


def read(
    href: str, bands: dict[str, Asset], place: Place, what: str, access: Access
) -> list[Layer]:
    """Read the bands that are in one file.

    Raises:
        CbmError: ``raster_missing``, ``raster_unreachable``, ``raster_damaged``, and
            ``bad_parameter`` when the place has more than MOST_PIXELS pixels a side.

    """
    with sources.opened(href, access, what) as dataset:
        if dataset.crs is None or not dataset.transform.is_rectilinear:
            raise sources.damaged(what)
        window = _window(dataset, place)
        transform = windows.transform(window, dataset.transform)
        return [
            Layer(band, _band(dataset, asset, window), transform, dataset.crs)
            for band, asset in bands.items()
        ]


def combine(layers: Sequence[Layer], place: Place) -> Chip:
    """Bring layers of one scene into the grid of the finest, by the nearest pixel.

    The grid has as many pixels on every date: its side divided by the pixel's size, rounded; the
    middle of the place is in the middle of it.
    """
    finest = min(layers, key=lambda layer: abs(layer.transform.a))
    grid, shape = _grid(finest, place)
    values = np.stack([_nearest(layer, grid, shape) for layer in layers])
    return Chip(tuple(layer.band for layer in layers), values, grid, finest.crs)


def _centre(place: Place, crs: CRS) -> tuple[float, float, float, float]:
    """Return the middle of a place and half its sides, in the units of a reference system."""
    (x,), (y,) = warp.transform(CRS.from_epsg(4326), crs, [place.lon], [place.lat])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise CbmError("bad_parameter", "The place is outside the image's reference system.")
    if crs.is_geographic:
        high = place.size_m / 2 / _METRES_PER_DEGREE
        return x, y, high / max(math.cos(math.radians(place.lat)), 0.01), high
    half = place.size_m / 2 / float(crs.linear_units_factor[1])
    return x, y, half, half


def _count(half: float, pixel: float) -> int:
    count = max(1, round(2 * half / abs(pixel)))
    if count > MOST_PIXELS:
        raise CbmError(
            "bad_parameter",
            f"The square has {count} pixels a side; expected at most {MOST_PIXELS}.",
            "Ask for a smaller size.",
        )
    return count


def _window(dataset: DatasetReader, place: Place) -> Window:
    """Return the file's pixels in and around a place; empty beside the file."""
    x, y, wide, high = _centre(place, dataset.crs)
    across, along = dataset.transform.a, dataset.transform.e
    half_columns, half_rows = _count(wide, across) // 2 + 2, _count(high, along) // 2 + 2
    column = math.floor((x - dataset.transform.c) / across)
    row = math.floor((y - dataset.transform.f) / along)
    left, right = _within(column, half_columns, dataset.width)
    top, bottom = _within(row, half_rows, dataset.height)
    return Window(left, top, right - left, bottom - top)


def _within(middle: int, half: int, size: int) -> tuple[int, int]:
    first = min(max(middle - half, 0), size)
    return first, min(max(middle + half + 1, first), size)


def _band(dataset: DatasetReader, asset: Asset, window: Window) -> NDArray[np.float32]:
    if window.width == 0 or window.height == 0:
        return np.empty((window.height, window.width), np.float32)
    raw = dataset.read(asset.index, window=window)
    declared = dataset.nodatavals[asset.index - 1]
    invalid = ~np.isfinite(raw)
    for value in asset.nodata if declared is None else (*asset.nodata, declared):
        # Files state the no-data value of float32 with fewer digits.
        invalid |= raw == (np.float32(value) if raw.dtype == np.float32 else value)
    stored = raw.astype(np.float64) * asset.scale + asset.offset
    return np.where(invalid, np.nan, stored).astype(np.float32)


def _grid(layer: Layer, place: Place) -> tuple[Affine, tuple[int, int]]:
    x, y, wide, high = _centre(place, layer.crs)
    own = layer.transform
    across, along = abs(own.a), abs(own.e)
    columns, rows = _count(wide, across), _count(high, along)
    # The corner lies on the layer's own grid.
    left = own.c + (math.floor((x - own.c) / across) - columns // 2) * across
    top = own.f - (math.floor((own.f - y) / along) - rows // 2) * along
    return Affine(across, 0.0, left, 0.0, -along, top), (rows, columns)


def _nearest(layer: Layer, grid: Affine, shape: tuple[int, int]) -> NDArray[np.float32]:
    xs = grid.c + (np.arange(shape[1]) + 0.5) * grid.a
    ys = grid.f + (np.arange(shape[0]) + 0.5) * grid.e
    own, size = layer.transform, layer.values.shape
    columns, has_column = _places((xs - own.c) / own.a, size[1])
    rows, has_row = _places((ys - own.f) / own.e, size[0])
    found = np.full(shape, np.nan, np.float32)
    found[np.ix_(has_row, has_column)] = layer.values[np.ix_(rows, columns)]
    return found


def _places(at: NDArray[Any], size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the pixels at positions, and which positions have one."""
    pixels = np.floor(at).astype(np.int64)
    inside = (pixels >= 0) & (pixels < size)
    return pixels[inside], inside
