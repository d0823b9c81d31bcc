"""The spectral indices that products may name, and where they come from.

All are quotients of linear combinations of reflectances (0-1, offset applied), computed per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

# The stored unit of card s2 is reflectance times this.
REFLECTANCE_SCALE = 10_000.0


@dataclass(frozen=True)
class Index:
    """``factor * (numerator . bands + numerator_constant) / (denominator . bands + ...)``.

    ``numerator`` and ``denominator`` hold a coefficient for each of ``bands`` (names of card s2).
    """

    name: str
    title: str
    source: str
    bands: tuple[str, ...]
    numerator: tuple[float, ...]
    denominator: tuple[float, ...]
    numerator_constant: float = 0.0
    denominator_constant: float = 0.0
    factor: float = 1.0
    card: str = "s2"


def _difference(name: str, title: str, source: str, plus: str, minus: str) -> Index:
    """(plus - minus) / (plus + minus)."""
    return Index(name, title, source, (plus, minus), (1.0, -1.0), (1.0, 1.0))


_TABLE = (
    _difference(
        "NDVI",
        "Normalised difference vegetation index",
        "Rouse et al. 1974, NASA SP-351",
        "B08",
        "B04",
    ),
    _difference(
        "NDVI_B8A",
        "NDVI with the narrow near infrared, 20 m",
        "Rouse et al. 1974, NASA SP-351",
        "B8A",
        "B04",
    ),
    Index(
        "EVI2",
        "Two-band enhanced vegetation index",
        "Jiang et al. 2008, Remote Sensing of Environment 112",
        ("B08", "B04"),
        (1.0, -1.0),
        (1.0, 2.4),
        denominator_constant=1.0,
        factor=2.5,
    ),
    Index(
        "SAVI",
        "Soil-adjusted vegetation index, L = 0.5",
        "Huete 1988, Remote Sensing of Environment 25",
        ("B08", "B04"),
        (1.0, -1.0),
        (1.0, 1.0),
        denominator_constant=0.5,
        factor=1.5,
    ),
    _difference(
        "NDRE",
        "Normalised difference red edge",
        "Barnes et al. 2000, 5th Int. Conf. on Precision Agriculture",
        "B8A",
        "B05",
    ),
    Index(
        "CIRE",
        "Red-edge chlorophyll index, B07 / B05 - 1",
        "Gitelson et al. 2003, Journal of Plant Physiology 160",
        ("B07", "B05"),
        (1.0, -1.0),
        (0.0, 1.0),
    ),
    _difference(
        "NDWI",
        "Normalised difference water index of leaves",
        "Gao 1996, Remote Sensing of Environment 58",
        "B8A",
        "B11",
    ),
    _difference(
        "NDWI_MCFEETERS",
        "Normalised difference water index of open water",
        "McFeeters 1996, Int. Journal of Remote Sensing 17",
        "B03",
        "B08",
    ),
    _difference(
        "NDMI",
        "Normalised difference moisture index",
        "Wilson and Sader 2002, Remote Sensing of Environment 80",
        "B08",
        "B11",
    ),
    _difference(
        "NBR",
        "Normalised burn ratio",
        "Key and Benson 2006, USDA RMRS-GTR-164",
        "B08",
        "B12",
    ),
    _difference(
        "NDTI",
        "Normalised difference tillage index",
        "van Deventer et al. 1997, Photogrammetric Engineering and Remote Sensing 63",
        "B11",
        "B12",
    ),
    Index(
        "BSI",
        "Bare soil index",
        "Rikimaru et al. 2002, Tropical Ecology 43",
        ("B11", "B04", "B08", "B02"),
        (1.0, 1.0, -1.0, -1.0),
        (1.0, 1.0, 1.0, 1.0),
    ),
    Index(
        "PSRI",
        "Plant senescence reflectance index, (B04 - B02) / B06",
        "Merzlyak et al. 1999, Physiologia Plantarum 106",
        ("B04", "B02", "B06"),
        (1.0, -1.0, 0.0),
        (0.0, 0.0, 1.0),
    ),
)

INDICES: dict[str, Index] = {index.name: index for index in _TABLE}
