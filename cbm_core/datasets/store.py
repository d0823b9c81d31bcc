"""Datasets in the database: an AOI and a declaration year, the unit of permission."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from psycopg2.extras import Json

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError

NAME = re.compile(r"^(?P<aoi>[a-z][a-z0-9_]{0,31}):(?P<year>[0-9]{4})$")

# Serialises `dataset add`; any constant no other advisory lock uses.
LOCK_KEY = 0x63626D02


@dataclass(frozen=True)
class Dataset:
    """A row of ``cbm.dataset``; imagery dates are inclusive, ``readers`` are database roles.

    ``settings`` may hold ``bounds``: [west, south, east, north] of the AOI in EPSG:4326 degrees,
    west greater than east when it crosses the antimeridian.
    """

    id: int
    aoi: str
    year: int
    imagery_start: date
    imagery_end: date
    settings: dict[str, Any] = field(default_factory=dict)
    readers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The dataset as it is named in arguments: ``aoi:year``."""
        return f"{self.aoi}:{self.year}"


_SELECT = """
SELECT d.id, d.aoi, d.year, d.imagery_start, d.imagery_end, d.settings,
       array(SELECT g.grantee FROM cbm.dataset_grant g
             WHERE g.dataset_id = d.id AND g.via = 'role' ORDER BY g.grantee)
FROM cbm.dataset d
WHERE d.purged_at IS NULL"""


def _dataset(row: tuple[Any, ...]) -> Dataset:
    return Dataset(row[0], row[1], row[2], row[3], row[4], row[5], tuple(row[6]))


def find(cursor: Cursor, aoi: str, year: int) -> Dataset | None:
    """Return the dataset of an AOI and year, None where there is none (or it was purged)."""
    cursor.execute(f"{_SELECT} AND d.aoi = %s AND d.year = %s", (aoi, year))
    row = cursor.fetchone()
    return _dataset(row) if row else None


def list_all(cursor: Cursor) -> list[Dataset]:
    """Return all datasets by AOI and year."""
    cursor.execute(f"{_SELECT} ORDER BY d.aoi, d.year")
    return [_dataset(row) for row in cursor.fetchall()]


def require_dataset(cursor: Cursor, name: str) -> Dataset:
    """Return the dataset named ``aoi:year``.

    Raises:
        CbmError: ``dataset_name_invalid`` when the name has another form, ``dataset_unknown``
            with the existing names when there is no such dataset.

    """
    parts = NAME.match(name)
    if not parts:
        raise CbmError(
            "dataset_name_invalid",
            f"A dataset is named aoi:year, e.g. ie:2024; found {name!r}.",
            "The AOI is lower-case letters, digits and underscores, at most 32, a letter first.",
        )
    found = find(cursor, parts["aoi"], int(parts["year"]))
    if found:
        return found
    names = [dataset.name for dataset in list_all(cursor)]
    raise CbmError(
        "dataset_unknown",
        f"There is no dataset {name}; existing: {', '.join(names) or 'none'}.",
        f"Add it with `cbm dataset add {parts['aoi']} {parts['year']}`.",
        existing=names,
    )


def lock(cursor: Cursor) -> None:
    """Keep other `dataset add` runs waiting until this transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))


def insert(cursor: Cursor, dataset: Dataset) -> int:
    """Insert a dataset (its ``id`` and ``readers`` are not looked at) and return the new id."""
    cursor.execute(
        """INSERT INTO cbm.dataset (aoi, year, imagery_start, imagery_end, settings)
           VALUES (%s, %s, %s, %s, %s) RETURNING id""",
        (dataset.aoi, dataset.year, dataset.imagery_start, dataset.imagery_end,
         Json(dataset.settings)),
    )  # fmt: skip
    return int(one_row(cursor)[0])


def update(cursor: Cursor, dataset: Dataset) -> None:
    """Write period and settings of an existing dataset."""
    cursor.execute(
        "UPDATE cbm.dataset SET imagery_start = %s, imagery_end = %s, settings = %s WHERE id = %s",
        (dataset.imagery_start, dataset.imagery_end, Json(dataset.settings), dataset.id),
    )


def grant(cursor: Cursor, dataset_id: int, roles: list[str]) -> None:
    """Let database roles read a dataset."""
    for role in roles:
        cursor.execute(
            "INSERT INTO cbm.dataset_grant (dataset_id, via, grantee) VALUES (%s, 'role', %s)",
            (dataset_id, role),
        )


def revoke(cursor: Cursor, dataset_id: int, roles: list[str]) -> None:
    """Take the reading of a dataset from database roles."""
    cursor.execute(
        """DELETE FROM cbm.dataset_grant
           WHERE dataset_id = %s AND via = 'role' AND grantee = ANY(%s)""",
        (dataset_id, roles),
    )


def roles_that_cannot_read(cursor: Cursor, roles: list[str]) -> list[str]:
    """Return those of the roles that do not exist or are no members of ``cbm_read``."""
    cursor.execute(
        """SELECT w FROM unnest(%s::text[]) w
           WHERE NOT EXISTS (SELECT FROM pg_roles r
                             WHERE r.rolname = w AND pg_has_role(r.oid, 'cbm_read', 'MEMBER'))""",
        (roles,),
    )
    return [row[0] for row in cursor.fetchall()]


def audit(cursor: Cursor, action: str, dataset: str, changes: list[str]) -> None:
    """Append to the audit what was changed about a dataset."""
    cursor.execute(
        "INSERT INTO cbm.audit (action, detail) VALUES (%s, %s)",
        (action, Json({"dataset": dataset, "changes": changes})),
    )


def parcel_counts(cursor: Cursor) -> dict[int, dict[str, int]]:
    """Return dataset id -> layer -> current parcels, as the latest import of each counted them."""
    cursor.execute(
        """SELECT DISTINCT ON (dataset_id, layer) dataset_id, layer, parcels
           FROM cbm.parcel_set ORDER BY dataset_id, layer, id DESC"""
    )
    counts: dict[int, dict[str, int]] = {}
    for dataset_id, layer, parcels in cursor.fetchall():
        counts.setdefault(dataset_id, {})[layer] = parcels
    return counts


def contents(cursor: Cursor, dataset_id: int) -> dict[str, int]:
    """Return what a purge of the dataset removes: parcels, geometries, signatures."""
    cursor.execute(
        """SELECT (SELECT count(*) FROM cbm.parcel WHERE dataset_id = %(id)s),
                  (SELECT count(*) FROM cbm.parcel_geometry WHERE dataset_id = %(id)s),
                  (SELECT count(*) FROM cbm.signature WHERE dataset_id = %(id)s)""",
        {"id": dataset_id},
    )
    return dict(zip(("parcels", "geometries", "signatures"), one_row(cursor), strict=True))


def purge(cursor: Cursor, dataset_id: int) -> dict[str, int]:
    """Remove everything of a dataset but its name and evidence; return what was removed."""
    cursor.execute("SELECT cbm.purge_dataset(%s::smallint)", (dataset_id,))
    return dict(one_row(cursor)[0])
