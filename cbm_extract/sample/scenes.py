"""Scenes: what an acquisition over the ground and under the sky looks like, band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin

from cbm_extract.sample.crops import (
    BANDS,
    BANDS_10M,
    OTHER_LAND,
    Stand,
    ndvi,
    other_land_reflectance,
)
from cbm_extract.sample.fields import Fields
from cbm_extract.sample.season import Acquisition, Product
from cbm_extract.sample.sky import CIRRUS_ADDS, CLOUD, Float, Sky, fractal, make_sky

RASTER_CRS = "EPSG:32632"
LEGAL_CRS = "EPSG:25832"
LEFT, TOP = 651_200.0, 5_379_520.0  # on the lattice of Sentinel-2: multiples of 20 m
PIXEL_M = 10.0
QUANTIFICATION = 10_000
NODATA = 0

VEGETATION, BARE, WATER = 4, 5, 6
_VEGETATION_NDVI = 0.35
_TEXTURE = 0.045
_NOISE_FLOOR, _NOISE_SHARE = 0.0008, 0.004  # deviation of the sensor's noise, reflectance


def bounds(size: int) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a raster of ``size`` pixels of 10 m, in the raster's CRS."""
    return LEFT, TOP - size * PIXEL_M, LEFT + size * PIXEL_M, TOP


@dataclass(frozen=True)
class Ground:
    """What lies where.

    ``labels`` int32 [size, size]: index into OTHER_LAND, or 5 + the parcel's index (the last one
    drawn where parcels overlap). ``gain`` float32 [size, size]: texture, of mean 1 on every label.
    ``pixels`` int64 [parcels]: pixel centres in the parcel; ``clean`` bool [parcels]: no other
    parcel shares them.
    """

    labels: npt.NDArray[np.int32]
    gain: Float
    stand: Stand
    pixels: npt.NDArray[np.int64]
    clean: npt.NDArray[np.bool_]


def to_legal(geometries: list[shapely.Geometry]) -> list[shapely.Geometry]:
    """Reproject from the raster's to the legal CRS, rounded to centimetres as files have it."""
    return _reproject(geometries, RASTER_CRS, LEGAL_CRS, 2)


def _reproject(
    geometries: list[shapely.Geometry], source: str, target: str, digits: int
) -> list[shapely.Geometry]:
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)

    def move(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.round(np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])), digits)

    return list(shapely.transform(np.array(geometries), move))


def make_ground(
    rng: np.random.Generator,
    fields: Fields,
    legal: list[shapely.Geometry],
    stand: Stand,
    size: int,
) -> Ground:
    """Draw parcels (``legal``: as they stand in the file) and other land on the 10 m grid."""
    first = len(OTHER_LAND)
    parcels = _reproject(legal, LEGAL_CRS, RASTER_CRS, 4)
    grid = {"out_shape": (size, size), "transform": from_origin(LEFT, TOP, PIXEL_M, PIXEL_M)}
    shapes = [(polygon, label) for label, polygon in fields.other]
    shapes += [(polygon, first + index) for index, polygon in enumerate(parcels)]
    labels = rasterize(shapes, fill=0, dtype="int32", **grid)
    own = [_pixels_of(polygon, size) for polygon in parcels]
    covers = np.bincount(np.concatenate(own), minlength=size * size)
    wholly = [kind not in {"edge", "outside"} for kind in fields.kinds]
    clean = [bool(len(at)) and bool((covers[at] == 1).all()) for at in own]
    total = first + len(parcels)
    gain = 1.0 + _TEXTURE * np.clip(fractal(rng, size, 3.0, 0.08), -3.0, 3.0)
    sums = np.bincount(labels.ravel(), weights=gain.ravel(), minlength=total)
    counts = np.maximum(np.bincount(labels.ravel(), minlength=total), 1)
    means = np.where(sums > 0, sums / counts, 1.0)
    gain = (gain / means[labels]).astype(np.float32)
    pixels = np.array([len(at) for at in own], dtype=np.int64)
    return Ground(labels, gain, stand, pixels, np.array(clean) & np.array(wholly))


def _pixels_of(polygon: shapely.Geometry, size: int) -> npt.NDArray[np.int64]:
    """Flat indices of the 10 m pixels whose centre lies in a polygon."""
    left, bottom, right, top = polygon.bounds
    rows = np.clip([(TOP - top) // PIXEL_M, (TOP - bottom) // PIXEL_M + 1], 0, size).astype(int)
    columns = np.clip([(left - LEFT) // PIXEL_M, (right - LEFT) // PIXEL_M + 1], 0, size)
    columns = columns.astype(int)
    shape = int(rows[1] - rows[0]), int(columns[1] - columns[0])
    if 0 in shape:
        return np.zeros(0, dtype=np.int64)
    corner = from_origin(LEFT + columns[0] * PIXEL_M, TOP - rows[0] * PIXEL_M, PIXEL_M, PIXEL_M)
    inside = rasterize([polygon], out_shape=shape, transform=corner, dtype="uint8")
    row, column = np.nonzero(inside)
    return np.asarray((row + rows[0]) * size + column + columns[0], dtype=np.int64)


@dataclass(frozen=True)
class View:
    """An acquisition as the sensor has it, before quantisation.

    ``bands`` maps names to float32 reflectance ([size, size] for 10 m bands, half of it for 20 m);
    ``classes`` is the scene classification (uint8, 20 m; 0 where nothing was seen).
    """

    bands: dict[str, Float]
    classes: npt.NDArray[np.uint8]

    def raw(self, band: str, product: Product) -> npt.NDArray[np.uint16]:
        """Raw values of a band: 0 where nothing was seen, never 0 elsewhere (as ESA does)."""
        values = np.rint(self.bands[band] * QUANTIFICATION) - product.offset
        raw = np.clip(values, 1, 65_535).astype(np.uint16)
        unseen = self.classes == 0
        raw[unseen if raw.shape == unseen.shape else _double(unseen)] = NODATA
        return np.asarray(raw, dtype=np.uint16)

    def share(self, *classes: int) -> float:
        """Share of classes among the pixels seen, percent."""
        seen = int(np.count_nonzero(self.classes))
        return 100.0 * float(np.isin(self.classes, classes).sum()) / max(seen, 1)


def make_view(rng: np.random.Generator, ground: Ground, acquisition: Acquisition) -> View:
    """Look at the ground: reflectance of the day, texture, clouds and shadows, noise."""
    side = ground.labels.shape[0] // 2
    sky = make_sky(rng, acquisition, side)
    day = acquisition.day_of_year
    table = np.vstack([other_land_reflectance(day), ground.stand.reflectance(day)])
    bands = {}
    means: dict[str, Float] = {}
    for number, band in enumerate(BANDS):
        values = table[:, number].astype(np.float32)[ground.labels] * ground.gain
        if band in {"B04", "B08"} or band not in BANDS_10M:
            means[band] = _halve(values)
        seen = values if band in BANDS_10M else means[band]
        seen = _through(seen, sky, number)
        noise = rng.standard_normal(seen.shape, dtype=np.float32)
        bands[band] = seen + noise * (_NOISE_FLOOR + _NOISE_SHARE * seen)
    classes = sky.classes.copy()
    clear = classes == 0
    green = (means["B08"] - means["B04"]) / (means["B08"] + means["B04"])
    classes[clear] = np.where(green >= _VEGETATION_NDVI, VEGETATION, BARE)[clear]
    water = _halve((ground.labels == OTHER_LAND.index("water")).astype(np.float32)) >= 0.5
    classes[clear & water] = WATER
    if acquisition.edge:
        classes[_beyond_swath(side)] = 0
    return View(bands, classes)


def swath_edge(size: int) -> list[tuple[float, float]]:
    """Return the outline of what is seen where the swath ends (raster CRS, closed ring)."""
    left, bottom, right, top = bounds(size)
    width = right - left
    return [
        (left, top),
        (left + 0.72 * width, top),
        (left + 0.52 * width, bottom),
        (left, bottom),
        (left, top),
    ]


def _beyond_swath(side: int) -> npt.NDArray[np.bool_]:
    centres = (np.arange(side) + 0.5) / side
    return np.asarray(centres[None, :] > 0.72 - 0.20 * centres[:, None])


def _through(values: Float, sky: Sky, number: int) -> Float:
    """Reflectance as seen through the sky; ``number`` is the band's place in BANDS."""
    if not sky.classes.any():
        return values
    fine = values.shape != sky.classes.shape
    light, opacity, veil = (
        _double(layer) if fine else layer for layer in (sky.light, sky.opacity, sky.veil)
    )
    lit = values * light * (1.0 - opacity) + opacity * np.float32(CLOUD[number])
    return np.asarray(lit + veil * np.float32(CIRRUS_ADDS[number]), dtype=np.float32)


def _double(layer: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.repeat(np.repeat(layer, 2, axis=0), 2, axis=1)


def _halve(values: Float) -> Float:
    rows, columns = values.shape
    blocks = values.reshape(rows // 2, 2, columns // 2, 2)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def true_series(ground: Ground, parcel: int, day: float) -> dict[str, float]:
    """Return a clean parcel's noise-free mean reflectance per band, and NDVI, on a day."""
    stand = ground.stand
    one = slice(parcel, parcel + 1)
    alone = Stand(
        stand.crop[one], stand.shift[one], stand.vigour[one], stand.soil[one], stand.cuts[one]
    )
    values = alone.reflectance(day)[0]
    named = {band: round(float(value), 6) for band, value in zip(BANDS, values, strict=True)}
    return {**named, "NDVI": round(float(ndvi(values)), 6)}
