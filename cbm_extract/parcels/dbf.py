"""The text encoding and the completeness of shapefiles, read from their own bytes.

GDAL guesses an encoding where a shapefile declares none, and reads a truncated one as parcels
without geometry. Neither is left to it.
"""

from __future__ import annotations

import codecs
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbm_core.errors import CbmError

_ROWS = 65536
_HEADER = 32
_UNITS = 2  # lengths in .shp headers count 16-bit words

# Language driver ids that name a code page (dBASE). 0x57 says "ANSI", which is none in particular.
_LANGUAGE_DRIVERS = {
    0x01: "cp437", 0x02: "cp850", 0x03: "cp1252", 0x08: "cp865", 0x09: "cp437", 0x0A: "cp850",
    0x0D: "cp437", 0x0E: "cp850", 0x0F: "cp437", 0x10: "cp850", 0x11: "cp437", 0x12: "cp850",
    0x13: "cp932", 0x14: "cp850", 0x15: "cp437", 0x16: "cp850", 0x17: "cp865", 0x18: "cp437",
    0x19: "cp437", 0x1A: "cp850", 0x1B: "cp437", 0x1C: "cp863", 0x1D: "cp850", 0x1F: "cp852",
    0x22: "cp852", 0x23: "cp852", 0x24: "cp860", 0x25: "cp850", 0x26: "cp866", 0x37: "cp850",
    0x40: "cp852", 0x4D: "cp936", 0x4E: "cp949", 0x4F: "cp950", 0x50: "cp874", 0x58: "cp1252",
    0x59: "cp1252", 0x64: "cp852", 0x65: "cp866", 0x66: "cp865", 0x67: "cp861", 0x6A: "cp737",
    0x6B: "cp857", 0x6C: "cp863", 0x78: "cp950", 0x79: "cp949", 0x7A: "cp936", 0x7B: "cp932",
    0x7C: "cp874", 0x7D: "cp1255", 0x7E: "cp1256", 0x86: "cp737", 0x87: "cp852", 0x88: "cp857",
    0xC8: "cp1250", 0xC9: "cp1251", 0xCA: "cp1254", 0xCB: "cp1253", 0xCC: "cp1257",
}  # fmt: skip


@dataclass(frozen=True)
class _Field:
    name: bytes
    kind: str
    offset: int
    length: int


@dataclass(frozen=True)
class _Header:
    records: int
    header_length: int
    record_length: int
    language_driver: int
    fields: tuple[_Field, ...]


def parse_encoding(name: str) -> str:
    """Return Python's name of an encoding as .cpg files and people write it.

    Raises:
        CbmError: ``encoding_unknown``.

    """
    plain = re.sub(r"^(ansi|oem|windows)[ _-]*", "", name.strip().lower())
    iso = re.fullmatch(r"8859-?(\d{1,2})", plain)
    candidates = [f"iso8859-{iso[1]}"] if iso else [plain, f"cp{plain}"]
    for candidate in candidates:
        try:
            return codecs.lookup(candidate).name
        except LookupError:
            continue
    raise CbmError(
        "encoding_unknown",
        f"Expected the name of a text encoding, found {name!r}.",
        "Give one such as UTF-8, ISO-8859-1 or cp1250.",
    )


def gdal_name(encoding: str | None) -> str:
    """Return GDAL's name of one of Python's encodings.

    Without one only ASCII columns are read (see :func:`require_text`): latin-1 then is no guess.
    """
    return re.sub(r"^ISO8859-", "ISO-8859-", (encoding or "iso8859-1").upper())


def declared_encoding(shp: Path) -> str | None:
    """Return the encoding that a shapefile declares (.cpg, else the .dbf's code page), or None.

    Raises:
        CbmError: ``encoding_contradictory`` when the two name different ones,
            ``encoding_unknown`` when the .cpg names none that exists.

    """
    by_driver = _LANGUAGE_DRIVERS.get(_read_header(shp.with_suffix(".dbf")).language_driver)
    cpg = shp.with_suffix(".cpg")
    text = (
        cpg.read_text(encoding="latin-1").strip("\x00\xef\xbb\xbf \r\n\t") if cpg.exists() else ""
    )
    if not text:
        return by_driver
    by_file = parse_encoding(text)
    if by_driver and by_driver != by_file:
        raise CbmError(
            "encoding_contradictory",
            f"The shapefile's .cpg says {by_file}, its .dbf says {by_driver}.",
            "Correct or remove the .cpg.",
        )
    return by_file


def require_complete(shp: Path) -> None:
    """Refuse a shapefile whose files are shorter than their headers say.

    Raises:
        CbmError: ``source_damaged``.

    """
    with shp.open("rb") as file:
        head = file.read(28)
    header = _read_header(shp.with_suffix(".dbf"))
    for part, expected in (
        (shp, _UNITS * struct.unpack(">I", head[24:28])[0]),
        (shp.with_suffix(".dbf"), header.header_length + header.records * header.record_length),
    ):
        found = part.stat().st_size
        if found < expected:
            raise CbmError(
                "source_damaged",
                f"Expected {expected} bytes in {part.name}, found {found}: the file is cut off.",
                "Fetch it again.",
            )


def require_text(shp: Path, encoding: str | None, columns: list[str]) -> None:
    """Refuse text that cannot be read for certain in the given columns.

    ``columns`` are names as decoded by ``encoding`` (latin-1 for None).

    Raises:
        CbmError: ``encoding_missing`` when there is text beyond ASCII and no encoding,
            ``encoding_invalid`` when the text is not of that encoding.

    """
    dbf = shp.with_suffix(".dbf")
    header = _read_header(dbf)
    used = [f for f in header.fields if f.name.decode(encoding or "latin-1", "replace") in columns]
    for field in used:
        if encoding is None and not field.name.isascii():
            raise _missing(dbf, "column names")
    for first, table in _records(dbf, header):
        for field in used:
            if field.kind != "C":
                continue
            cells = table[:, field.offset : field.offset + field.length]
            if not (cells > 127).any():
                continue
            if encoding is None:
                raise _missing(dbf, f"column {field.name.decode('latin-1')}")
            _decode(cells, encoding, field.name.decode(encoding, "replace"), first)


def _missing(dbf: Path, where: str) -> CbmError:
    return CbmError(
        "encoding_missing",
        f"The text of {dbf.name} ({where}) is not plain ASCII, and the shapefile does not say in "
        "which encoding it is.",
        "Tell it with `encoding` (for example cp1252 or cp1250), or leave that column out.",
    )


def _decode(cells: np.ndarray, encoding: str, column: str, first: int) -> None:
    for row in np.flatnonzero((cells > 127).any(axis=1)):
        text = cells[row].tobytes()
        try:
            text.decode(encoding)
        except UnicodeDecodeError:
            raise CbmError(
                "encoding_invalid",
                f"Expected {encoding} in column {column}, found {text.strip()!r} in record "
                f"{first + int(row) + 1}.",
                "The shapefile or the operator names the wrong encoding; tell the right one with "
                "`encoding` and correct the .cpg.",
            ) from None


def _records(dbf: Path, header: _Header) -> list[tuple[int, np.ndarray]]:
    """Return (first record, uint8 [records, record length]) blocks mapped from the file."""
    if header.records == 0:
        return []
    size = header.records * header.record_length
    flat = np.memmap(dbf, np.uint8, "r", header.header_length, (size,))
    table = flat.reshape(header.records, header.record_length)
    return [(first, table[first : first + _ROWS]) for first in range(0, header.records, _ROWS)]


def _read_header(dbf: Path) -> _Header:
    with dbf.open("rb") as file:
        head = file.read(_HEADER)
        if len(head) < _HEADER:
            raise CbmError("source_damaged", f"{dbf.name} is cut off within its header.")
        records, header_length, record_length = struct.unpack("<IHH", head[4:12])
        described = file.read(max(header_length - _HEADER, 0))
    fields = []
    offset = 1  # a record begins with its deletion mark
    for start in range(0, len(described) - _HEADER + 1, _HEADER):
        part = described[start : start + _HEADER]
        if part[:1] == b"\r":
            break
        # numeric fields keep decimals apart; the length of a character field is 16 bits wide
        length = part[16] + (part[17] << 8 if part[11:12] == b"C" else 0)
        name = part[:11].split(b"\x00")[0].strip()
        fields.append(_Field(name, part[11:12].decode("latin-1"), offset, length))
        offset += length
    return _Header(records, header_length, record_length, head[29], tuple(fields))
