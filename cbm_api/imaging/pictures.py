"""Pictures of chips: composites of bands, outlines of parcels, many dates in one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio import warp
from rasterio.crs import CRS
from rasterio.transform import Affine

from cbm_api.imaging.windows import Chip

Range = tuple[float, float]

# What is black and what is white, in stored units, so that dates can be compared.
_VISIBLE, _INFRARED = (0.0, 2500.0), (0.0, 5000.0)
_RANGES: dict[str, dict[str, Range]] = {
    "s2": dict.fromkeys(("B01", "B02", "B03", "B04"), _VISIBLE) | {"SCL": (0.0, 11.0)},
    "bs": {"VV": (0.0, 0.4), "VH": (0.0, 0.1)},
}
_OTHERS: dict[str, Range] = {"s2": _INFRARED}
_UNIT: Range = (0.0, 1.0)

_GAP, _LABEL = 4, 16  # pixels
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class Cell:
    """One date of a mosaic; without a picture its place stays empty."""

    label: str
    picture: Image.Image | None


def default_ranges(card: str, bands: Sequence[str]) -> list[Range]:
    """Return the values shown as black and white for bands of a card."""
    known = _RANGES.get(card, {})
    return [known.get(band, _OTHERS.get(card, _UNIT)) for band in bands]


def percentile_ranges(values: NDArray[np.float32], low: float, high: float) -> list[Range]:
    """Return two percentiles of each band: ``values`` [bands, rows, columns], NaN left out."""
    found = [np.percentile(_valid(band), [low, high]) for band in values]
    return [(float(black), float(white)) for black, white in found]


def picture(chip: Chip, ranges: Sequence[Range], side: int) -> Image.Image:
    """Return one or three bands as grey or red, green, blue; transparent where a value misses.

    The picture is square with ``side`` pixels; pixels of the image stay visible as squares.
    """
    # A grey picture is three times the same.
    order = [0, 1, 2] if len(chip.bands) == 3 else [0, 0, 0]
    scaled = [_scaled(chip.values[band], ranges[band]) for band in order]
    opaque = np.where(np.isnan(chip.values).any(axis=0), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.dstack([*scaled, opaque]), "RGBA")
    return image.resize((side, side), Image.Resampling.NEAREST)


def outline(image: Image.Image, shape: dict[str, Any], crs: CRS, grid: Affine) -> None:
    """Draw the borders of a GeoJSON (Multi)Polygon in degrees (EPSG:4326).

    ``grid`` maps the picture's pixels, (column, row), to ``crs``.
    """
    moved = warp.transform_geom(CRS.from_epsg(4326), crs, shape)
    parts = moved["coordinates"] if moved["type"] == "MultiPolygon" else [moved["coordinates"]]
    draw = ImageDraw.Draw(image)
    for ring in (ring for part in parts for ring in part):
        corners = [((x - grid.c) / grid.a, (y - grid.f) / grid.e) for x, y, *_ in ring]
        # Dark beside bright: seen on any ground.
        draw.line(corners, fill=(0, 0, 0, 255), width=3)
        draw.line(corners, fill=(255, 255, 0, 255), width=1)


def grid_of(image: Image.Image, chip: Chip) -> Affine:
    """Return what maps the pixels of a chip's picture to the chip's reference system."""
    rows, columns = chip.values.shape[1:]
    grid = chip.transform
    across, down = grid.a * columns / image.width, grid.e * rows / image.height
    return Affine(across, 0.0, grid.c, 0.0, down, grid.f)


def mosaic(cells: Sequence[Cell], side: int, columns: int) -> Image.Image:
    """Return a sheet of pictures of ``side`` pixels, row by row, each with its label below."""
    columns = max(1, min(columns, len(cells)))
    rows = max(1, math.ceil(len(cells) / columns))
    wide, high = side + _GAP, side + _LABEL + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for number, cell in enumerate(cells):
        x, y = _GAP + number % columns * wide, _GAP + number // columns * high
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=(225, 225, 225))
        if cell.picture:
            sheet.paste(cell.picture, (x, y), cell.picture)
        draw.text((x + 1, y + side + 1), cell.label, fill=_INK, font=font)
    return sheet


def png(image: Image.Image) -> bytes:
    """Return a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _valid(band: NDArray[np.float32]) -> NDArray[np.float32]:
    valid = band[~np.isnan(band)]
    return valid if valid.size else np.zeros(1, np.float32)


def _scaled(band: NDArray[np.float32], between: Range) -> NDArray[np.uint8]:
    low, high = between
    share = (np.nan_to_num(band) - low) / max(high - low, 1e-12)
    shade: NDArray[np.uint8] = np.round(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return shade
