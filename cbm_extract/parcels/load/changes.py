"""Compares a scanned source with the parcels a layer has now, in the database.

The scanned parcels (not their geometries) are copied into a temporary table; PostgreSQL joins it
with the current parcels. The temporary table ``change`` then holds one row per parcel that differs:

==========  ==========================================================================
kind        what is to be done
==========  ==========================================================================
added       a new id
geometry    another geometry (and perhaps other attributes)
attributes  the same geometry, another crop or attribute
earlier     the same parcel, valid from an earlier date than was known
removed     an id that the source does not have any more
==========  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg2 import sql
from psycopg2.extras import Json

from cbm_core.datasets.store import Dataset
from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.parcels.load import copy
from cbm_extract.parcels.load.copy import Pieces
from cbm_extract.parcels.scan import Scan


@dataclass(frozen=True)
class Changes:
    """How many parcels differ from those the layer has, and how many geometries are new."""

    added: int = 0
    geometry: int = 0
    attributes: int = 0
    earlier: int = 0
    removed: int = 0
    new_geometries: int = 0

    @property
    def changed(self) -> int:
        """Parcels whose geometry, attributes or validity differ."""
        return self.geometry + self.attributes + self.earlier

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True)
class LatestSet:
    """An import of a layer."""

    id: int
    checksum: bytes
    options: dict[str, object]
    software_version: str
    parcels: int
    report: dict[str, object]


def latest_set(cursor: Cursor, dataset: Dataset, layer: str) -> LatestSet | None:
    """Return the latest import of a layer, None before the first."""
    cursor.execute(
        """SELECT id, checksum, options, software_version, parcels, report
           FROM cbm.parcel_set WHERE dataset_id = %s AND layer = %s ORDER BY id DESC LIMIT 1""",
        (dataset.id, layer),
    )
    row = cursor.fetchone()
    return _set(row) if row else None


def overtaken_set(
    cursor: Cursor, dataset: Dataset, layer: str, checksum: bytes, options: dict[str, object]
) -> LatestSet | None:
    """Return the import of this very source that one valid from a later day has followed.

    What such a source says is known; it stands for the days before the later one. None where it
    was never imported, or nothing later has followed.
    """
    cursor.execute(
        """SELECT s.id, checksum, options, software_version, parcels, report
           FROM cbm.parcel_set s
           WHERE dataset_id = %(dataset)s AND layer = %(layer)s AND checksum = %(checksum)s
             AND options = %(options)s AND EXISTS (
               SELECT FROM cbm.parcel_set l
               WHERE l.dataset_id = s.dataset_id AND l.layer = s.layer AND l.id > s.id
                 AND (l.options ->> 'valid_from')::date > (s.options ->> 'valid_from')::date)
           ORDER BY id DESC LIMIT 1""",
        {"dataset": dataset.id, "layer": layer, "checksum": checksum, "options": Json(options)},
    )
    row = cursor.fetchone()
    return _set(row) if row else None


def _set(row: tuple[Any, ...]) -> LatestSet:
    return LatestSet(row[0], bytes(row[1]), row[2], row[3], row[4], row[5])


def require_valid_from(cursor: Cursor, dataset: Dataset, layer: str, valid_from: date) -> None:
    """Refuse a date before one on which the layer's parcels are known to change.

    As long as they are not known to change at all, an earlier date only lets them begin earlier.

    Raises:
        CbmError: ``valid_from_too_early``: the import would undo what is known of a later date.

    """
    cursor.execute(
        """SELECT min(day), max(day) FROM (
             SELECT valid_from AS day FROM cbm.parcel
             WHERE dataset_id = %(dataset)s AND layer = %(layer)s AND known_to = 'infinity'
             UNION ALL
             SELECT valid_to FROM cbm.parcel
             WHERE dataset_id = %(dataset)s AND layer = %(layer)s AND known_to = 'infinity'
               AND valid_to <> 'infinity') days""",
        {"dataset": dataset.id, "layer": layer},
    )
    first, last = one_row(cursor)
    if first != last and valid_from < last:
        raise CbmError(
            "valid_from_too_early",
            f"Parcels of {dataset.name} layer '{layer}' are known to change on {last}; an import "
            f"valid from {valid_from} would undo that.",
            f"Give valid_from {last} to correct what is known from then on, or a later date.",
        )


def find(cursor: Cursor, scan: Scan, dataset: Dataset, layer: str, valid_from: date) -> Changes:
    """Fill the temporary tables ``incoming`` and ``change`` and return the counts."""
    _copy_incoming(cursor, scan)
    values = {"dataset": dataset.id, "layer": layer, "valid_from": valid_from}
    cursor.execute(_CHANGE, values)
    cursor.execute("ANALYZE pg_temp.change")
    cursor.execute("SELECT kind, count(*) FROM pg_temp.change GROUP BY kind")
    counts = dict(cursor.fetchall())
    cursor.execute(_NEW_GEOMETRIES, {"dataset": dataset.id})
    return Changes(**counts, new_geometries=cursor.rowcount)


def new_geometry_rows(cursor: Cursor) -> np.ndarray:
    """Return the rows of the source whose geometries the dataset does not have, each once."""
    cursor.execute('SELECT "row" FROM pg_temp.new_geometry')
    return np.fromiter((row[0] for row in cursor), np.int64, cursor.rowcount)


def _copy_incoming(cursor: Cursor, scan: Scan) -> None:
    cursor.execute(
        """CREATE TEMPORARY TABLE incoming (
             "row" integer NOT NULL, pid text NOT NULL, crop_code text, crop_name text,
             attributes jsonb NOT NULL, hash bytea NOT NULL, first boolean NOT NULL
           ) ON COMMIT DROP"""
    )
    kept, first = np.zeros((2, len(scan.spool)), dtype=bool)
    kept[scan.ids.kept] = True
    first[scan.ids.kept] = scan.spool.first_of_each_geometry(scan.ids.kept)
    with step("parcels compared", len(scan.ids.kept), "parcels") as progress:
        row = 0
        for index in range(scan.spool.table.num_record_batches):
            batch = scan.spool.table.get_batch(index)
            rows = np.flatnonzero(kept[row : row + batch.num_rows]) + row
            columns = _incoming_columns(scan, batch.take(pa.array(rows - row)), rows)
            columns["first"] = copy.boolean(first[rows])
            copy.copy_columns(cursor, sql.Identifier("pg_temp", "incoming"), columns)
            row += batch.num_rows
            progress.advance(len(rows))
    cursor.execute('ANALYZE pg_temp.incoming ("row", pid, hash)')


def _incoming_columns(scan: Scan, batch: pa.RecordBatch, rows: np.ndarray) -> dict[str, Pieces]:
    """Encode a part of the source: ``rows`` of it, whose attributes ``batch`` holds."""
    return {
        "row": copy.int4(rows),
        "pid": copy.text(scan.ids.pids.take(pa.array(rows))),
        "crop_code": copy.text(batch.column("crop_code")),
        "crop_name": copy.text(batch.column("crop_name")),
        "attributes": copy.jsonb(batch.column("attributes")),
        "hash": copy.raw(scan.spool.hashes[rows]),
    }


_CHANGE = """
CREATE TEMPORARY TABLE change ON COMMIT DROP AS
WITH present AS (
  SELECT p.id, p.pid, p.crop_code, p.crop_name, p.attributes, p.valid_from, g.hash
  FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
  WHERE p.dataset_id = %(dataset)s AND p.layer = %(layer)s
    AND p.known_to = 'infinity' AND p.valid_to = 'infinity'
)
SELECT i."row", o.id AS old_id, o.valid_from AS old_from,
  CASE WHEN i.pid IS NULL THEN 'removed'
       WHEN o.id IS NULL THEN 'added'
       WHEN o.hash <> i.hash THEN 'geometry'
       WHEN (o.crop_code, o.crop_name, o.attributes)
            IS DISTINCT FROM (i.crop_code, i.crop_name, i.attributes) THEN 'attributes'
       ELSE 'earlier' END AS kind
FROM pg_temp.incoming i FULL JOIN present o ON o.pid = i.pid
WHERE i.pid IS NULL OR o.id IS NULL OR o.hash <> i.hash
   OR (o.crop_code, o.crop_name, o.attributes)
      IS DISTINCT FROM (i.crop_code, i.crop_name, i.attributes)
   OR o.valid_from > %(valid_from)s"""

# A parcel whose geometry the dataset does not have is new or has changed, so that there is no need
# to ask `change`.
_NEW_GEOMETRIES = """
CREATE TEMPORARY TABLE new_geometry ON COMMIT DROP AS
SELECT i."row" FROM pg_temp.incoming i
WHERE i.first AND NOT EXISTS (
  SELECT FROM cbm.parcel_geometry g
  WHERE g.dataset_id = %(dataset)s AND g.hash = i.hash AND g.retired_at IS NULL)"""
