"""The evidence of completed extractions: rows of ``cbm.run``, appended and never changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg2.extras import Json

from cbm_core import __version__
from cbm_core.db import Cursor


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
    introduced (from 0: all of them). ``assets`` maps each band read to its address, version
    (size, time or etag), scale, offset, nodata and where the offset came from. ``missing_bands``
    are the product's bands the scene does not have. ``digest`` is that of the slice written.
    """

    scene_id: int
    dataset_id: int
    product_id: int
    parcel_set_from: int
    parcel_set_to: int
    token: int
    worker: str
    product_hash: bytes
    plans: tuple[PlanUsed, ...]
    assets: dict[str, dict[str, Any]]
    rows: int
    digest: bytes
    started_at: datetime
    missing_bands: tuple[str, ...] = field(default=())


def append(cursor: Cursor, run: Run) -> None:
    """Append the evidence inside the transaction that writes the rows."""
    cursor.execute(
        """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
             parcel_set_to, token, worker, software_version, product_hash, plans, assets,
             missing_bands, rows, digest, started_at, finished_at)
           VALUES (%(scene_id)s, %(dataset_id)s, %(product_id)s, %(scope)s, %(parcel_set_from)s,
             %(parcel_set_to)s, %(token)s, %(worker)s, %(version)s, %(product_hash)s, %(plans)s,
             %(assets)s, %(missing)s, %(rows)s, %(digest)s, %(started_at)s, clock_timestamp())""",
        {
            **vars(run),
            "scope": "delta" if run.parcel_set_from else "full",
            "version": __version__,
            "plans": Json([vars(plan) for plan in run.plans]),
            "assets": Json(run.assets),
            "missing": list(run.missing_bands),
        },
    )
