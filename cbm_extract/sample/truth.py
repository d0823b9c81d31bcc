"""What is known about the sample: the declaration as filed, and the truth behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from cbm_extract.sample.crops import BANDS, CROPS
from cbm_extract.sample.fields import Fields
from cbm_extract.sample.scenes import Ground, true_series
from cbm_extract.sample.season import YEAR, Acquisition, Product

_WRONG_SHARE = 0.02
_SERIES_PER_CROP = 3
_SERIES_PIXELS = 40

# Invented, to show that personal columns stay out of the database.
_GIVEN = ("Anna", "Björn", "Clara", "David", "Eva", "Franz", "Grete", "Jörg", "Karin", "Lukas")
_FAMILY = ("Ackermann", "Baumann", "Feldmeier", "Gärtner", "Heumann", "Kornprobst", "Wiesner")


@dataclass(frozen=True)
class Declaration:
    """Parcels as declared, in file order; ``crop`` indexes CROPS and is at times not the truth."""

    ids: list[str]
    crop: npt.NDArray[np.int64]
    farmers: list[str]


def make_declaration(rng: np.random.Generator, true_crop: npt.NDArray[np.int64]) -> Declaration:
    """Give out ids and holders, and declare one parcel in fifty (at least one) wrongly."""
    count = len(true_crop)
    crop = true_crop.copy()
    wrong = rng.choice(count, max(1, round(count * _WRONG_SHARE)), replace=False)
    crop[wrong] = (crop[wrong] + rng.integers(1, len(CROPS), len(wrong))) % len(CROPS)
    names = [f"{given} {family}" for family in _FAMILY for given in _GIVEN]
    return Declaration(
        ids=[f"SX-{index + 1:06d}" for index in range(count)],
        crop=crop,
        farmers=[names[index] for index in rng.integers(0, len(names), count)],
    )


def parcel_columns(
    declaration: Declaration, geometries: Sequence[shapely.Geometry]
) -> dict[str, list[Any]]:
    """Return the columns of the parcel file."""
    return {
        "parcel_id": declaration.ids,
        "crop_code": [CROPS[crop].code for crop in declaration.crop],
        "crop_name": [CROPS[crop].name for crop in declaration.crop],
        "declared_ha": [round(float(area) / 10_000, 4) for area in shapely.area(list(geometries))],
        "farmer_name": declaration.farmers,
    }


def make_truth(
    season: list[Acquisition],
    items: dict[str, dict[str, Any]],
    fields: Fields,
    ground: Ground,
    declaration: Declaration,
) -> dict[str, Any]:
    """Collect the truth; ``items`` are the STAC items by identifier."""
    return {
        "about": "Known truth of a generated sample. Reflectance 0-1; days are UTC dates.",
        "scenes": [
            _scene(acquisition, product, items[acquisition.item(product)])
            for acquisition in season
            for product in acquisition.products
        ],
        "parcels": {
            pid: _parcel(index, fields, ground, declaration)
            for index, pid in enumerate(declaration.ids)
        },
        "series": _series(season, ground, declaration),
    }


def _scene(acquisition: Acquisition, product: Product, item: dict[str, Any]) -> dict[str, Any]:
    properties = item["properties"]
    return {
        "reference": f"{acquisition.reference(product)}.SAFE",
        "item": acquisition.item(product),
        "date": acquisition.day.isoformat(),
        "baseline": product.baseline,
        "raw_offset": product.offset,
        "state": "superseded" if product.superseded else "active",
        "cloud_share": round(properties["eo:cloud_cover"] / 100, 6),
        "shadow_share": round(properties["s2:cloud_shadow_percentage"] / 100, 6),
        "unseen_share": round(properties["s2:nodata_pixel_percentage"] / 100, 6),
        "missing_bands": list(acquisition.missing),
    }


def _parcel(index: int, fields: Fields, ground: Ground, declaration: Declaration) -> dict[str, Any]:
    crop, declared = CROPS[ground.stand.crop[index]], CROPS[declaration.crop[index]]
    harvest = ground.stand.harvest[index]
    cuts = ground.stand.cuts[index]
    return {
        "crop_code": crop.code,
        "crop_name": crop.name,
        "declared_right": crop is declared,
        "kind": fields.kinds[index],
        "pixels_10m": int(ground.pixels[index]),
        "clean": bool(ground.clean[index]),
        "mowings": [_date(day) for day in cuts[~np.isnan(cuts)]],
        "harvest": None if np.isnan(harvest) else _date(harvest),
    }


def _date(day_of_year: float) -> str:
    return (date(YEAR, 1, 1) + timedelta(days=int(day_of_year) - 1)).isoformat()


def _series(season: list[Acquisition], ground: Ground, declaration: Declaration) -> dict[str, Any]:
    """Noise-free series of the first clean, rightly declared, large parcels of each crop."""
    stand = ground.stand
    usable = ground.clean & (declaration.crop == stand.crop) & (ground.pixels >= _SERIES_PIXELS)
    chosen: list[int] = []
    for crop in range(len(CROPS)):
        chosen += np.flatnonzero(usable & (stand.crop == crop))[:_SERIES_PER_CROP].tolist()
    parcels: dict[str, dict[str, list[float]]] = {}
    for index in chosen:
        values = [true_series(ground, index, acquisition.day_of_year) for acquisition in season]
        parcels[declaration.ids[index]] = {
            name: [value[name] for value in values] for name in (*BANDS, "NDVI")
        }
    return {
        "dates": [acquisition.day.isoformat() for acquisition in season],
        "parcels": parcels,
    }
