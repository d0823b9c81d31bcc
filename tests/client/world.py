"""What the client is tried on: parcels in a grid, a season of images with clouds, extracted."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import shapely
from psycopg2.extras import Json

from cbm_core.settings import Settings
from tests.api.conftest import owner
from tests.extraction import COLS, LEFT, ROWS, TOP, World, texture
from tests.factories import add_dataset, asset, sql, square, transformed

COLLECTION = "tt_2024"
PARCELS = 25
# 80 m wide, 20 m apart, p0 in the lower left corner; two crops, every third is rye.
SHAPES = [
    square(LEFT + 110 + 100 * column, TOP - 510 + 100 * row, 80)
    for row, column in itertools.product(range(5), range(5))
]
DAYS = [datetime(2024, 4, 1, 10, 30, tzinfo=UTC) + timedelta(days=10 * n) for n in range(6)]
# Of the second and the fifth image the west is clouded, with p0; the sixth is not classified.
CLOUDED, UNCLASSIFIED = (1, 4), 5


def make(settings: Settings, folder: Path) -> World:
    """The dataset tt:2024 with its images extracted, and zz:2024, which nobody is granted."""
    made = World.make(settings, folder)
    made.parcels(SHAPES)
    sql(settings, "UPDATE cbm.parcel SET crop_code = '100', crop_name = 'wheat'")
    sql(
        settings,
        """UPDATE cbm.parcel SET crop_code = '200', crop_name = 'rye'
           WHERE substr(pid, 2)::integer % 3 = 0""",
    )
    sql(
        owner(settings),
        "UPDATE cbm.parcel_geometry SET area_m2 = ST_Area(ST_Transform(geom, 3035))",
    )
    west, south, east, north = transformed(shapely.union_all(SHAPES), "EPSG:32632").bounds
    extent = Json({"extent": [west, south, east, north]})
    sql(owner(settings), "UPDATE cbm.parcel_set SET report = %s", extent)
    for number in range(len(DAYS)):
        _scene(made, number)
    product = {"name": "s2", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]}
    made.extract(product)
    sql(settings, "UPDATE cbm.parcel SET pid = 'A/1 b' WHERE pid = 'p24'")
    add_dataset(settings, aoi="zz")
    return made


def _scene(made: World, number: int) -> None:
    """B03, B04, B08 with an offset of -1000, and for all images but the last a classification."""
    reference = f"S2A_MSIL2A_{DAYS[number]:%Y%m%dT%H%M%S}_N0510"
    low = 3000 if number in CLOUDED else 1500
    bands: dict = {}
    for place, band in enumerate(("B03", "B04", "B08")):
        pixels = texture(low=low, high=low + 2000, seed=10 * number + place)
        bands[band] = asset(made.raster(f"{reference}_{band}", pixels), offset=-1000.0)
    if number != UNCLASSIFIED:
        classes = np.full((ROWS, COLS), 4, dtype="uint8")
        if number in CLOUDED:
            classes[:, : COLS // 2] = 9
        bands["SCL"] = asset(made.raster(f"{reference}_SCL", classes))
    scene = made.scene(bands, reference=reference, obstime=DAYS[number])
    sql(
        made.settings,
        "UPDATE cbm.scene SET cloud_percent = %s WHERE id = %s",
        50 if number in CLOUDED else 0,
        scene,
    )
