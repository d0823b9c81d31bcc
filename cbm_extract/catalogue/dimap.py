"""What SNAP's BEAM-DIMAP header (``.dim``) says of the Sentinel-1 scene it belongs to.

Source: SNAP's metadata element "Abstracted Metadata" (class AbstractMetadata of its SAR toolbox):
attributes ``<MDATTR name="PASS">``, times like ``23-DEC-2021 05:11:22.123456`` in UTC, and 99999
for what is not known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cbm_core.errors import CbmError
from cbm_extract.catalogue import names
from cbm_extract.catalogue.facts import Facts
from cbm_extract.catalogue.xml import Document

DATA_SUFFIX = ".data"
_UNKNOWN = {"", "-", "99999", "99999.0", "NaN"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def header_of(path: Path) -> Path | None:
    """Return the header of a raster in ``<name>.data``, None where there is none."""
    if path.parent.suffix != DATA_SUFFIX:
        return None
    header = path.parent.with_suffix(".dim")
    return header if header.is_file() else None


def read(header: Path) -> Facts:
    """Read a header.

    Raises:
        CbmError: ``xml_missing``, ``xml_invalid``, and those of orbits.

    """
    document = Document(header)
    said = _attributes(document)
    direction = said.get("PASS")
    near, far = (_number(document, said, name) for name in ("incidence_near", "incidence_far"))
    return Facts(
        platform=_platform(said.get("MISSION")),
        sensing=_time(said.get("first_line_time")),
        generated=_time(said.get("PROC_TIME")),
        absolute_orbit=_whole(_number(document, said, "ABS_ORBIT")),
        orbit=_whole(_number(document, said, "REL_ORBIT")),
        orbit_direction=names.orbit_direction(direction) if direction else None,
        incidence_angle=None if near is None or far is None else (near + far) / 2,
    )


def _attributes(document: Document) -> dict[str, str]:
    """Return the attributes of the abstracted metadata; those of its children are not meant."""
    for element in document.all("MDElem"):
        if element.get("name") == "Abstracted_Metadata":
            found = {
                str(child.get("name")): (child.text or "").strip()
                for child in element
                if child.tag.rpartition("}")[2] == "MDATTR"
            }
            return {name: text for name, text in found.items() if text not in _UNKNOWN}
    return {}


def _platform(text: str | None) -> str | None:
    return names.platform(text) if text else None


def _number(document: Document, said: dict[str, str], name: str) -> float | None:
    return document.number(said[name], name) if name in said else None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _time(text: str | None) -> datetime | None:
    """Read SNAP's times; its month names are English whatever the locale."""
    if text is None:
        return None
    day, _, clock = text.partition(" ")
    try:
        number, month, year = day.split("-")
        form = f"{year}-{_MONTHS.index(month.upper()) + 1:02}-{int(number):02}T{clock}"
        return datetime.fromisoformat(form).replace(tzinfo=UTC)
    except ValueError:
        raise CbmError(
            "time_invalid", f"Expected a time such as 23-DEC-2021 05:11:22.123, found {text!r}."
        ) from None
