"""Scenes of a dataset: those that its extraction was asked for, of the catalogue of all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql
from pydantic import Field

from cbm_api.period import Period
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.rows import Row
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

_COLUMNS = sql.SQL("""
s.id, s.reference, s.part, s.card, s.platform, s.obstime, s.tile, s.orbit_direction,
s.relative_orbit, s.absolute_orbit, s.incidence_angle, s.baseline, s.cloud_percent, s.state,
s.state_reason,
(SELECT b.reference FROM cbm.scene b WHERE b.id = s.superseded_by) AS superseded_by,
s.reference_time, s.temporal_baseline_days, s.perpendicular_baseline""")

_LIST = sql.SQL("""
SELECT {columns}
FROM cbm.scene s
WHERE s.obstime >= %(start)s AND s.obstime < %(end)s
  AND EXISTS (SELECT FROM cbm.work_item w
              WHERE w.scene_id = s.id AND w.dataset_id = %(dataset)s)
  AND (%(card)s::text IS NULL OR s.card = %(card)s)
  AND (%(state)s::text IS NULL OR s.state = %(state)s)
  AND (%(direction)s::text IS NULL OR s.orbit_direction = %(direction)s)
  AND (%(relative)s::integer IS NULL OR s.relative_orbit = %(relative)s)
  AND (%(cloud)s::float8 IS NULL OR s.cloud_percent <= %(cloud)s::float8)
  AND (%(after)s::integer IS NULL OR (s.obstime, s.id) >
       (SELECT a.obstime, a.id FROM cbm.scene a WHERE a.id = %(after)s))
ORDER BY s.obstime, s.id LIMIT %(limit)s""").format(columns=_COLUMNS)

# Where files are is for operators only.
_ONE = sql.SQL("""
SELECT {columns}, ST_AsGeoJSON(s.footprint, 7)::json,
  (SELECT jsonb_object_agg(band.key, band.value - 'href') FROM jsonb_each(s.assets) band)
FROM cbm.scene s
WHERE s.id = %(scene)s
  AND EXISTS (SELECT FROM cbm.work_item w
              WHERE w.scene_id = s.id AND w.dataset_id = %(dataset)s)""").format(columns=_COLUMNS)


@dataclass(frozen=True)
class Wanted:
    """Which scenes; None leaves a condition out. ``cloud`` is at most that many per cent."""

    period: Period
    card: str | None = None
    state: str | None = None
    direction: str | None = None
    relative_orbit: int | None = None
    cloud: float | None = None


class Scene(Row):
    """An image as catalogued."""

    id: int
    reference: str
    part: str
    card: str
    platform: str
    obstime: datetime
    tile: str
    orbit_direction: str | None
    relative_orbit: int | None
    absolute_orbit: int | None
    incidence_angle: float | None = Field(description="Mean, in degrees.")
    baseline: str | None
    cloud_percent: float | None
    state: str = Field(description="active, superseded, held or retracted.")
    state_reason: str | None
    superseded_by: str | None = Field(description="The reference of the scene that took its place.")
    reference_time: datetime | None = Field(
        description="Of coherence: when the earlier image was taken; obstime is the later's."
    )
    temporal_baseline_days: int | None
    perpendicular_baseline: float | None = Field(description="In metres.")


class Item(Row):
    """What became of a scene under a product."""

    product: str
    revision: int
    state: str = Field(description="pending, running, done or failed.")
    error_code: str | None
    finished_at: datetime | None


def listed(
    cursor: Cursor, dataset: Dataset, wanted: Wanted, after: int | None, limit: int
) -> list[Scene]:
    """Return scenes by time, at most ``limit``, those after the scene with the id ``after``."""
    cursor.execute(
        _LIST,
        {
            "dataset": dataset.id,
            "start": wanted.period.start,
            "end": wanted.period.end,
            "card": wanted.card,
            "state": wanted.state,
            "direction": wanted.direction,
            "relative": wanted.relative_orbit,
            "cloud": wanted.cloud,
            "after": after,
            "limit": limit,
        },
    )
    return [Scene.of(row) for row in cursor.fetchall()]


def get(
    cursor: Cursor, dataset: Dataset, scene: int
) -> tuple[Scene, dict[str, Any], dict[str, Any]]:
    """Return a scene, its footprint (GeoJSON, CRS84), and what its bands mean.

    Raises:
        CbmError: ``scene_unknown``.

    """
    cursor.execute(_ONE, {"dataset": dataset.id, "scene": scene})
    row = cursor.fetchone()
    if row is None:
        raise CbmError(
            "scene_unknown",
            "The collection has no such scene.",
            "GET /v1/collections/{id}/scenes lists its scenes.",
        )
    return Scene.of(row[:-2]), row[-2], row[-1] or {}


def items(cursor: Cursor, dataset: Dataset, scene: int) -> list[Item]:
    """Return what became of a scene, product by product."""
    cursor.execute(
        """SELECT p.name, p.revision, w.state, w.error_code, w.finished_at
           FROM cbm.work_item w JOIN cbm.product p ON p.id = w.product_id
           WHERE w.dataset_id = %s AND w.scene_id = %s ORDER BY p.name, p.revision""",
        (dataset.id, scene),
    )
    return [Item.of(row) for row in cursor.fetchall()]
