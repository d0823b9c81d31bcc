"""A season to be extracted while everything fails: 200 items of small scenes on a real S3 server.

Two datasets share a part of the scenes, two products read them; bands are COG or JPEG 2000, the
classes COG. It is built once into a database that each run copies, so that ids are the same and
what two runs leave can be compared to the last byte.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import yaml
from rasterio.transform import from_origin

from cbm_core.settings import Settings
from tests.cluster import ROOT
from tests.extraction import LEFT, TOP, texture
from tests.factories import add_dataset, add_parcels, add_scene, asset, sql, square
from tests.unit.read import rasters

DATASETS = ("aa:2024", "bb:2024")
PRODUCTS = (
    {"name": "p", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]},
    {"name": "clear", "card": "s2", "bands": ["B04"], "mask_classes": [3, 8, 9]},
)
SCENES, OF_FIRST, OF_SECOND = 80, range(60), range(40, 80)
ITEMS = len(PRODUCTS) * (len(OF_FIRST) + len(OF_SECOND))
PARCELS = (12, 8)
ROWS_LEFT = len(PRODUCTS) * (PARCELS[0] * len(OF_FIRST) + PARCELS[1] * len(OF_SECOND))

_ROWS, _COLS = 192, 256
_START = datetime(2024, 3, 1, 10, tzinfo=UTC)
_COG = {"driver": "COG", "compress": "deflate", "blocksize": 128}
_JP2 = {"driver": "JP2OpenJPEG"}

# All that an extraction leaves, without times, tokens and names of workers.
_CONTENTS = {
    "signatures": """
      SELECT s.obstime, s.geometry_id, encode(g.hash, 'hex'), c.reference, s.px_imaged, s.px_clear,
             s.dataset_id, p.name, s.tile_rank, s.stats::text, encode(s.class_counts, 'hex')
      FROM cbm.signature s JOIN cbm.scene c ON c.id = s.scene_id
      JOIN cbm.parcel_geometry g ON g.id = s.geometry_id AND g.dataset_id = s.dataset_id
      JOIN cbm.product p ON p.id = s.product_id ORDER BY 4, 7, 8, 2""",
    "runs": """
      SELECT c.reference, r.dataset_id, p.name, r.scope, r.parcel_set_from, r.parcel_set_to,
             r.plans::text, r.assets::text, r.rows, encode(r.digest, 'hex')
      FROM cbm.run r JOIN cbm.scene c ON c.id = r.scene_id
      JOIN cbm.product p ON p.id = r.product_id ORDER BY 1, 2, 3""",
    "plans": """
      SELECT parcel_set_id, lattice, encode(content_hash, 'hex') FROM cbm.plan ORDER BY 1, 2""",
    "items": """
      SELECT scene_id, dataset_id, product_id, state, parcel_set_id, scope, next_scope, error_code
      FROM cbm.work_item ORDER BY 1, 2, 3""",
    "scenes": "SELECT id, state, state_reason FROM cbm.scene ORDER BY 1",
    "monitorability": "SELECT to_jsonb(m)::text FROM cbm.monitorability m ORDER BY 1",
}


def build(settings: Settings, store, folder: Path) -> None:
    """Store the bands and catalogue the scenes."""
    for name, days, parcels in zip(("aa", "bb"), (OF_FIRST, OF_SECOND), PARCELS, strict=True):
        first, last = (str((_START + timedelta(days=d)).date()) for d in (days[0], days[-1]))
        dataset = add_dataset(settings, aoi=name, start=first, end=last)
        side = 61 if name == "aa" else 83
        shapes = [
            square(LEFT + 33 + 500 * (k % 5), TOP - 215 - 480 * (k // 5), side)
            for k in range(parcels)
        ]
        add_parcels(settings, dataset, shapes)
    bounds = (LEFT, TOP - 10 * _ROWS, LEFT + 10 * _COLS, TOP)
    client = store.client()  # each new one takes longer than all it stores
    for number in range(SCENES):
        assets = {}
        for band, path in _bands(folder, number):
            key = f"chaos/s{number:02}/{path.name}"
            client.put_object(Bucket=store.bucket, Key=key, Body=path.read_bytes())
            assets[band] = asset(f"s3://{store.bucket}/{key}")
        when = _START + timedelta(days=number)
        add_scene(settings, assets, reference=f"s{number:02}", obstime=when, bounds=bounds)


def _bands(folder: Path, number: int) -> Iterator[tuple[str, Path]]:
    """Write the bands of a scene, one format in even and the other in odd ones."""
    suffix, options = ("tif", _COG) if number % 2 else ("jp2", _JP2)
    fine = {**options, "transform": from_origin(LEFT, TOP, 10, 10)}
    for band, seed in (("B04", 1000), ("B08", 2000)):
        values = texture(_ROWS, _COLS, seed=seed + number)
        yield band, rasters.write(folder / f"{band}.{suffix}", values, **fine)
    classes = texture(_ROWS // 2, _COLS // 2, 0, 12, "uint8", seed=3000 + number)
    # Whole parcels in clouds, whole parcels clear.
    classes = np.kron(classes[::24, ::16], np.ones((24, 16), np.uint8))
    coarse = {**_COG, "transform": from_origin(LEFT, TOP, 20, 20)}
    yield "SCL", rasters.write(folder / "SCL.tif", classes, **coarse)


def product_file(folder: Path) -> Path:
    path = folder / "products.yml"
    path.write_text(yaml.safe_dump({"products": list(PRODUCTS)}))
    return path


def cbm(config: Path, *words: object) -> str:
    """Run a command as an operator does, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "cbm_extract.cli", *map(str, words)], cwd=ROOT, text=True,
        env=os.environ | {"CBM_CONFIG": str(config)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"cbm {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done.stdout


def contents(settings: Settings) -> dict[str, list[tuple]]:
    return {name: sql(settings, query) for name, query in _CONTENTS.items()}


@contextmanager
def as_superuser(server, settings: Settings) -> Iterator:
    """A cursor of an observer who is no user of the product."""
    name = settings.database["dbname"]
    with closing(server.superuser(name)) as connection, connection.cursor() as cursor:
        yield cursor
