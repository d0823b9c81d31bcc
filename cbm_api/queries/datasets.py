"""Datasets and their layers, as the collections that requests name.

A collection is called ``{aoi}_{year}``, a named layer of it ``{aoi}_{year}.{layer}``. Row-level
security hides datasets that are not granted: they are as unknown as those that do not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from cbm_core.db import Cursor
from cbm_core.errors import CbmError

_AOI = r"[a-z][a-z0-9_]{0,31}"
_NAME = re.compile(rf"(?P<aoi>{_AOI})_(?P<year>[0-9]{{4}})(?:\.(?P<layer>[a-z0-9_]{{1,63}}))?")

# An import is of a whole layer: the latest one tells of all its parcels. Before the first a dataset
# has the default layer, empty.
_SELECT = """
SELECT d.id, d.aoi, d.year, l.layer, d.imagery_start, d.imagery_end, d.settings,
  coalesce(s.parcels, 0), s.report -> 'extent', s.crs_id
FROM cbm.dataset d
CROSS JOIN LATERAL (
  SELECT i.layer, max(i.id) AS latest FROM cbm.parcel_set i WHERE i.dataset_id = d.id GROUP BY 1
  UNION ALL
  SELECT '', NULL WHERE NOT EXISTS (SELECT FROM cbm.parcel_set i WHERE i.dataset_id = d.id)
) l
LEFT JOIN cbm.parcel_set s ON s.id = l.latest
WHERE d.purged_at IS NULL"""


@dataclass(frozen=True)
class Dataset:
    """One layer of a dataset; imagery dates are inclusive, ``settings`` the dataset's.

    ``parcels`` are those of the latest import, ``extent`` their west, south, east and north in
    degrees (EPSG:4326) where the import says it, ``crs`` the reference system of its file (a key of
    ``cbm.crs``: the EPSG code, or a number of our own).
    """

    id: int
    aoi: str
    year: int
    layer: str
    imagery_start: date
    imagery_end: date
    settings: dict[str, Any]
    parcels: int
    extent: list[float] | None
    crs: int | None

    @property
    def name(self) -> str:
        """The collection's id."""
        return f"{self.aoi}_{self.year}" + (f".{self.layer}" if self.layer else "")


def find(cursor: Cursor, collection_id: str) -> Dataset:
    """Return the collection of that id.

    Raises:
        CbmError: ``dataset_unknown`` when there is none that the user may read.

    """
    parts = _NAME.fullmatch(collection_id)
    if parts:
        given = (parts["aoi"], int(parts["year"]), parts["layer"] or "")
        cursor.execute(f"{_SELECT} AND d.aoi = %s AND d.year = %s AND l.layer = %s", given)
        row = cursor.fetchone()
        if row:
            return Dataset(*row)
    raise CbmError(
        "dataset_unknown",
        "There is no such collection, or it is not granted to you.",
        "GET /v1/collections lists yours.",
    )


def find_legacy(cursor: Cursor, aoi: str, year: int, layer: str = "") -> Dataset | None:
    """Return the dataset of an AOI and year; None when there is none that the user may read.

    ``layer`` is what the predecessor's clients call ``ptype``.
    """
    if not re.fullmatch(_AOI, aoi) or not re.fullmatch(r"[a-z0-9_]{0,63}", layer):
        return None
    cursor.execute(f"{_SELECT} AND d.aoi = %s AND d.year = %s AND l.layer = %s", (aoi, year, layer))
    row = cursor.fetchone()
    return Dataset(*row) if row else None


def list_all(cursor: Cursor) -> list[Dataset]:
    """Return all collections that the user may read, by AOI, year and layer."""
    cursor.execute(f"{_SELECT} ORDER BY d.aoi, d.year, l.layer")
    return [Dataset(*row) for row in cursor.fetchall()]
