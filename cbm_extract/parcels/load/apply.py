"""Writes what :mod:`changes` found, in the caller's transaction: all of it or nothing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg2 import sql
from psycopg2.extras import Json

from cbm_core import __version__
from cbm_core.datasets.store import Dataset
from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.parcels.ahead import in_order
from cbm_extract.parcels.crs import SourceCrs
from cbm_extract.parcels.load import changes, copy
from cbm_extract.parcels.load.changes import Changes
from cbm_extract.parcels.projecting import Projector
from cbm_extract.parcels.scan import Scan

# With the dataset's id, the key of the lock that imports of one dataset take turns by.
LOCK_CLASS = 0x63626D03
_BATCH = 4096
_WGS84 = 4326


@dataclass(frozen=True)
class SetRecord:
    """What is kept about an import in ``cbm.parcel_set``."""

    layer: str
    source: str
    checksum: bytes
    options: dict[str, Any]
    valid_from: date


def lock(cursor: Cursor, dataset: Dataset) -> datetime:
    """Wait for other imports of the dataset and keep it from being purged; return the time.

    Ids of parcel sets then rise in the order of commit, and so do the times of knowledge.

    Raises:
        CbmError: ``dataset_unknown`` when the dataset was purged meanwhile.

    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, dataset.id))
    cursor.execute(
        "SELECT clock_timestamp() FROM cbm.dataset WHERE id = %s AND purged_at IS NULL FOR SHARE",
        (dataset.id,),
    )
    row = cursor.fetchone()
    if row is None:
        raise CbmError("dataset_unknown", f"The dataset {dataset.name} was purged meanwhile.")
    now: datetime = row[0]
    return now


def apply(
    cursor: Cursor,
    dataset: Dataset,
    scan: Scan,
    found: Changes,
    record: SetRecord,
    now: datetime,
) -> int:
    """Write parcels, geometries and the record of the import; return the parcel set's id."""
    _require_crs(cursor, scan.crs)
    set_id = _insert_set(cursor, dataset, scan, found, record, now)
    if not found.any:
        return set_id
    if found.new_geometries:
        _copy_geometries(cursor, dataset, scan, set_id)
    values = {
        "dataset": dataset.id,
        "layer": record.layer,
        "set": set_id,
        "now": now,
        "valid_from": record.valid_from,
    }
    for statement in (_CLOSE, _KEEP_PAST, _INSERT, _RETIRE):
        cursor.execute(statement, values)
    return set_id


def _require_crs(cursor: Cursor, crs: SourceCrs) -> None:
    cursor.execute(
        "INSERT INTO cbm.crs (id, definition) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (crs.srid, crs.definition),
    )
    cursor.execute("SELECT definition FROM cbm.crs WHERE id = %s", (crs.srid,))
    if one_row(cursor)[0] != crs.definition:
        raise CbmError(
            "crs_number_taken",
            f"The number {crs.srid} already stands for another CRS than {crs.crs.name}.",
            "Reproject the file to a CRS with an EPSG code.",
        )


def _insert_set(
    cursor: Cursor, dataset: Dataset, scan: Scan, found: Changes, record: SetRecord, now: datetime
) -> int:
    cursor.execute(
        """INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id, report,
             parcels, added, changed, removed, software_version, imported_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id""",
        (dataset.id, record.layer, record.source, record.checksum, Json(record.options),
         scan.crs.srid, Json(scan.report.as_json()), scan.report.parcels, found.added,
         found.changed, found.removed, __version__, now),
    )  # fmt: skip
    return int(one_row(cursor)[0])


def _copy_geometries(cursor: Cursor, dataset: Dataset, scan: Scan, set_id: int) -> None:
    """Write new geometries along the Hilbert curve, in which order the server numbers them.

    PostgreSQL refuses COPY into a table with row-level security; a temporary table stands between,
    emptied after each batch.
    """
    new = np.zeros(len(scan.spool), dtype=bool)
    new[changes.new_geometry_rows(cursor)] = True
    order = scan.spool.hilbert()
    rows = order[new[order]]
    projector = Projector(scan.pipeline)
    values = {"dataset": dataset.id, "set": set_id}
    cursor.execute(_GEOMETRY_BATCH)
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    # The next batches are made while the server takes one.
    made = in_order(lambda batch: _geometry_columns(scan, projector, batch), batches)
    with step("geometries written", len(rows), "geometries") as progress, closing(made):
        for count, columns in made:
            copy.copy_columns(cursor, sql.Identifier("pg_temp", "geometry_batch"), columns)
            cursor.execute(_INSERT_GEOMETRIES, values)
            progress.advance(count)


def _geometry_columns(
    scan: Scan, projector: Projector, rows: np.ndarray
) -> tuple[int, dict[str, copy.Pieces]]:
    source = scan.spool.wkb(rows)
    on_globe, areas = projector.project_wkb(source)
    return len(rows), {
        "hash": copy.raw(scan.spool.hashes[rows]),
        "geom_src": copy.multipolygons(source, scan.crs.srid),
        "geom": copy.multipolygons(on_globe, _WGS84),
        "area_m2": copy.float8(areas),
    }


_GEOMETRY_BATCH = """
CREATE TEMPORARY TABLE geometry_batch (
  hash bytea, geom_src geometry, geom geometry, area_m2 double precision
) ON COMMIT DROP"""

# A temporary table is scanned in the order in which it was filled.
_INSERT_GEOMETRIES = """
INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom, area_m2)
SELECT %(dataset)s, %(set)s, hash, geom_src, geom, area_m2
FROM pg_temp.geometry_batch;
TRUNCATE pg_temp.geometry_batch"""

# From valid_from on, a changed or removed parcel is no longer what it was. What was stored is not
# overwritten: it was known until now.
_CLOSE = """
UPDATE cbm.parcel p SET known_to = %(now)s
FROM pg_temp.change c WHERE p.id = c.old_id"""

# A parcel that began before valid_from stays what it was until then; one that began on that very
# day is corrected and leaves nothing.
_KEEP_PAST = """
INSERT INTO cbm.parcel (dataset_id, layer, pid, crop_code, crop_name, attributes, geometry_id,
                        parcel_set_id, valid_from, valid_to, known_from)
SELECT p.dataset_id, p.layer, p.pid, p.crop_code, p.crop_name, p.attributes, p.geometry_id,
       p.parcel_set_id, p.valid_from, %(valid_from)s, %(now)s
FROM cbm.parcel p JOIN pg_temp.change c ON c.old_id = p.id
WHERE c.old_from < %(valid_from)s"""

_INSERT = """
INSERT INTO cbm.parcel (dataset_id, layer, pid, crop_code, crop_name, attributes, geometry_id,
                        parcel_set_id, valid_from, known_from)
SELECT %(dataset)s, %(layer)s, i.pid, i.crop_code, i.crop_name, i.attributes, g.id,
       %(set)s, %(valid_from)s, %(now)s
FROM pg_temp.change c
JOIN pg_temp.incoming i ON i."row" = c."row"
JOIN cbm.parcel_geometry g
  ON g.dataset_id = %(dataset)s AND g.hash = i.hash AND g.retired_at IS NULL
ORDER BY g.id, i."row" """

# Whatever layer refers to a geometry keeps it.
_RETIRE = """
UPDATE cbm.parcel_geometry g SET retired_at = %(now)s
WHERE g.dataset_id = %(dataset)s AND g.retired_at IS NULL
  AND g.id IN (SELECT p.geometry_id FROM cbm.parcel p JOIN pg_temp.change c ON c.old_id = p.id)
  AND NOT EXISTS (SELECT FROM cbm.parcel k
                  WHERE k.geometry_id = g.id AND k.dataset_id = g.dataset_id
                    AND k.known_to = 'infinity')"""
