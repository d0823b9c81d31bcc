"""Sentinel-2 L2A products as ESA delivers them: SAFE folders with JPEG 2000 bands.

Source of the layout and the formulas: Sentinel-2 Products Specification Document, sections on
Level-2A user product and granule metadata (MTD_MSIL2A.xml, MTD_TL.xml).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.catalogue import footprint, names, offsets, sentinel2
from cbm_extract.catalogue.reading import Reading
from cbm_extract.catalogue.xml import Document
from cbm_extract.scene import BandAsset, Extent, Scene

PRODUCT_FILE = "MTD_MSIL2A.xml"
GRANULE_FILE = "MTD_TL.xml"


def find_products(folder: Path) -> list[Path]:
    """Return the L2A products in a folder tree (the folder itself, if it is one), sorted."""
    found = []
    for place, folders, files in os.walk(folder):
        if PRODUCT_FILE in files:
            found.append(Path(place))
            folders.clear()
        folders.sort()
    return sorted(found)


def read(folder: Path) -> Reading:
    """Read every product in a folder tree; those that cannot be used are skipped and reported.

    Raises:
        CbmError: ``no_products``, ``no_scenes``, or the only product's own error.

    """
    products = find_products(folder)
    if not products:
        raise CbmError(
            "no_products",
            f"{folder} holds no Sentinel-2 L2A product: no {PRODUCT_FILE} was found in it.",
            "Name a SAFE folder, or a folder with some. L1C products and the tile folders of AWS"
            " are not read.",
        )
    reading = Reading()
    with step("Reading products", len(products), "products") as progress:
        for product in products:
            try:
                scene, warnings = read_product(product)
                reading.scenes.append(scene)
                reading.warnings += [f"{product.name}: {warning}" for warning in warnings]
            except CbmError as error:
                reading.skip(product.name, error)
            progress.advance()
    return reading.fail_if_empty(str(folder))


def read_product(folder: Path) -> tuple[Scene, list[str]]:
    """Read one product; returns the scene and what a person should know about it.

    Raises:
        CbmError: ``xml_missing``, ``xml_invalid``, ``safe_incomplete``, ``safe_unsupported``,
            ``scene_without_images``, ``footprint_invalid``.

    """
    product = Document(folder / PRODUCT_FILE)
    granule = Document(_granule_file(folder))
    warnings: list[str] = []
    ids = _identifiers(product)
    extent = _extent(granule)
    start = _time(product, "DATATAKE_SENSING_START")
    sensing = granule.text("SENSING_TIME")
    cloud = product.text("Cloud_Coverage_Assessment")
    scene = Scene(
        reference=sentinel2.reference(ids.reference),
        card=sentinel2.CARD,
        platform=names.platform(product.required("SPACECRAFT_NAME")),
        obstime=names.utc(sensing, naive_is_utc=True) if sensing else start,
        datatake_start=names.whole_second(start),
        tile=ids.tile,
        extent=extent,
        footprint=_footprint(product, extent, warnings),
        assets=_assets(product, folder, ids.baseline, warnings),
        datastrip=ids.datastrip,
        orbit_direction=names.orbit_direction(product.required("SENSING_ORBIT_DIRECTION")),
        relative_orbit=names.relative_orbit(product.required("SENSING_ORBIT_NUMBER")),
        baseline=ids.baseline,
        generation_time=_time(product, "GENERATION_TIME"),
        cloud_percent=None if cloud is None else product.number(cloud, "cloud cover"),
        source=str(folder),
    )
    return scene, warnings


def _granule_file(folder: Path) -> Path:
    """Find the granule's metadata: in GRANULE/*/, or wherever a rearranged copy has it."""
    found = sorted(folder.glob(f"GRANULE/*/{GRANULE_FILE}"))
    if len(found) > 1:
        raise CbmError(
            "safe_unsupported",
            f"{folder} holds {len(found)} granules; expected one per product.",
            "Products of the format before December 2016 are not read.",
        )
    found = found or sorted(folder.rglob(GRANULE_FILE))
    if not found:
        raise CbmError(
            "safe_incomplete",
            f"{folder} has no {GRANULE_FILE} in GRANULE.",
            "Fetch the product again; products of the format before December 2016 are not read.",
        )
    return found[0]


@dataclass(frozen=True)
class _Identifiers:
    reference: str
    baseline: str
    tile: str
    datastrip: datetime | None


def _identifiers(product: Document) -> _Identifiers:
    level = product.required("PROCESSING_LEVEL")
    if not level.startswith("Level-2A"):
        raise CbmError("safe_unsupported", f"{product.path.parent} is {level}; expected Level-2A.")
    granule = next(product.all("Granule", "Granules"), None)
    if granule is None:
        raise product.invalid("it has no Granule")
    reference = product.required("PRODUCT_URI", "PRODUCT_URI_2A")
    name = sentinel2.parse_name(reference)
    parts = granule.get("granuleIdentifier", "").split("_T")
    tile = name.tile if name else names.tile(parts[-1].partition("_")[0])
    if not tile:
        raise product.invalid("neither its name nor its granule tells the tile")
    return _Identifiers(
        reference=reference,
        baseline=names.baseline(product.required("PROCESSING_BASELINE")),
        tile=tile,
        datastrip=sentinel2.datastrip_start(granule.get("datastripIdentifier", "")),
    )


def _time(document: Document, tag: str) -> datetime:
    """Return a time; ESA's metadata gives UTC throughout, with or without the Z."""
    return names.utc(document.required(tag), naive_is_utc=True)


def _extent(granule: Document) -> Extent:
    """Return the rectangle of the 10 m grid."""
    values: dict[str, float] = {}
    for element in granule.all("Size", "Geoposition"):
        if element.get("resolution") == "10":
            for child in element:
                tag = child.tag.rpartition("}")[2]
                values[tag] = granule.number(child.text, tag)
    try:
        left, top = values["ULX"], values["ULY"]
        right = left + values["NCOLS"] * values["XDIM"]
        bottom = top + values["NROWS"] * values["YDIM"]
    except KeyError as error:
        raise granule.invalid(f"it has no {error.args[0]} for 10 m") from None
    return Extent(granule.required("HORIZONTAL_CS_CODE").upper(), (left, bottom, right, top))


def _footprint(product: Document, extent: Extent, warnings: list[str]) -> bytes:
    polygons = []
    for element in product.all("EXT_POS_LIST"):
        numbers = [product.number(text, "EXT_POS_LIST") for text in (element.text or "").split()]
        # Latitude comes first.
        ring = list(zip(numbers[1::2], numbers[0::2], strict=False))
        polygons.append([ring])
    if not polygons:
        warnings.append("no footprint in its metadata; the tile's rectangle stands for it")
        return footprint.from_extent(extent)
    return footprint.from_rings(polygons)


def _assets(
    product: Document, folder: Path, baseline: str, warnings: list[str]
) -> dict[str, BandAsset]:
    """Return the bands at ESA's native resolution whose files exist."""
    quantification = product.number(
        product.required("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
        "BOA_QUANTIFICATION_VALUE",
    )
    add_offsets = _add_offsets(product, baseline)
    special = _special_values(product)
    assets: dict[str, BandAsset] = {}
    for band, path in _band_files(product, folder, warnings).items():
        mapping = offsets.from_product_xml(band, quantification, add_offsets.get(band, 0.0))
        assets[band] = BandAsset(
            href=str(path.absolute()),
            scale=mapping.scale,
            offset=mapping.offset,
            nodata=() if band == sentinel2.CLASSIFICATION else special,
            offset_source=mapping.source,
        )
    if not assets:
        raise CbmError(
            "scene_without_images",
            f"{folder} has metadata, but none of its band files.",
            "Fetch the product's GRANULE/*/IMG_DATA folder too.",
        )
    return assets


def _band_files(product: Document, folder: Path, warnings: list[str]) -> dict[str, Path]:
    """Find the files of the bands at their native resolution.

    By name alone: layouts differ (with and without R10m folders), and a path from the metadata
    could lead out of the product.
    """
    listed = {
        PurePosixPath((element.text or "").strip()).name.removesuffix(".jp2")
        for element in product.all("IMAGE_FILE", "IMAGE_FILE_2A", "IMAGE_ID", "IMAGE_ID_2A")
    }
    files = {path.stem: path for path in sorted(folder.rglob("*.jp2"))}
    found: dict[str, Path] = {}
    for band, resolution in sentinel2.RESOLUTION.items():
        suffix = f"_{band}_{resolution}m"
        stems = sorted(stem for stem in listed | files.keys() if stem.endswith(suffix))
        present = [stem for stem in stems if stem in files]
        if present:
            found[band] = files[present[0]]
            continue
        named = "is named by the metadata but" if stems else "is not named and"
        warnings.append(f"{band} at {resolution} m {named} has no file; left out")
    return found


def _add_offsets(product: Document, baseline: str) -> dict[str, float]:
    """Return BOA_ADD_OFFSET by band name; products before baseline 04.00 have none."""
    result: dict[str, float] = {}
    for element in product.all("BOA_ADD_OFFSET"):
        number = int(product.number(element.get("band_id"), "band_id of BOA_ADD_OFFSET"))
        if number in sentinel2.BAND_IDS:
            result[sentinel2.BAND_IDS[number]] = product.number(element.text, "BOA_ADD_OFFSET")
    expected = names.baseline_number(baseline) or 0
    missing = sorted(set(sentinel2.BAND_IDS.values()) - result.keys())
    if missing and (result or expected >= offsets.FIRST_BASELINE_WITH_OFFSET):
        raise product.invalid(
            f"baseline {baseline} must state BOA_ADD_OFFSET; none for {', '.join(missing)}"
        )
    return result


def _special_values(product: Document) -> tuple[float, ...]:
    """Return the raw values that mean no data and saturated."""
    values = [
        product.number(element.text, "SPECIAL_VALUE_INDEX")
        for element in product.all("SPECIAL_VALUE_INDEX")
    ]
    return tuple(sorted(set(values))) or sentinel2.SPECIAL_VALUES
