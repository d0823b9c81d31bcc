"""Recognising what a source of scenes is, and reading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from cbm_core.errors import CbmError
from cbm_extract.catalogue import description as descriptions
from cbm_extract.catalogue import documents, folder, layouts, safe, stac
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.catalogue.reading import Reading

Format = Literal["folder", "safe", "stac", "card-bs", "card-coh6", "card-coh12"]
_STAC_FILES = ("catalog.json", "collection.json")


@dataclass(frozen=True)
class Source:
    """Where scenes are described, and in which format; ``description`` only for folders."""

    address: str
    format: Format
    description: Path | None = None


def recognise(address: str, format_: Format | None, description: str | None) -> Source:
    """Tell the format of a source from what is there, unless it is told.

    A description makes it a folder; then a STAC catalogue or collection in a folder, SAFE products
    or one of the layouts of Sentinel-1 anywhere in a folder tree, a file that is JSON, and any web
    address.

    Raises:
        CbmError: ``source_missing``, ``source_unknown``, ``description_not_wanted``.

    """
    given = Path(description) if description else None
    if documents.is_url(address):
        found: Format = "stac"
    else:
        path = Path(address)
        if not path.exists():
            raise CbmError("source_missing", f"There is nothing at {address}.", "Correct the path.")
        beside = path / descriptions.DEFAULT_NAME
        if given is None and path.is_dir() and beside.is_file() and format_ in {None, "folder"}:
            given = beside
        found = format_ or ("folder" if given else _found_format(path))
        if found == "stac" and path.is_dir():
            address = str(_stac_file(path))
    wanted = format_ or found
    if description and wanted != "folder":
        raise CbmError(
            "description_not_wanted",
            f"A description explains folders of rasters; {address} is read as {wanted}.",
            "Leave the description out, or name the format folder.",
        )
    if wanted == "folder" and given is None:
        given = Path(address) / descriptions.DEFAULT_NAME
    return Source(address, wanted, given)


def _found_format(path: Path) -> Format:
    if path.is_file():
        if path.suffix.lower() in {".json", ".geojson"}:
            return "stac"
    elif any((path / name).is_file() for name in _STAC_FILES):
        return "stac"
    elif safe.find_products(path):
        return "safe"
    else:
        layout = layouts.recognise(path)
        if layout:
            return cast(Format, layout)
    raise CbmError(
        "source_unknown",
        f"{path} is neither a STAC document nor a folder with Sentinel-2 L2A products, Sentinel-1"
        " backscatter or coherence, and no description explains its files.",
        f"Name a description (--description, or {descriptions.DEFAULT_NAME} in the folder).",
    )


def _stac_file(folder_: Path) -> Path:
    for name in _STAC_FILES:
        if (folder_ / name).is_file():
            return folder_ / name
    raise CbmError(
        "source_unknown",
        f"{folder_} has neither {' nor '.join(_STAC_FILES)}.",
        "Name the STAC file itself.",
    )


def read(source: Source, rewrites: Rewrites) -> Reading:
    """Read a source's scenes; raises as the format's reader does."""
    if source.format == "stac":
        return stac.read(source.address, rewrites)
    if rewrites.pairs:
        raise CbmError(
            "rewrite_not_wanted",
            f"Addresses are rewritten in STAC only; {source.address} is read as {source.format}.",
            "Leave --rewrite out.",
        )
    if source.format == "safe":
        return safe.read(Path(source.address))
    described = layouts.LAYOUTS.get(source.format) or descriptions.load(
        source.description or Path()
    )
    return folder.read(Path(source.address), described)
