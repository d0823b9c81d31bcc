"""STAC items of Sentinel-1 backscatter that is calibrated and geocoded.

Specifications: the extensions sar, sat, view, proj and raster. Read are such as the collections of
radiometrically terrain-corrected scenes (RTC) of Planetary Computer and of AWS Open Data: one
raster of linear power per polarisation. Products of level 1 (GRD, SLC) hold uncalibrated numbers in
the radar's own geometry and are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

from cbm_core.errors import CbmError
from cbm_extract.catalogue import documents, names, sentinel1, stac_assets, stac_places
from cbm_extract.catalogue.documents import Item, Rewrites
from cbm_extract.catalogue.facts import Facts
from cbm_extract.catalogue.stac_properties import Properties
from cbm_extract.read.gdal import local_path
from cbm_extract.scene import BandAsset, Scene

# Planetary Computer copies the product type of what its RTC was made from.
_GEOCODED_COLLECTIONS = {"sentinel-1-rtc"}
_RAW_TYPES = {"RAW", "SLC", "GRD", "OCN"}
_KEY = re.compile(r"(?:.*[-_])?(VV|VH)", re.IGNORECASE)


def is_meant(says: Properties) -> bool:
    """Tell whether an item is of Sentinel-1."""
    platform = str(says.values.get("platform") or says.values.get("constellation") or "")
    return platform.lower().replace("-", "").startswith(("sentinel1", "s1"))


def read_item(item: Item, says: Properties, rewrites: Rewrites) -> tuple[Scene, list[str]]:
    """Read one item; returns the scene and what a person should know about it.

    Raises:
        CbmError: ``item_invalid``, ``item_unsupported``, ``scene_without_images``, and those of
            times, footprints and rasters.

    """
    _check_type(item, says)
    remarks: list[str] = []
    facts = sentinel1.complete(sentinel1.BACKSCATTER, _facts(item, says))
    if facts.sensing is None or facts.datatake is None or facts.platform is None:
        raise says.invalid("it has no datetime")
    chosen = _chosen(item)
    assets = _assets(item, chosen, rewrites, remarks)
    files = [(chosen[band], asset.href) for band, asset in assets.items()]
    extent = stac_places.extent(item, files)
    scene = Scene(
        reference=says.reference,
        card=sentinel1.BACKSCATTER,
        platform=facts.platform,
        obstime=facts.sensing,
        datatake_start=names.whole_second(facts.datatake),
        tile=says.tile,
        extent=extent,
        footprint=stac_places.area(item, extent, remarks),
        assets=assets,
        datastrip=facts.datastrip,
        orbit_direction=facts.orbit_direction,
        relative_orbit=facts.orbit,
        absolute_orbit=facts.absolute_orbit,
        incidence_angle=facts.incidence_angle,
        source=item.base,
    )
    return scene, remarks


def _check_type(item: Item, says: Properties) -> None:
    kind = str(says.values.get("sar:product_type") or "").upper()
    if kind in _RAW_TYPES and item.collection not in _GEOCODED_COLLECTIONS:
        raise CbmError(
            "item_unsupported",
            f"{item.document.get('id')} is of type {kind}: uncalibrated, in the radar's geometry.",
            "Take a collection of geocoded backscatter, such as sentinel-1-rtc.",
        )


def _facts(item: Item, says: Properties) -> Facts:
    said = Facts(
        platform=says.platform,
        sensing=says.time("start_datetime", "datetime"),
        absolute_orbit=_whole(says, "sat:absolute_orbit"),
        orbit=says.relative_orbit,
        orbit_direction=says.orbit_direction,
        incidence_angle=_angle(says),
    )
    return said.or_else(sentinel1.from_name(sentinel1.BACKSCATTER, str(item.document.get("id"))))


def _whole(says: Properties, name: str) -> int | None:
    value = says.values.get(name)
    return None if value is None else names.absolute_orbit(str(value))


def _angle(says: Properties) -> float | None:
    value = says.values.get("view:incidence_angle")
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise says.invalid(f"view:incidence_angle is {value!r}") from None


def _chosen(item: Item) -> dict[str, dict[str, Any]]:
    """Return the assets of VV and VH by band: keys such as ``vv`` and ``gamma0_vv``."""
    assets = item.document.get("assets")
    found: dict[str, dict[str, Any]] = {}
    for key, asset in (assets if isinstance(assets, dict) else {}).items():
        match = _KEY.fullmatch(str(key))
        if match and stac_assets.is_raster(asset):
            found.setdefault(match[1].upper(), asset)
    return {band: found[band] for band in sentinel1.BANDS if band in found}


def _assets(
    item: Item, chosen: dict[str, dict[str, Any]], rewrites: Rewrites, remarks: list[str]
) -> dict[str, BandAsset]:
    assets: dict[str, BandAsset] = {}
    for band, asset in chosen.items():
        href = documents.resolve(item.base, asset["href"], rewrites)
        path = local_path(href)
        if path is not None and not path.is_file():
            remarks.append(f"no file for {band}; left out")
            continue
        declared = stac_assets.raster_bands(asset, 1)
        mapped = "scale" in declared or "offset" in declared
        assets[band] = BandAsset(
            href=href,
            scale=_number(declared.get("scale", 1.0), band),
            offset=_number(declared.get("offset", 0.0), band),
            nodata=_nodata(declared.get("nodata"), band),
            offset_source="raster_bands" if mapped else "none",
        )
    if not assets:
        raise CbmError(
            "scene_without_images",
            f"The item {item.document.get('id')} has no usable asset for VV or VH.",
            "Correct the item's assets, or name --rewrite FROM=TO for a local mirror.",
        )
    return assets


def _nodata(declared: Any, band: str) -> tuple[float, ...]:
    values = {*sentinel1.NO_DATA}
    if declared is not None:
        values.add(_number(declared, band))
    return tuple(sorted(value for value in values if math.isfinite(value)))


def _number(value: Any, band: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise CbmError(
            "item_invalid", f"raster:bands of {band} has {value!r}; expected a number."
        ) from None
