"""How raw values become the stored unit, decided by what the source says. Pure.

stored = raw * scale + offset; the stored unit of card ``s2`` is reflectance x 10000. The order of
trust: the product's own XML, a rule for collections known to be described wrongly or not at all,
the ``raster:bands`` of the item. Value and source are kept with every asset.

Sources: Products Specification Document (BOA_ADD_OFFSET, from baseline 04.00 on, 25 January 2022);
Element84/earth-search issues 33, 66 and 71 (offset declared on shifted pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cbm_core.errors import CbmError
from cbm_extract.catalogue import names, sentinel2

# Stored units per unit of the physical quantity (reflectance, power, coherence).
STORED_UNITS = {sentinel2.CARD: 10_000.0}
FIRST_BASELINE_WITH_OFFSET = 400
BOA_ADD_OFFSET = -1000.0
QUANTIFICATION = 10_000.0

# Collections that hold ESA's own numbers, or the same shifted by their publisher: Earth Search v1
# (and its Collection 1) and v0, Planetary Computer, Copernicus Data Space.
S2_COLLECTIONS = frozenset(
    {"sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-2-pre-c1-l2a"}
    | {"sentinel-s2-l2a", "sentinel-s2-l2a-cogs"}
)
_SHIFTED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


@dataclass(frozen=True)
class Mapping:
    """stored = raw * scale + offset, and which source said so (see ``BandAsset``)."""

    scale: float = 1.0
    offset: float = 0.0
    source: str = "none"


def from_product_xml(band: str, quantification: float, add_offset: float) -> Mapping:
    """Map by ESA's formula: reflectance = (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE."""
    if band == sentinel2.CLASSIFICATION:
        return Mapping()
    scale = STORED_UNITS[sentinel2.CARD] / quantification
    return Mapping(scale, add_offset * scale, "product_xml")


def from_item(
    card: str,
    band: str,
    collection: str | None,
    properties: dict[str, Any],
    declared: dict[str, Any],
) -> Mapping:
    """Map a band of a STAC item.

    ``declared`` holds the ``scale`` and ``offset`` of the item's ``raster:bands`` for this band.

    Raises:
        CbmError: ``offset_ambiguous``, ``offset_unknown``.

    """
    if band == sentinel2.CLASSIFICATION:
        return Mapping()
    rule = _collection_rule(collection, properties) if card == sentinel2.CARD else None
    found = rule or from_raster_bands(card, declared)
    if found:
        return found
    baseline = baseline_of(properties)
    number = names.baseline_number(baseline)
    if card == sentinel2.CARD and number and number >= FIRST_BASELINE_WITH_OFFSET:
        raise CbmError(
            "offset_unknown",
            f"Products of baseline {baseline} carry an offset of {BOA_ADD_OFFSET:.0f} unless their"
            " publisher has removed it, and the item does not say which.",
            "Add scale and offset to the item's raster:bands.",
        )
    return Mapping()


def from_raster_bands(card: str, declared: dict[str, Any]) -> Mapping | None:
    """Map by STAC's formula, quantity = raw * scale + offset; None where nothing is declared.

    Raises:
        CbmError: ``offset_ambiguous`` when an offset stands without a scale, or one is no number.

    """
    scale, offset = declared.get("scale"), declared.get("offset")
    if scale is None:
        if not offset:
            return None
        raise CbmError(
            "offset_ambiguous",
            f"The item declares the offset {offset} without a scale: reflectance or raw counts?",
            "Add the scale to raster:bands.",
        )
    try:
        unit = STORED_UNITS.get(card, 1.0)
        return Mapping(float(scale) * unit, float(offset or 0) * unit, "raster_bands")
    except (TypeError, ValueError):
        raise CbmError(
            "offset_ambiguous", f"Scale {scale!r} and offset {offset!r} are not numbers."
        ) from None


def _collection_rule(collection: str | None, properties: dict[str, Any]) -> Mapping | None:
    """Return what is known beyond the item's own ``raster:bands``, None where nothing is.

    A publisher's flag that it has shifted the pixels itself is believed, in copies under another
    collection's name too. Otherwise known collections hold ESA's numbers, and the baseline
    decides; an unknown baseline leaves it to ``raster:bands``.
    """
    scale = STORED_UNITS[sentinel2.CARD] / QUANTIFICATION
    if any(properties.get(flag) is True for flag in _SHIFTED_FLAGS):
        return Mapping(scale, 0.0, "collection_rule")
    number = names.baseline_number(baseline_of(properties))
    if collection not in S2_COLLECTIONS or number is None:
        return None
    shifted = number >= FIRST_BASELINE_WITH_OFFSET
    return Mapping(scale, BOA_ADD_OFFSET * scale if shifted else 0.0, "collection_rule")


def baseline_of(properties: dict[str, Any]) -> str | None:
    """Return the baseline that an item's properties name, ``N0400``, None where they do not."""
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        if properties.get(key):
            return names.baseline(str(properties[key]))
    for key in ("s2:product_uri", "sentinel:product_id"):
        name = sentinel2.parse_name(str(properties.get(key) or ""))
        if name:
            return name.baseline
    return None
