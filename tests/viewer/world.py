"""Twelve fields with six crops, a season of optical images and of radar: what the page shows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from psycopg2.extras import Json
from shapely import box

from cbm_core.settings import Settings
from tests.extraction import COLS, LEFT, ROWS, TOP, World
from tests.factories import sql, square, transformed

CROPS = ["Winter wheat", "Maize", "Grassland", "Sugar beet", "Rapeseed", None]
PEAKS = [140, 220, 170, 240, 120, 180]
"""Day of the year on which each crop is greenest."""
FIELDS = 12
OPTICAL = [datetime(2024, 3, 1, 10, 30, tzinfo=UTC) + timedelta(days=15 * n) for n in range(14)]
CLOUDED = {2, 7}
"""Which of the optical images show clouds only."""
RADAR = [datetime(2024, 3, 5, 5, 30, tzinfo=UTC) + timedelta(days=24 * n) for n in range(8)]
GROUND = (200, 120, 40)
"""Colour of the orthophoto."""
PRODUCTS = (
    {"name": "optical", "card": "s2", "bands": ["B02", "B03", "B04", "B08", "B11"],
     "indices": ["NDVI"]},
    {"name": "radar", "card": "bs", "bands": ["VV", "VH"]},
)  # fmt: skip


def make(settings: Settings, folder: Path) -> World:
    """The dataset tt_2024 with parcels p0 to p11, all extracted."""
    world = World.make(settings, folder)
    world.parcels([_field(number) for number in range(FIELDS)])
    owner = Settings(database=settings.connection("owner"))
    for number in range(FIELDS):
        name = CROPS[number % len(CROPS)]
        code = None if name is None else str(100 + number % len(CROPS))
        sql(owner, "UPDATE cbm.parcel SET crop_code = %s, crop_name = %s WHERE pid = %s",
            code, name, f"p{number}")  # fmt: skip
    sql(owner, "UPDATE cbm.parcel_set SET report = %s", Json({"extent": _extent()}))
    # The grid for small scales was made when the parcels had no crops yet.
    sql(owner, "SELECT cbm.fill_grid_tiles(%s::smallint, '')", world.dataset)
    for number, when in enumerate(OPTICAL):
        world.scene(_optical(number, when), reference=f"optical{number}", obstime=when)
    for number, when in enumerate(RADAR):
        scene = world.scene(_radar(number), reference=f"radar{number}", obstime=when, card="bs")
        orbit = ("ascending", 117) if number % 2 else ("descending", 22)
        sql(owner, "UPDATE cbm.scene SET orbit_direction = %s, relative_orbit = %s WHERE id = %s",
            *orbit, scene)  # fmt: skip
    _orthophoto(folder / "orthophoto.tif")
    background = {"background": {"source": str(folder / "orthophoto.tif")}}
    sql(owner, "UPDATE cbm.dataset SET settings = settings || %s WHERE id = %s",
        Json(background), world.dataset)  # fmt: skip
    world.extract(*PRODUCTS, products=[one["name"] for one in PRODUCTS])
    return world


def _field(number: int):
    return square(LEFT + 200 * (number % 4) + 10, TOP - 200 * (number // 4) - 190, 180)


def _orthophoto(path: Path) -> None:
    """The ground in one colour, half a metre a pixel."""
    side = 20 * max(ROWS, COLS)
    pixels = np.empty((3, side, side), np.uint8)
    pixels[:] = np.array(GROUND, np.uint8)[:, None, None]
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8",
        crs="EPSG:32632", transform=Affine(0.5, 0, LEFT, 0, -0.5, TOP), compress="deflate",
    ) as target:  # fmt: skip
        target.write(pixels)


def _extent() -> list[float]:
    """West, south, east and north of all fields, which an import would have measured."""
    bounds = (LEFT, TOP - 10 * ROWS, LEFT + 10 * COLS, TOP)
    return list(transformed(box(*bounds), "EPSG:32632").bounds)


def _crop_map() -> np.ndarray:
    """Which crop each pixel has."""
    fields = np.arange(FIELDS).reshape(3, 4) % len(CROPS)
    return np.kron(fields, np.ones((20, 20), dtype=int))[:ROWS, :COLS]


def _optical(number: int, when: datetime) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(number)
    peaks = np.array(PEAKS)[_crop_map()]
    ndvi = 0.15 + 0.7 * np.exp(-(((when.timetuple().tm_yday - peaks) / 45) ** 2))
    red = 1000 * (1 - ndvi) + 150
    bands = {
        "B02": red * 0.6 + 100,
        "B03": red * 0.5 + 400,
        "B04": red,
        "B08": red * (1 + ndvi) / (1 - ndvi),
        "B11": 2600 - 1200 * ndvi,
    }
    if number in CLOUDED:
        bands = {band: np.full((ROWS, COLS), 7000.0) for band in bands}
    made = {
        band: (values + noise.normal(0, 40, values.shape)).clip(1, 9999).astype("uint16")
        for band, values in bands.items()
    }
    return {**made, "SCL": np.full((ROWS, COLS), 9 if number in CLOUDED else 4, dtype="uint8")}


def _radar(number: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(100 + number)
    level = 0.05 + 0.02 * _crop_map() + 0.01 * number
    return {
        "VV": (level * noise.gamma(4, 0.25, level.shape)).astype("float32"),
        "VH": (level * 0.2 * noise.gamma(4, 0.25, level.shape)).astype("float32"),
    }
