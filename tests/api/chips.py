"""A small world of images: parcels in UTM 32N, scenes of 10 m and 20 m."""

import io
from datetime import UTC, datetime

import numpy as np
import rasterio
from PIL import Image

from tests.extraction import LEFT, TOP, World, texture
from tests.factories import asset, square

# p0 of 8 x 8 pixels, well inside; p1 at the scene's corner.
X, Y = LEFT + 300, TOP - 380
SHAPES = [square(X, Y, 80), square(LEFT, TOP - 60, 60)]
DAYS = [datetime(2024, 5, day, 10, 30, tzinfo=UTC) for day in (1, 6, 11)]


def world(db, folder, **dataset) -> World:
    """Parcels p0 and p1, without scenes."""
    made = World.make(db, folder, **dataset)
    made.parcels(SHAPES)
    return made


def pixels(seed: int, rows: int = 60, columns: int = 80) -> np.ndarray:
    """Raw values of a band; few become negative by an offset of -1000."""
    return texture(rows, columns, low=900, seed=seed)


def scene(made: World, day: int = 0, **given) -> int:
    """A scene on one of DAYS: B04, B03, B08 of 10 m with an offset of -1000, B11 of 20 m."""
    reference = given.setdefault("reference", f"S2A_MSIL2A_{DAYS[day]:%Y%m%dT%H%M%S}_N0510")
    bands = {}
    for number, band in enumerate(("B03", "B04", "B08")):
        path = made.raster(f"{reference}_{band}", pixels(10 * day + number))
        bands[band] = asset(path, offset=-1000.0)
    coarse = made.raster(f"{reference}_B11", pixels(day + 99, 30, 40), res=20.0)
    bands["B11"] = asset(coarse, offset=-1000.0)
    return made.scene(bands, obstime=DAYS[day], **given)


def tiff(body: bytes):
    """A GeoTIFF in memory, opened."""
    return rasterio.open(io.BytesIO(body))


def image(body: bytes) -> np.ndarray:
    """The pixels of a picture: [rows, columns, bands]."""
    return np.asarray(Image.open(io.BytesIO(body)))
