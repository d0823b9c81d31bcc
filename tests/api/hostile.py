"""A world with something behind every route, and a neighbour's dataset that nobody may see."""

from dataclasses import dataclass
from typing import Any

from cbm_core.settings import Settings
from tests.api import chips
from tests.api.conftest import add_user, basic
from tests.api.stored import add_rows, numbers
from tests.factories import add_dataset, add_parcels, add_product, sql

# Stands wherever the neighbour's data could show.
SECRET = "neighbour"


@dataclass
class Named:
    """Values with which requests find something, by parameter; anna's login; ids of rows."""

    values: dict[str, Any]
    headers: dict[str, str]
    dataset: int
    hidden: int
    scene: int


def world(db: Settings, folder) -> Named:
    """anna may read tt_2024: parcels, a scene with images, stored rows; not zz_2024."""
    made = chips.world(db, folder)
    scene = chips.scene(made)
    product = add_product(db, variables=("B04", "B08"))
    hidden = add_dataset(db, "zz")
    geometries = {
        made.dataset: [row[0] for row in sql(
            db, "SELECT id FROM cbm.parcel_geometry WHERE dataset_id = %s ORDER BY id", made.dataset
        )],
        hidden: add_parcels(db, hidden, chips.SHAPES),
    }  # fmt: skip
    sql(
        db,
        """UPDATE cbm.parcel SET crop_code = %s, crop_name = %s, pid = %s || pid
           WHERE dataset_id = %s""",
        SECRET, SECRET, SECRET, hidden,
    )  # fmt: skip
    for dataset, ids in geometries.items():
        rows = [{"geometry": one, "scene": scene, "stats": numbers(1000, 3000)} for one in ids]
        add_rows(db, dataset, product, rows)
    add_user(db, "anna", made.dataset)
    middle = sql(
        db,
        "SELECT ST_X(c), ST_Y(c) FROM (SELECT ST_Centroid(geom) AS c FROM cbm.parcel_geometry"
        " WHERE id = %s) g",
        geometries[made.dataset][0],
    )[0]
    lon, lat = middle
    values = {
        "collection_id": "tt_2024", "pid": "p0", "aoi": "tt", "year": 2024, "scene": scene,
        "scene_id": scene, "z": 14, "card": "s2", "product": "s2", "tstype": "s2",
        "start_date": "2024-01-01", "end_date": "2024-12-31", "lon": lon, "lat": lat,
        "polygon": "-".join(
            f"{lon + dx}_{lat + dy}"
            for dx, dy in ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, -0.1))
        ),
        "datetime": "2024-05-01/2024-05-31",
    }  # fmt: skip
    return Named(values, basic("anna"), made.dataset, hidden, scene)
