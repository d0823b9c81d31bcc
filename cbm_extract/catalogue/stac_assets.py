"""Which assets of a STAC item are which bands, and how their values are to be read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cbm_core.errors import CbmError
from cbm_extract.catalogue import offsets, sentinel2
from cbm_extract.catalogue.documents import Item

_NO_DATA_ROLES = {"thumbnail", "overview", "visual", "metadata"}
_PICTURES = re.compile(r"(visual|tci|preview|overview|thumbnail|pvi)", re.IGNORECASE)
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "image/geotiff")
_KEY = re.compile(r"(?P<name>.+?)(?:[-_](?P<metres>10|20|60)m)?(?P<jp2>[-_]jp2)?", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """An asset chosen for a band; ``href`` is as the item has it."""

    band: str
    key: str
    href: str
    index: int
    metres: float | None
    asset: dict[str, Any]

    @property
    def preference(self) -> tuple[float, bool, str]:
        """Order the assets of one band: nearest ESA's resolution, then GeoTIFF before JP2."""
        native = sentinel2.RESOLUTION[self.band]
        distance = abs(math.log(self.metres / native)) if self.metres else 0.0
        jp2 = "jp2" in str(self.asset.get("type", "")) or self.href.lower().endswith(".jp2")
        return distance, jp2, self.key


def choose(item: Item) -> dict[str, Choice]:
    """Return the best asset per Sentinel-2 band, by band name."""
    best: dict[str, Choice] = {}
    assets = item.document.get("assets")
    for key, asset in (assets if isinstance(assets, dict) else {}).items():
        for choice in _choices(str(key), asset):
            rival = best.get(choice.band)
            if rival is None or choice.preference < rival.preference:
                best[choice.band] = choice
    return {band: best[band] for band in sentinel2.RESOLUTION if band in best}


def _choices(key: str, asset: Any) -> Iterator[Choice]:
    if not is_raster(asset) or _PICTURES.match(key):
        return
    described = bands_of(asset)
    match = _KEY.fullmatch(key)
    name = match["name"] if match else key
    for index in range(1, max(len(described), 1) + 1):
        own = described[index - 1] if described else {}
        spellings = [own.get("name"), own.get("common_name"), own.get("eo:common_name")]
        if len(described) < 2:
            spellings.insert(0, name)
        band = next(filter(None, (sentinel2.band(str(s)) for s in spellings if s)), None)
        if band:
            yield Choice(band, key, asset["href"], index, _metres(key, asset), asset)


def is_raster(asset: Any) -> bool:
    """Tell whether an asset is a raster of data, not a picture of one."""
    if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
        return False
    kind = str(asset.get("type") or "image/tiff").split(";")[0].strip()
    return kind in _RASTER_TYPES and not _NO_DATA_ROLES & set(asset.get("roles") or [])


def bands_of(asset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bands an asset describes: STAC 1.1's ``bands`` or ``eo:bands``."""
    for name in ("bands", "eo:bands"):
        value = asset.get(name)
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            return value
    return []


def _metres(key: str, asset: dict[str, Any]) -> float | None:
    """Return the pixel size in metres that an asset claims, None where it does not."""
    match = _KEY.fullmatch(key)
    transform = asset.get("proj:transform")
    said: list[Any] = [
        match["metres"] if match else None,
        transform[0] if isinstance(transform, list) and transform else None,
        raster_bands(asset, 1).get("spatial_resolution"),
        asset.get("gsd"),
    ]
    for value in said:
        try:
            metres = float(value)
        except (TypeError, ValueError):
            continue
        if metres > 0:
            return metres
    return None


def raster_bands(asset: dict[str, Any], index: int) -> dict[str, Any]:
    """Return scale, offset and nodata of a band, wherever this version of STAC keeps them."""
    result: dict[str, Any] = {"nodata": asset["nodata"]} if "nodata" in asset else {}
    places = [asset]
    for name in ("raster:bands", "bands"):
        value = asset.get(name)
        if isinstance(value, list) and len(value) >= index and isinstance(value[index - 1], dict):
            places.append(value[index - 1])
            result |= value[index - 1]
    for place in places:
        for name in ("scale", "offset", "spatial_resolution"):
            if f"raster:{name}" in place:
                result[name] = place[f"raster:{name}"]
    return result


def mapping(choice: Choice, item: Item) -> offsets.Mapping:
    """Return scale and offset for a chosen asset.

    Raises:
        CbmError: ``offset_ambiguous``.

    """
    properties = item.document.get("properties") or {}
    declared = raster_bands(choice.asset, choice.index)
    return offsets.from_item(sentinel2.CARD, choice.band, item.collection, properties, declared)


def nodata(choice: Choice, item: Item) -> tuple[float, ...]:
    """Return the raw values that are no observation; ESA's special values where ESA's they are.

    Raises:
        CbmError: ``nodata_invalid``.

    """
    if choice.band == sentinel2.CLASSIFICATION:
        return ()
    known = item.collection in offsets.S2_COLLECTIONS
    values = set(sentinel2.SPECIAL_VALUES if known else ())
    declared = raster_bands(choice.asset, choice.index).get("nodata")
    if declared is not None:
        try:
            values.add(float(declared))
        except (TypeError, ValueError):
            raise CbmError(
                "nodata_invalid", f"{choice.key} declares nodata {declared!r}; expected a number."
            ) from None
    return tuple(sorted(value for value in values if math.isfinite(value)))
