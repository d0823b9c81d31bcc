"""All that the ledger knows about a scene, as facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cbm_core.db import Cursor


@dataclass(frozen=True)
class SceneFacts:
    """A scene as catalogued; ``superseded_by`` is a reference, ``supersedes`` are some."""

    id: int
    card: str
    reference: str
    part: str
    obstime: datetime
    tile: str
    state: str
    state_reason: str | None
    state_since: datetime
    superseded_by: str | None
    supersedes: tuple[str, ...]
    overruled: tuple[str, ...]


@dataclass(frozen=True)
class ItemFacts:
    """A work item. ``newer_sets`` are the parcel sets under the scene that it does not cover."""

    id: int
    dataset: str
    product: str
    state: str
    scope: str
    next_scope: str | None
    reason: str | None
    parcel_set_id: int
    attempts: int
    error_code: str | None
    error: str | None
    worker: str | None
    lease_until: datetime | None
    lease_expired: bool
    started_at: datetime | None
    finished_at: datetime | None
    newer_sets: tuple[int, ...]
    runs: tuple[dict[str, Any], ...]


def scenes(cursor: Cursor, ids: list[int]) -> list[SceneFacts]:
    """Return what the catalogue says of scenes, in the order of card and part."""
    cursor.execute(
        """SELECT s.id, s.card, s.reference, s.part, s.obstime, s.tile, s.state, s.state_reason,
                  s.state_since, b.reference,
                  ARRAY(SELECT o.reference FROM cbm.scene o WHERE o.superseded_by = s.id
                        ORDER BY o.reference),
                  s.overruled
           FROM cbm.scene s LEFT JOIN cbm.scene b ON b.id = s.superseded_by
           WHERE s.id = ANY(%s) ORDER BY s.card, s.part""",
        (ids,),
    )
    return [SceneFacts(*[*row[:10], *map(tuple, row[10:])]) for row in cursor.fetchall()]


def items(cursor: Cursor, scene_id: int, dataset_id: int | None) -> list[ItemFacts]:
    """Return a scene's work items, of one dataset or all, with the runs of each, oldest first."""
    cursor.execute(
        """SELECT w.id, d.aoi || ':' || d.year,
                  p.name || CASE WHEN p.revision > 1 THEN '@' || p.revision ELSE '' END,
                  w.state, w.scope, w.next_scope, w.reason, w.parcel_set_id, w.attempts,
                  w.error_code, w.error, w.worker, w.lease_until,
                  coalesce(w.lease_until < clock_timestamp(), false), w.started_at, w.finished_at,
                  ARRAY(SELECT DISTINCT g.parcel_set_id FROM cbm.parcel_geometry g
                        WHERE g.dataset_id = w.dataset_id AND g.retired_at IS NULL
                          AND g.parcel_set_id > w.parcel_set_id AND g.geom && s.footprint
                          AND ST_Intersects(g.geom, s.footprint) ORDER BY 1),
                  w.dataset_id, w.product_id
           FROM cbm.work_item w
           JOIN cbm.scene s ON s.id = w.scene_id
           JOIN cbm.dataset d ON d.id = w.dataset_id
           JOIN cbm.product p ON p.id = w.product_id
           WHERE w.scene_id = %(scene)s
             AND (%(dataset)s::smallint IS NULL OR w.dataset_id = %(dataset)s)
           ORDER BY d.aoi, d.year, p.name, p.revision""",
        {"scene": scene_id, "dataset": dataset_id},
    )
    rows = cursor.fetchall()
    return [
        ItemFacts(*[*row[:16], tuple(row[16]), tuple(_runs(cursor, scene_id, *row[17:]))])
        for row in rows
    ]


def _runs(cursor: Cursor, scene_id: int, dataset_id: int, product_id: int) -> list[dict[str, Any]]:
    cursor.execute(
        """SELECT id, finished_at, software_version, scope, parcel_set_from, parcel_set_to, rows,
                  replaced, left(encode(digest, 'hex'), 12) AS digest, missing_bands, worker
           FROM cbm.run WHERE scene_id = %s AND dataset_id = %s AND product_id = %s ORDER BY id""",
        (scene_id, dataset_id, product_id),
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def unasked(cursor: Cursor, scene_id: int, dataset_id: int | None) -> list[str]:
    """Return the datasets with parcels under a scene in their imagery, but without an item."""
    cursor.execute(
        """SELECT d.aoi || ':' || d.year FROM cbm.dataset d, cbm.scene s
           WHERE s.id = %(scene)s AND d.purged_at IS NULL
             AND (%(dataset)s::smallint IS NULL OR d.id = %(dataset)s)
             AND (s.obstime AT TIME ZONE 'UTC')::date BETWEEN d.imagery_start AND d.imagery_end
             AND NOT EXISTS (SELECT FROM cbm.work_item w
                             WHERE w.scene_id = s.id AND w.dataset_id = d.id)
             AND EXISTS (SELECT FROM cbm.parcel_geometry g
                         WHERE g.dataset_id = d.id AND g.retired_at IS NULL
                           AND g.geom && s.footprint AND ST_Intersects(g.geom, s.footprint))
           ORDER BY 1""",
        {"scene": scene_id, "dataset": dataset_id},
    )
    return [row[0] for row in cursor.fetchall()]
