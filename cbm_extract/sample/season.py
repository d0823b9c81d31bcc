"""Which acquisitions the sample has, and how ESA would name them.

One relative orbit seen by Sentinel-2A and 2B in turn, every five days. Of the year 2021 archives
really hold a mixture: products as first processed (N0300: no offset) and products reprocessed later
(N0500: radiometric offset -1000), some acquisitions as both. The tile 32UAA does not exist (the
grid has no column A in zone 32), so a sample can never be taken for one of ESA's products.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

YEAR = 2021
TILE = "32UAA"
RELATIVE_ORBIT = 65
FIRST_PASS = date(YEAR, 3, 2)
PASSES = 49  # to 28 October
REPROCESSED_FROM = date(YEAR, 7, 1)

_OVERPASS = timedelta(hours=10, minutes=20, seconds=21)
_LATITUDE, _LONGITUDE = 48.5, 11.1


@dataclass(frozen=True)
class Product:
    """One processing of an acquisition: ``baseline`` as in names, ``offset`` in raw units."""

    baseline: str
    offset: int
    generated: datetime
    superseded: bool = False


@dataclass(frozen=True)
class Acquisition:
    """One pass over the tile.

    ``cloud_share`` and ``cirrus_share`` are wanted shares of the area; ``edge`` says that the
    swath ends within the tile; ``missing`` names bands that the products lack.
    """

    number: int
    day: date
    platform: str
    cloud_share: float
    cirrus_share: float
    edge: bool
    missing: tuple[str, ...]
    products: tuple[Product, ...]

    @property
    def datatake(self) -> datetime:
        """Start of the datatake, UTC."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + _OVERPASS

    @property
    def datastrip(self) -> datetime:
        """Start of the datastrip, UTC: a little after the datatake's."""
        return self.datatake + timedelta(seconds=17)

    @property
    def sensing(self) -> datetime:
        """When the tile itself was seen, UTC: minutes after the datatake's start."""
        return self.datatake + timedelta(minutes=7, seconds=12, milliseconds=345)

    @property
    def day_of_year(self) -> float:
        """Day of the year, 1 for 1 January."""
        return float(self.day.timetuple().tm_yday)

    @property
    def absolute_orbit(self) -> int:
        """Number of the orbit (143 in ten days)."""
        return 29_700 + 143 * (self.day - FIRST_PASS).days // 10

    @property
    def sun(self) -> tuple[float, float]:
        """Azimuth and elevation of the sun over the sample, degrees.

        Declination by Cooper (1969), hour angle from mean solar time: good to about a degree.
        """
        declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + self.day_of_year) / 365)
        hours = (self.sensing - self.sensing.replace(hour=12, minute=0, second=0)).total_seconds()
        angle = np.radians(hours / 240 + _LONGITUDE)
        latitude = np.radians(_LATITUDE)
        sine = np.sin(latitude) * np.sin(declination)
        sine += np.cos(latitude) * np.cos(declination) * np.cos(angle)
        elevation = np.arcsin(sine)
        cosine = np.sin(declination) - np.sin(latitude) * sine
        cosine /= np.cos(latitude) * np.cos(elevation)
        azimuth = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return float(azimuth if angle < 0 else 360 - azimuth), float(np.degrees(elevation))

    def reference(self, product: Product) -> str:
        """Name of a product, as ESA would name it, without ``.SAFE``."""
        return (
            f"S2{self.platform}_MSIL2A_{self.datatake:%Y%m%dT%H%M%S}_{product.baseline}_"
            f"R{RELATIVE_ORBIT:03d}_T{TILE}_{product.generated:%Y%m%dT%H%M%S}"
        )

    def item(self, product: Product) -> str:
        """Return the identifier of a product's STAC item, also its folder's name."""
        return f"S2{self.platform}_{TILE}_{self.day:%Y%m%d}_{product.baseline}"


def make_season(rng: np.random.Generator, count: int) -> list[Acquisition]:
    """Choose ``count`` passes from March to October with their weather and their oddities.

    Two in five are nearly free of clouds, one in seven is nearly closed. One acquisition before
    July comes in both baselines, one is cut by the swath's edge and one lacks a band.
    """
    passes = np.unique(np.linspace(0, PASSES - 1, count).round().astype(int))
    shares = np.select(
        [
            np.arange(count) < 0.40 * count,
            np.arange(count) < 0.60 * count,
            np.arange(count) < 0.86 * count,
        ],
        [np.zeros(count), rng.uniform(0.02, 0.15, count), rng.uniform(0.2, 0.6, count)],
        rng.uniform(0.7, 0.96, count),
    )
    shares = rng.permutation(shares)
    cirrus = np.where(rng.random(count) < 0.2, rng.uniform(0.03, 0.25, count), 0.0)
    # The oddities stand on fairly clear dates, where they can be seen.
    twice, edge, lacking = count // 4, count // 2, (3 * count) // 4
    shares[[twice, edge, lacking]] = np.minimum(shares[[twice, edge, lacking]], 0.10)
    cirrus[twice] = 0.05
    days = [FIRST_PASS + timedelta(days=5 * int(number)) for number in passes]
    return [
        Acquisition(
            number=number,
            day=day,
            platform="AB"[int(passes[number]) % 2],
            cloud_share=float(shares[number]),
            cirrus_share=float(cirrus[number]),
            edge=number == edge,
            missing=("B11",) if number == lacking else (),
            products=_products(day, number, twice=number == twice),
        )
        for number, day in enumerate(days)
    ]


def _products(day: date, number: int, *, twice: bool) -> tuple[Product, ...]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first = Product("N0300", 0, start + timedelta(hours=14, minutes=number), superseded=twice)
    again = Product("N0500", -1000, datetime(2023, 2, 1, 3, number, 7, tzinfo=UTC))
    if twice:
        return (first, again)
    return (again,) if day >= REPROCESSED_FROM else (first,)
