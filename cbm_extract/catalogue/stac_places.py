"""Where the scene of a STAC item lies: its footprint, and the rectangle of its raster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cbm_extract.catalogue import footprint
from cbm_extract.catalogue.documents import Item
from cbm_extract.read.header import inspect
from cbm_extract.scene import Extent


def area(item: Item, extent: Extent, remarks: list[str]) -> bytes:
    """Return the item's geometry as a footprint; without one, the raster's rectangle."""
    found = footprint.from_geojson(item.document.get("geometry"))
    if found is None:
        remarks.append("no geometry; the raster's rectangle stands for the footprint")
        found = footprint.from_extent(extent)
    return found


def extent(item: Item, assets: Iterable[tuple[dict[str, Any], str]]) -> Extent:
    """Return the raster's rectangle: as the item says, else as a raster's header does.

    ``assets`` are assets and the addresses of their files, the finest first.
    """
    files = list(assets)
    for asset, _ in files:
        found = _declared_extent(item, asset)
        if found:
            return found
    return inspect(files[0][1]).extent


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
