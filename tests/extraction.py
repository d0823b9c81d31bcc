"""A small world to extract in, and the numbers that must come out of it, by numpy alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import yaml
from rasterio.features import rasterize

from cbm_core.settings import Settings
from cbm_core.verbs import Context
from cbm_extract.engine.verbs import EXTRACT
from tests.factories import add_dataset, add_parcels, raster_scene, sql, transformed, write_raster

LEFT, TOP = 600_000.0, 5_300_040.0
ROWS, COLS = 60, 80  # of 10 m


def texture(rows=ROWS, cols=COLS, low=200, high=4000, dtype="uint16", seed=1) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (rows, cols)).astype(dtype)


@dataclass
class World:
    """A dataset in a database, and a folder for rasters."""

    settings: Settings
    folder: Path
    dataset: int

    @classmethod
    def make(cls, settings, folder, **dataset):
        return cls(settings, folder, add_dataset(settings, **dataset))

    def parcels(self, shapes, **given) -> list[int]:
        return add_parcels(self.settings, self.dataset, shapes, **given)

    def raster(self, name, data, **given) -> Path:
        given = {"left": LEFT, "top": TOP, **given}
        return write_raster(self.folder / f"{name}.tif", data, **given)

    def scene(self, bands: dict, **given) -> int:
        """Catalogue a scene of arrays (10 m), paths or assets by band."""
        reference = given.setdefault("reference", "scene")
        paths = {
            band: self.raster(f"{reference}_{band}", value)
            if isinstance(value, np.ndarray)
            else value
            for band, value in bands.items()
        }
        return raster_scene(self.settings, paths, **given)

    def products(self, *definitions: dict) -> Path:
        path = self.folder / "products.yml"
        path.write_text(yaml.safe_dump({"products": list(definitions)}))
        return path

    def extract(self, *definitions: dict, **arguments):
        if definitions:
            arguments["product_file"] = self.products(*definitions)
        return run_extract(self.settings, **arguments)

    def rows(self, product="p", scene=None) -> dict[int, "Row"]:
        """Stored rows by geometry id, of one scene."""
        found = sql(
            self.settings,
            """SELECT s.geometry_id, s.px_imaged, s.px_clear, s.tile_rank, s.stats, s.class_counts,
                      p.variables
               FROM cbm.signature s JOIN cbm.product p ON p.id = s.product_id
               WHERE p.name = %s AND (%s::integer IS NULL OR s.scene_id = %s)""",
            product, scene, scene,
        )  # fmt: skip
        assert len({row[0] for row in found}) == len(found)
        return {row[0]: Row.of(*row[1:]) for row in found}


@dataclass
class Row:
    imaged: int
    clear: int
    rank: int
    stats: dict[str, np.ndarray] | None
    classes: dict[int, int] | None

    @classmethod
    def of(cls, imaged, clear, rank, stats, classes, variables):
        if stats is not None:
            array = np.array(stats, dtype=np.float32).reshape(len(variables), 8)
            stats = dict(zip(variables, array, strict=True))
        if classes is not None:
            data = bytes(classes)
            classes = {
                data[i]: int.from_bytes(data[i + 1 : i + 4], "big") for i in range(0, len(data), 4)
            }
        return cls(imaged, clear, rank, stats, classes)


def run_extract(settings, dataset="tt:2024", **arguments):
    lease = {} if arguments.get("engine") == "cluster" else {"lease_seconds": 5}
    given = {"dataset": dataset, **lease, **arguments}
    return EXTRACT.run(EXTRACT.arguments.model_validate(given), Context(settings))


def inside(shape, path: Path, crs="EPSG:32632") -> np.ndarray:
    """The pixels of a raster that GDAL gives a polygon: bool [rows, cols]."""
    with rasterio.open(path) as source:
        moved = transformed(shape, crs, source.crs.to_string())
        return rasterize(
            [(moved, 1)], out_shape=source.shape, transform=source.transform, dtype="uint8"
        ).astype(bool)


def statistics(values: np.ndarray, scale=1.0, offset=0.0) -> np.ndarray:
    """The eight statistics by numpy in double precision, then in the stored unit as float32."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return np.array([0] + [np.nan] * 7, dtype=np.float32)
    q25, q50, q75 = np.percentile(values, [25, 50, 75])
    place = [values.mean(), values.min(), values.max(), q25, q50, q75]
    mean, low, high, q25, q50, q75 = (value * scale + offset for value in place)
    spread = values.std() * scale
    return np.array([values.size, mean, spread, low, high, q25, q50, q75], dtype=np.float32)
