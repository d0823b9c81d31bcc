"""Static STAC: catalogues, collections, items and lists of items of Sentinel-2 L2A.

Items of Sentinel-1 are read by :mod:`cbm_extract.catalogue.stac_sentinel1`.

Specifications: STAC 1.0 and 1.1, and the extensions eo, raster, proj, sat, grid, mgrs, processing,
s2; also the ``sentinel:`` properties of Earth Search v0.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.catalogue import (
    documents,
    names,
    sentinel2,
    stac_assets,
    stac_places,
    stac_sentinel1,
)
from cbm_extract.catalogue.documents import Item, Loader, Rewrites, Walk
from cbm_extract.catalogue.reading import Reading
from cbm_extract.catalogue.stac_properties import UNKNOWN_PLATFORM, Properties
from cbm_extract.read.gdal import local_path
from cbm_extract.scene import BandAsset, Scene


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
    says = Properties(item)
    if stac_sentinel1.is_meant(says):
        return stac_sentinel1.read_item(item, says, rewrites)
    remarks: list[str] = []
    says.check_level()
    choices = stac_assets.choose(item)
    assets = _assets(item, choices, rewrites, remarks)
    order = sorted(assets, key=lambda band: choices[band].metres or 0.0)
    extent = stac_places.extent(item, [(choices[b].asset, assets[b].href) for b in order])
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
        footprint=stac_places.area(item, extent, remarks),
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
