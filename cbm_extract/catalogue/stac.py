"""Static STAC: catalogues, collections, items and lists of items of Sentinel-2 L2A.

Specifications: STAC 1.0 and 1.1, and the extensions eo, raster, proj, sat, grid, mgrs, processing,
s2; also the ``sentinel:`` properties of Earth Search v0.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.catalogue import documents, footprint, names, offsets, sentinel2, stac_assets
from cbm_extract.catalogue.documents import Item, Loader, Rewrites, Walk
from cbm_extract.catalogue.reading import Reading
from cbm_extract.read.gdal import local_path
from cbm_extract.read.header import inspect
from cbm_extract.scene import BandAsset, Extent, Scene

_PREFIXES = ("s2:", "sentinel2:", "sentinel:", "eopf:", "")
# The level at the end of L2A, S2MSI1C, or before the suffix of S2MSI_L3__MCQ.
_LEVEL = re.compile(r"([1-3][A-C]?)(?:_|$)")
UNKNOWN_PLATFORM = "unknown"


def read(address: str, rewrites: Rewrites | None = None) -> Reading:
    """Read every item under an address (a path or URL); unusable ones are skipped and reported.

    Raises:
        CbmError: as :meth:`cbm_extract.catalogue.documents.Walk.items` does, ``no_scenes``, or the
            only item's own error.

    """
    rewrites = rewrites or Rewrites()
    start = address if documents.is_url(address) else str(Path(address).absolute())
    reading = Reading()
    notes: Counter[str] = Counter()
    with step("Reading items", None, "items") as progress:
        for item in Walk(Loader(), rewrites, reading).items(start):
            name = str(item.document.get("id") or item.base)
            try:
                scene, remarks = read_item(item, rewrites)
                reading.scenes.append(scene)
                notes.update(remarks)
            except CbmError as error:
                reading.skip(name, error)
            progress.advance()
    reading.warnings += [f"{count} item(s): {note}" for note, count in sorted(notes.items())]
    return reading.fail_if_empty(start)


def read_item(item: Item, rewrites: Rewrites) -> tuple[Scene, list[str]]:
    """Read one item; returns the scene and what a person should know about it.

    Raises:
        CbmError: ``item_invalid``, ``item_unsupported``, ``scene_without_images``, and those of
            times, offsets, footprints and (where the item does not say its extent) rasters.

    """
    remarks: list[str] = []
    says = _Properties(item)
    says.check_level()
    choices = stac_assets.choose(item)
    assets = _assets(item, choices, rewrites, remarks)
    extent = _extent(item, {band: choices[band] for band in assets}, assets)
    obstime = says.time("datetime", "start_datetime")
    if obstime is None:
        raise says.invalid("it has no datetime")
    start = says.datatake_start
    if start is None:
        remarks.append("no datatake is named; the datetime stands for its start")
    platform = says.platform
    if platform == UNKNOWN_PLATFORM:
        remarks.append("no platform is named")
    scene = Scene(
        reference=says.reference,
        card=sentinel2.CARD,
        platform=platform,
        obstime=obstime,
        datatake_start=names.whole_second(start or obstime),
        tile=says.tile,
        extent=extent,
        footprint=_footprint(item, extent, remarks),
        assets=assets,
        datastrip=sentinel2.datastrip_start(str(says.find("datastrip_id") or "")),
        orbit_direction=says.orbit_direction,
        relative_orbit=says.relative_orbit,
        baseline=says.baseline,
        generation_time=says.generation_time,
        cloud_percent=says.cloud_percent,
        source=item.base,
    )
    return scene, remarks


def _footprint(item: Item, extent: Extent, remarks: list[str]) -> bytes:
    area = footprint.from_geojson(item.document.get("geometry"))
    if area is None:
        remarks.append("no geometry; the raster's rectangle stands for the footprint")
        area = footprint.from_extent(extent)
    return area


@dataclass(frozen=True)
class _Properties:
    """What an item's properties and names say, under whichever spelling."""

    item: Item

    @property
    def values(self) -> dict[str, Any]:
        properties = self.item.document.get("properties")
        if not isinstance(properties, dict):
            raise self.invalid("it has no properties")
        return properties

    def invalid(self, why: str) -> CbmError:
        return CbmError(
            "item_invalid",
            f"The item {self.item.document.get('id')} in {self.item.base} is not usable: {why}.",
            "Correct the item.",
        )

    def find(self, name: str) -> Any:
        """Return a property under any of the prefixes in use, None without it."""
        found = (self.values.get(f"{prefix}{name}") for prefix in _PREFIXES)
        return next((value for value in found if value is not None), None)

    def time(self, *keys: str) -> datetime | None:
        for key in keys:
            if self.values.get(key):
                return names.utc(str(self.values[key]), naive_is_utc=False)
        return None

    @property
    def product(self) -> sentinel2.ProductName | None:
        """The ESA product's name, from the properties or as the item's id."""
        said = [self.find("product_uri"), self.find("product_id"), self.item.document.get("id")]
        found = (sentinel2.parse_name(str(text)) for text in said if text)
        return next((name for name in found if name), None)

    def check_level(self) -> None:
        """Refuse items that say they are of another level than L2A."""
        said = [
            self.product.level if self.product else "",
            str(self.values.get("processing:level") or "").removeprefix("Level-"),
            str(self.find("product_type") or self.values.get("product:type") or ""),
        ]
        for text in said:
            level = _LEVEL.search(text)
            if level and level[1] not in {"2A", "2"}:
                raise CbmError(
                    "item_unsupported",
                    f"{self.item.document.get('id')} is of level {text}; expected L2A.",
                    "Leave it out, or take the L2A collection.",
                )

    @property
    def reference(self) -> str:
        """The product's full name where the item tells it, the item's id otherwise."""
        for text in (self.find("product_uri"), self.find("product_id")):
            name = sentinel2.parse_name(str(text or ""))
            if name and name.baseline:
                return sentinel2.reference(str(text))
        identifier = self.item.document.get("id")
        if not identifier:
            raise self.invalid("it has no id")
        return sentinel2.reference(str(identifier))

    @property
    def platform(self) -> str:
        said = self.values.get("platform") or (self.product and self.product.platform)
        return names.platform(str(said or self.values.get("constellation") or UNKNOWN_PLATFORM))

    @property
    def datatake_start(self) -> datetime | None:
        said = sentinel2.datatake_start(str(self.find("datatake_id") or ""))
        return said or (self.product.datatake_start if self.product else None)

    @property
    def tile(self) -> str:
        said = self.values.get("grid:code") or self.find("mgrs_tile")
        if said:
            return names.tile(str(said))
        for prefix in ("mgrs:", "sentinel:"):
            parts = [
                self.values.get(f"{prefix}{name}")
                for name in ("utm_zone", "latitude_band", "grid_square")
            ]
            if all(parts):
                return names.tile("".join(str(part) for part in parts))
        return self.product.tile if self.product else ""

    @property
    def baseline(self) -> str | None:
        said = offsets.baseline_of(self.values) or self.find("processing_baseline")
        if said:
            return names.baseline(str(said))
        return self.product.baseline if self.product else None

    @property
    def generation_time(self) -> datetime | None:
        said = self.find("generation_time") or self.values.get("processing:datetime")
        if said:
            return names.utc(str(said), naive_is_utc=False)
        return self.product.time if self.product else None

    @property
    def relative_orbit(self) -> int | None:
        said = self.values.get("sat:relative_orbit")
        if said is not None:
            return names.relative_orbit(str(said))
        return self.product.relative_orbit if self.product else None

    @property
    def orbit_direction(self) -> str | None:
        said = self.values.get("sat:orbit_state")
        return names.orbit_direction(str(said)) if said else None

    @property
    def cloud_percent(self) -> float | None:
        said = self.values.get("eo:cloud_cover")
        if said is None:
            return None
        try:
            return float(said)
        except (TypeError, ValueError):
            raise self.invalid(f"eo:cloud_cover is {said!r}") from None


def _assets(
    item: Item, choices: dict[str, stac_assets.Choice], rewrites: Rewrites, remarks: list[str]
) -> dict[str, BandAsset]:
    assets: dict[str, BandAsset] = {}
    absent, unscaled = [], []
    for band, choice in choices.items():
        href = documents.resolve(item.base, choice.href, rewrites)
        path = local_path(href)
        if path is not None and not path.is_file():
            absent.append(band)
            continue
        mapping = stac_assets.mapping(choice, item)
        if mapping.source == "none" and band != sentinel2.CLASSIFICATION:
            unscaled.append(band)
        assets[band] = BandAsset(
            href=href,
            index=choice.index,
            scale=mapping.scale,
            offset=mapping.offset,
            nodata=stac_assets.nodata(choice, item),
            offset_source=mapping.source,
        )
    if not assets:
        raise CbmError(
            "scene_without_images",
            f"The item {item.document.get('id')} has no usable asset for any Sentinel-2 band"
            f" ({len(choices)} named, none there).",
            "Correct the item's assets, or name --rewrite FROM=TO for a local mirror.",
        )
    if absent:
        remarks.append(f"no file for {', '.join(absent)}; left out")
    if unscaled:
        remarks.append(
            f"no scale for {', '.join(unscaled)}; taken as reflectance x 10000 without offset"
        )
    return assets


def _extent(
    item: Item, choices: dict[str, stac_assets.Choice], assets: dict[str, BandAsset]
) -> Extent:
    """Return the finest band's rectangle: as the item says, else as the raster's header does."""
    order = sorted(choices, key=lambda band: choices[band].metres or 0.0)
    for band in order:
        extent = _declared_extent(item, choices[band].asset)
        if extent:
            return extent
    return inspect(assets[order[0]].href).extent


def _declared_extent(item: Item, asset: dict[str, Any]) -> Extent | None:
    properties = item.document.get("properties") or {}
    merged = {**properties, **asset}
    code = merged.get("proj:code")
    if not code and merged.get("proj:epsg"):
        code = f"EPSG:{merged['proj:epsg']}"
    transform, shape = merged.get("proj:transform"), merged.get("proj:shape")
    if not isinstance(code, str) or not isinstance(transform, list) or not isinstance(shape, list):
        return None
    try:
        a, b, left, d, e, top = (float(value) for value in transform[:6])
        rows, columns = (int(value) for value in shape)
    except (TypeError, ValueError):
        return None
    if b or d or a <= 0 or e >= 0:
        return None
    return Extent(code.upper(), (left, top + rows * e, left + columns * a, top))
