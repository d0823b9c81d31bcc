"""Facts about Sentinel-2 L2A products: bands, and what names and identifiers say.

Source: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), and the naming convention
on SentiWiki, "S2 Products".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cbm_extract.catalogue import names

CARD = "s2"
CLASSIFICATION = "SCL"
# Raw values that are no observation: no data, saturated. The same in all baselines.
SPECIAL_VALUES = (0.0, 65535.0)
# Metres, as ESA delivers the band; L2A has no B10.
RESOLUTION = {
    "B01": 60,
    "B02": 10,
    "B03": 10,
    "B04": 10,
    "B05": 20,
    "B06": 20,
    "B07": 20,
    "B08": 10,
    "B8A": 20,
    "B09": 60,
    "B11": 20,
    "B12": 20,
    CLASSIFICATION: 20,
}
# The numbers that MTD_MSIL2A.xml counts bands by (10 is B10).
BAND_IDS = {
    **dict(enumerate(("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09"))),
    11: "B11",
    12: "B12",
}
# STAC's common names. "rededge" alone stands for three bands and is not among them.
COMMON_NAMES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "swir16": "B11",
    "swir22": "B12",
    "scl": CLASSIFICATION,
}

_NAME = re.compile(
    r"(S2[A-Z])_MSI(L\w\w)_(\d{8}T\d{6})_(?:(N\d{4})_)?(R\d{3})_T(\w{5})_(\d{8}T\d{6})"
    r"(?:\.SAFE)?"
)
_BAND = re.compile(r"B0?([0-9]|1[0-2]|8A)", re.IGNORECASE)


@dataclass(frozen=True)
class ProductName:
    """What the name of a product says; ``time`` stands for the generation, to tell versions apart.

    Planetary Computer's item names leave the baseline out.
    """

    platform: str
    level: str
    datatake_start: datetime
    baseline: str | None
    relative_orbit: int
    tile: str
    time: datetime


def parse_name(text: str) -> ProductName | None:
    """Read a product's name, with or without ``.SAFE``; None for any other text."""
    match = _NAME.fullmatch(text.strip())
    if not match:
        return None
    return ProductName(
        platform=match[1],
        level=match[2],
        datatake_start=names.compact_utc(match[3]),
        baseline=match[4],
        relative_orbit=names.relative_orbit(match[5]),
        tile=match[6],
        time=names.compact_utc(match[7]),
    )


def reference(text: str) -> str:
    """Spell a product's name as ESA does, with ``.SAFE``; other names stay as they are."""
    name = parse_name(text)
    complete = name is not None and name.baseline is not None
    return f"{text.removesuffix('.SAFE')}.SAFE" if complete else text


def band(text: str) -> str | None:
    """Return the name of a band: ``B4``, ``b04``, ``red`` are ``B04``; None for anything else."""
    match = _BAND.fullmatch(text)
    if match:
        code = match[1].upper()
        name = "B8A" if code == "8A" else f"B{int(code):02}"
    else:
        name = COMMON_NAMES.get(text.lower(), "")
    return name if name in RESOLUTION else None


def datatake_start(identifier: str) -> datetime | None:
    """Return the time in a datatake identifier such as ``GS2A_20190212T192651_019029_N02.12``."""
    match = re.search(r"S2[A-Z]_(\d{8}T\d{6})_", identifier)
    return names.compact_utc(match[1]) if match else None


def datastrip_start(identifier: str) -> datetime | None:
    """Return the sensing start in a datastrip identifier, ``..._S20190212T192646_N02.12``."""
    match = re.search(r"_S(\d{8}T\d{6})", identifier)
    return names.compact_utc(match[1]) if match else None
