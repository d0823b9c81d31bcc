"""Recognises what a file is by its content; names and extensions say nothing."""

from __future__ import annotations

import contextlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from cbm_core.errors import CbmError

Format = Literal[
    "zip", "7z", "gpkg", "sqlite", "shapefile", "filegdb", "gml", "geojson", "flatgeobuf", "parquet"
]
ARCHIVES: frozenset[Format] = frozenset({"zip", "7z"})

# The extension under which GDAL finds the right driver, and that driver's name.
EXTENSION: dict[Format, str] = {
    "gpkg": ".gpkg",
    "sqlite": ".sqlite",
    "shapefile": ".shp",
    "filegdb": ".gdb",
    "gml": ".gml",
    "geojson": ".geojson",
    "flatgeobuf": ".fgb",
}
DRIVERS: dict[Format, frozenset[str]] = {
    "gpkg": frozenset({"GPKG"}),
    "sqlite": frozenset({"SQLite"}),
    "shapefile": frozenset({"ESRI Shapefile"}),
    "filegdb": frozenset({"OpenFileGDB"}),
    "gml": frozenset({"GML"}),
    "geojson": frozenset({"GeoJSON", "GeoJSONSeq"}),
    "flatgeobuf": frozenset({"FlatGeobuf"}),
}
SUPPORTED = (
    "GeoPackage, SpatiaLite, shapefile, FileGDB, GML, GeoJSON, FlatGeobuf and GeoParquet, "
    "plain or in a zip or 7z archive"
)

_HEAD_BYTES = 65536
_SHP_FILE_CODE = b"\x00\x00\x27\x0a"
_GPKG_IDS = (b"GPKG", b"GP10", b"GP11")
_GML_ROOTS = ("FeatureCollection", "SpatialDataSet")
_GEOJSON_TYPE = re.compile(rb'"type"\s*:\s*"(FeatureCollection|Feature)"')
_SPREADSHEETS = (b"xl/workbook", b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet")


@dataclass(frozen=True)
class Unusable:
    """Why a file is no source of parcels: ``code`` of the error, ``what`` it is instead."""

    code: Literal["no_geometry", "format_unknown"]
    what: str


def recognise(path: Path) -> Format | Unusable:
    """Say what a file or folder is.

    Raises:
        CbmError: ``source_missing``, ``source_unreadable``.

    """
    try:
        if path.is_dir():
            return _recognise_folder(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise CbmError(
            "source_missing", f"Expected a file of parcels at {path}, found nothing."
        ) from None
    except OSError as error:
        raise CbmError(
            "source_unreadable",
            f"The file {path} cannot be read: {error.strerror}.",
            "Run as a user who may read it.",
        ) from None
    return _by_magic(head) or _by_text(head)


def refusal(path: Path, found: Unusable) -> CbmError:
    """Return the error for a source that is no source of parcels."""
    if found.code == "no_geometry":
        return CbmError(
            "no_geometry",
            f"Expected parcels with geometries, found {found.what}: {path.name}.",
            "Give the file that holds the geometries.",
        )
    return CbmError(
        "format_unknown",
        f"Expected a format that can be read, found {found.what}: {path.name}.",
        f"Supported: {SUPPORTED}.",
    )


def _recognise_folder(path: Path) -> Format | Unusable:
    if (path / "a00000001.gdbtable").is_file():
        return "filegdb"
    return Unusable("format_unknown", "a folder that is no FileGDB")


_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"PAR1", "parquet"),
    (b"fgb\x03fgb", "flatgeobuf"),
)


def _by_magic(head: bytes) -> Format | Unusable | None:
    found = next((found for magic, found in _MAGIC if head.startswith(magic)), None)
    if found:
        return found
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        spreadsheet = any(mark in head for mark in _SPREADSHEETS)
        return Unusable("no_geometry", "a spreadsheet") if spreadsheet else "zip"
    if head.startswith(b"SQLite format 3\x00"):
        return "gpkg" if head[68:72] in _GPKG_IDS else "sqlite"
    if head.startswith(_SHP_FILE_CODE) and head[28:32] == struct.pack("<I", 1000):
        # Its index (.shx) begins alike, but goes on with an offset, not with record number 1.
        shapes = head[100:104] in (b"", b"\x00\x00\x00\x01")
        return "shapefile" if shapes else Unusable("format_unknown", "the index of a shapefile")
    return None


def _by_text(head: bytes) -> Format | Unusable:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n\x1e")
    if not text:
        return Unusable("format_unknown", "an empty file")
    if text.startswith(b"{"):
        return _by_json(text)
    if text.startswith(b"<"):
        return _by_xml(text)
    if _is_delimited(text):
        return Unusable("no_geometry", "a text table (CSV)")
    if _is_dbase(head):
        return Unusable("no_geometry", "a dBASE table (the .dbf of a shapefile?)")
    return Unusable("format_unknown", "content of an unknown kind")


def _by_json(text: bytes) -> Format | Unusable:
    if _GEOJSON_TYPE.search(text):
        return "geojson"
    return Unusable("format_unknown", "JSON that is no GeoJSON feature collection")


def _by_xml(text: bytes) -> Format | Unusable:
    root = _xml_root(text)
    if root.rpartition(":")[2] in _GML_ROOTS and b"opengis.net/gml" in text:
        return "gml"
    return Unusable("format_unknown", f"XML with the root element <{root}>, which is no GML")


def _xml_root(text: bytes) -> str:
    """Return the root element's name with its prefix, empty where this is no XML."""
    names: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _attributes: names.append(name)
    with contextlib.suppress(expat.ExpatError):  # what came before an error counts
        parser.Parse(text, False)
    return names[0] if names else ""


def _is_delimited(text: bytes) -> bool:
    """Say whether the first lines look like one table: the same delimiter, as often, in each."""
    if b"\x00" in text:
        return False
    lines = [line for line in text.splitlines()[:3] if line]
    return any(
        len(lines) > 1 and all(line.count(mark) > 0 for line in lines)
        for mark in (b",", b";", b"\t", b"|")
    )


def _is_dbase(head: bytes) -> bool:
    if len(head) < 33 or head[0] & 0x07 != 0x03:
        return False
    header_length = struct.unpack("<H", head[8:10])[0]
    return header_length >= 33 and head[header_length - 1 : header_length] == b"\r"
