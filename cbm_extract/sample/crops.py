"""Crops of the sample: their year as fractions of green, dry and bare ground, and their spectra.

Phenology is a double logistic (Beck et al. 2006, *Remote Sensing of Environment* 100, 321-334,
eq. 3, with the fraction of green cover in the place of NDVI). Reflectance is the linear mixture of
end members. Their values are plausible round figures, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = tuple(band for band in BANDS if band not in BANDS_10M)

# Reflectance per band, in the order of BANDS.
SOIL = np.array([0.060, 0.085, 0.110, 0.135, 0.150, 0.165, 0.180, 0.190, 0.260, 0.220])
GREEN = np.array([0.022, 0.048, 0.022, 0.085, 0.300, 0.400, 0.440, 0.460, 0.190, 0.085])
DRY = np.array([0.090, 0.130, 0.170, 0.200, 0.235, 0.255, 0.275, 0.290, 0.360, 0.280])
FLOWER = np.array([0.045, 0.190, 0.165, 0.230, 0.360, 0.400, 0.420, 0.430, 0.200, 0.100])

# Land that is no parcel, by label. The first is what lies between fields.
OTHER_LAND = ("track", "conifers", "deciduous", "settlement", "water")
_CONIFERS = np.array([0.018, 0.032, 0.018, 0.045, 0.170, 0.210, 0.230, 0.240, 0.110, 0.050])
_SETTLEMENT = np.array([0.110, 0.125, 0.135, 0.150, 0.165, 0.175, 0.185, 0.190, 0.200, 0.180])
_WATER = np.array([0.045, 0.040, 0.025, 0.020, 0.015, 0.012, 0.010, 0.009, 0.006, 0.004])

CUTS_MAX = 5
_CUT_LEAVES = 0.30  # share of the green cover that a cut leaves standing
_CUT_REGROWTH_DAYS = 17.0
_SWATH_DAYS = 4.0  # how long cut grass lies drying


@dataclass(frozen=True)
class Crop:
    """A crop and its ordinary year; days are days of the year, fractions are of the ground.

    ``base`` is the green cover before the season, ``peak`` at its height; ``start`` and ``end`` are
    the days of half rise and half fall, with their widths. ``straw`` is the dry cover once ripe;
    ``harvest`` None means that the stand is never taken off. ``cuts`` is the range of mowings.
    """

    code: str
    name: str
    share: float
    base: float
    peak: float
    start: float
    start_width: float
    end: float
    end_width: float
    straw: float = 0.0
    harvest: float | None = None
    flowering: float | None = None
    catch_crop: float = 0.0
    cuts: tuple[int, int] = (0, 0)


# Codes are those of German declarations; shares are of the parcels and add up to 1.
CROPS = (
    Crop("115", "Winter wheat", 0.19, 0.26, 0.95, 96, 10, 180, 6, 0.75, 208),
    Crop("131", "Winter barley", 0.08, 0.32, 0.94, 88, 10, 164, 6, 0.72, 188, catch_crop=0.55),
    Crop("132", "Spring barley", 0.05, 0.03, 0.92, 116, 7, 182, 6, 0.70, 212, catch_crop=0.35),
    Crop("311", "Winter rapeseed", 0.08, 0.38, 0.93, 84, 9, 182, 7, 0.55, 203, 122),
    Crop("411", "Silage maize", 0.13, 0.03, 0.94, 167, 7, 266, 9, 0.35, 264),
    Crop("171", "Grain maize", 0.06, 0.03, 0.93, 168, 7, 256, 9, 0.75, 289),
    Crop("603", "Sugar beet", 0.06, 0.03, 0.95, 156, 8, 330, 12, 0.0, 294),
    Crop("602", "Potatoes", 0.05, 0.02, 0.90, 153, 7, 231, 8, 0.40, 257),
    Crop("422", "Clover-grass", 0.05, 0.48, 0.94, 96, 9, 318, 14, cuts=(3, 4)),
    Crop("451", "Meadow", 0.14, 0.44, 0.90, 98, 10, 312, 16, cuts=(1, 5)),
    Crop("453", "Pasture", 0.08, 0.44, 0.74, 98, 12, 308, 18),
    Crop("591", "Fallow", 0.03, 0.28, 0.70, 118, 14, 262, 20, 0.30),
)


def _rise(day: float, middle: Array, width: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh((day - middle) / (2.0 * width)))


@dataclass(frozen=True)
class Stand:
    """What grows on n parcels: one value per parcel in every array (float64 [n], days, fractions).

    ``crop`` int64 [n] indexes :data:`CROPS`; ``cuts`` float64 [n, 5] holds mowing days in order,
    NaN where there is none.
    """

    crop: npt.NDArray[np.int64]
    shift: Array
    vigour: Array
    soil: Array
    cuts: Array

    def __len__(self) -> int:
        """Return the number of parcels."""
        return len(self.crop)

    def _parameter(self, name: str, missing: float = np.nan) -> Array:
        values = [getattr(crop, name) for crop in CROPS]
        filled = [missing if value is None else value for value in values]
        return np.array(filled, dtype=np.float64)[self.crop]

    @property
    def harvest(self) -> Array:
        """Day of harvest, NaN where there is none (float64 [n])."""
        return np.round(self._parameter("harvest") + self.shift)

    def cover(self, day: float) -> tuple[Array, Array, Array]:
        """Fractions of green, dry and flowering cover on a day of the year (float64 [n] each)."""
        start = self._parameter("start") + self.shift
        end = self._parameter("end") + self.shift
        base, peak = self._parameter("base"), self._parameter("peak") * self.vigour
        ripe = _rise(day, end, self._parameter("end_width"))
        green = base + (peak - base) * _rise(day, start, self._parameter("start_width"))
        green = green * (1.0 - ripe)
        dry = self._parameter("straw") * self.vigour * ripe
        harvest = np.nan_to_num(self.harvest, nan=1e9)
        since = np.maximum(day - harvest, 0.0)
        stubble = 0.45 * np.exp(-since / 22.0) * (self._parameter("straw") > 0)
        catch = (
            self._parameter("catch_crop") * self.vigour * _rise(day, harvest + 48.0, start * 0 + 7)
        )
        after = day >= harvest
        green, dry = np.where(after, catch, green), np.where(after, stubble * (1 - catch), dry)
        green, dry = self._mown(day, green, dry)
        bloom = self._parameter("flowering") + self.shift
        flower = np.nan_to_num(0.55 * np.exp(-(((day - bloom) / 9.0) ** 2)), nan=0.0)
        return green * (1.0 - flower), dry, green * flower

    def _mown(self, day: float, green: Array, dry: Array) -> tuple[Array, Array]:
        done = np.where(self.cuts <= day, self.cuts, -np.inf)
        since = day - done.max(axis=1)
        grown = 1.0 - np.exp(-((since / _CUT_REGROWTH_DAYS) ** 2))
        swath = 0.30 * np.exp(-since / _SWATH_DAYS)
        return green * (_CUT_LEAVES + (1.0 - _CUT_LEAVES) * grown), dry + swath

    def reflectance(self, day: float) -> Array:
        """Reflectance of the parcels on a day of the year (float64 [n, 10], order of BANDS)."""
        green, dry, flower = self.cover(day)
        bare = np.clip(1.0 - green - dry - flower, 0.0, 1.0) * self.soil
        return np.asarray(
            np.outer(green, GREEN)
            + np.outer(dry, DRY)
            + np.outer(flower, FLOWER)
            + np.outer(bare, SOIL)
        )


def make_stand(rng: np.random.Generator, count: int) -> Stand:
    """Draw what grows on ``count`` parcels, every crop at least once where the count allows."""
    shares = np.array([crop.share for crop in CROPS])
    crop = rng.choice(len(CROPS), size=count, p=shares / shares.sum())
    first = rng.permutation(count)[: len(CROPS)]
    crop[first] = np.arange(len(first))
    return Stand(
        crop=crop.astype(np.int64),
        shift=np.asarray(np.clip(rng.normal(0.0, 4.0, count), -9.0, 9.0).round(), np.float64),
        vigour=rng.uniform(0.86, 1.03, count),
        soil=rng.uniform(0.80, 1.15, count),
        cuts=_draw_cuts(rng, crop),
    )


def _draw_cuts(rng: np.random.Generator, crop: npt.NDArray[np.int64]) -> Array:
    """Mowing days: the more cuts, the earlier the first and the closer the rest."""
    cuts = np.full((len(crop), CUTS_MAX), np.nan)
    for row, index in enumerate(crop):
        low, high = CROPS[index].cuts
        if high == 0:
            continue
        number = int(rng.integers(low, high + 1))
        first = 178 - 12 * number + rng.integers(-6, 7)
        gaps = rng.integers(30, 42, CUTS_MAX) + 12 * (CUTS_MAX - number)
        days = first + np.concatenate(([0], np.cumsum(gaps)[:-1]))
        kept = days[:number][days[:number] <= 283]
        cuts[row, : len(kept)] = kept
    return cuts


def other_land_reflectance(day: float) -> Array:
    """Reflectance of the land between and beside parcels (float64 [5, 10], order of OTHER_LAND)."""
    leaves = float(
        _rise(day, np.array(112.0), np.array(6.0)) - _rise(day, np.array(292.0), np.array(8.0))
    )
    grass = 0.45 + 0.25 * leaves
    return np.stack(
        [
            grass * GREEN + (1.0 - grass) * SOIL,
            _CONIFERS,
            0.62 * (leaves * GREEN + (1.0 - leaves) * 0.75 * DRY),
            _SETTLEMENT,
            _WATER,
        ]
    )


def ndvi(reflectance: Array) -> Array:
    """NDVI from B08 and B04 of reflectance [..., 10] (Rouse et al. 1974)."""
    red, nir = reflectance[..., BANDS.index("B04")], reflectance[..., BANDS.index("B08")]
    return np.asarray((nir - red) / (nir + red))
