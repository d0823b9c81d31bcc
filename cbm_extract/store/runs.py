"""Slices of statistics with their evidence: rows of ``cbm.run``, appended and never changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg2.extras import Json

from cbm_core import __version__
from cbm_core.db import Cursor, one_row
from cbm_extract.store import evidence, signatures
from cbm_extract.store.signatures import Slice


@dataclass(frozen=True)
class PlanUsed:
    """A plan an extraction used, by content: ``content_hash`` is hexadecimal."""

    lattice: str
    parcel_set_id: int
    buffer_m: float
    content_hash: str


@dataclass(frozen=True)
class Run:
    """What one completed extraction did and with what.

    It covers the geometries that parcel sets after ``parcel_set_from`` up to ``parcel_set_to``
    introduced (from 0: all of them); with ``scope`` fill those of them that had no row. ``assets``
    maps each band read to its address, version (size, time or etag), scale, offset, nodata and
    where the offset came from. ``missing_bands`` are the product's bands the scene does not have.
    """

    scene_id: int
    dataset_id: int
    product_id: int
    scope: str
    parcel_set_from: int
    parcel_set_to: int
    token: int
    worker: str
    product_hash: bytes
    plans: tuple[PlanUsed, ...]
    assets: dict[str, dict[str, Any]]
    started_at: datetime
    missing_bands: tuple[str, ...] = field(default=())


def add_slice(cursor: Cursor, leaf: str, rows: Slice, run: Run) -> None:
    """Insert rows into their partition and append the evidence, in the caller's transaction."""
    digest = signatures.insert(cursor, leaf, rows)
    _append(cursor, run, rows, digest, None)


def replace_slice(cursor: Cursor, leaf: str, rows: Slice, run: Run, item_id: int) -> int | None:
    """Store a slice that was stored before; return how many old rows had to make way.

    Where the new rows equal the old ones, the old ones stay and 0 is returned; None where there
    were no old ones. Otherwise the old ones go to ``cbm.signature_archived``, all in the caller's
    transaction. The work item must be running in full under the run's token.
    """
    digest = signatures.digest(rows)
    stored = evidence.stored_slice(cursor, run.scene_id, run.dataset_id, run.product_id)
    if digest == stored.digest:
        _append(cursor, run, rows, digest, 0)
        return 0
    replaced = stored.rows or None
    run_id = _append(cursor, run, rows, digest, replaced)
    key = item_id, run.token, run_id
    cursor.execute("SELECT cbm.archive_signature_slice(%s, %s, %s)", key)
    signatures.insert(cursor, leaf, rows)
    return replaced


def _append(cursor: Cursor, run: Run, rows: Slice, digest: bytes, replaced: int | None) -> int:
    cursor.execute(
        """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
             parcel_set_to, token, worker, software_version, product_hash, plans, assets,
             missing_bands, rows, digest, geometry_ids, replaced, started_at, finished_at)
           VALUES (%(scene_id)s, %(dataset_id)s, %(product_id)s, %(scope)s, %(parcel_set_from)s,
             %(parcel_set_to)s, %(token)s, %(worker)s, %(version)s, %(product_hash)s, %(plans)s,
             %(assets)s, %(missing)s, %(rows)s, %(digest)s, %(geometry_ids)s, %(replaced)s,
             %(started_at)s, clock_timestamp())
           RETURNING id""",
        {
            **vars(run),
            "version": __version__,
            "plans": Json([vars(plan) for plan in run.plans]),
            "assets": Json(run.assets),
            "missing": list(run.missing_bands),
            "rows": len(rows),
            "digest": digest,
            "geometry_ids": rows.geometry_ids.tolist() if run.scope == "fill" else None,
            "replaced": replaced,
        },
    )
    return int(one_row(cursor)[0])
