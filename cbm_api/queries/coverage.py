"""Why a parcel has a value of a scene or not, and how far the extraction of a dataset is.

The codes are those of ``cbm.parcel_coverage``, and ``not_asked``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cbm_api.period import Period
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.products import Product
from cbm_core.db import Cursor, one_row

# Dataset and geometries are given as numbers, so that only their months of signatures are planned
# for. Scenes that nobody has asked for yet are among the answers.
_OF_PARCEL = """
SELECT sc.obstime, pr.name, pr.revision, sc.reference, sc.part, sc.tile, sc.cloud_percent,
  s.px_imaged, s.px_clear,
  CASE
    WHEN sc.state <> 'active' THEN sc.state
    WHEN s.px_clear = 0 THEN 'clouded'
    WHEN s.px_clear > 0 THEN 'ok'
    WHEN w.id IS NULL THEN 'not_asked'
    -- Open or failed only for parcels that came after what the item has done, or in a gap.
    WHEN (w.parcel_set_id < g.parcel_set_id OR w.scope <> 'delta') AND w.state = 'failed'
      THEN 'failed'
    WHEN w.parcel_set_id < g.parcel_set_id OR w.scope <> 'delta' OR w.next_scope IS NOT NULL
      THEN 'not_yet'
    WHEN NOT EXISTS (
      SELECT FROM cbm.monitorability m
      WHERE m.geometry_id = g.id AND m.dataset_id = g.dataset_id AND m.pixels_planned > 0
        AND m.buffer_m = coalesce((pr.definition ->> 'buffer_m')::real, 0)
    ) THEN 'no_pixel'
    ELSE 'no_image'
  END
FROM cbm.parcel p
JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
JOIN cbm.scene sc ON sc.footprint && g.geom
  AND sc.obstime >= p.valid_from::timestamp AT TIME ZONE 'UTC'
  AND sc.obstime < p.valid_to::timestamp AT TIME ZONE 'UTC'
JOIN cbm.product pr ON pr.card = sc.card AND pr.id = ANY(%(products)s)
LEFT JOIN cbm.work_item w ON w.scene_id = sc.id AND w.dataset_id = %(dataset)s
  AND w.product_id = pr.id
LEFT JOIN cbm.signature s ON s.dataset_id = %(dataset)s AND s.geometry_id = g.id
  AND s.scene_id = sc.id AND s.product_id = pr.id AND s.obstime = sc.obstime
WHERE p.dataset_id = %(dataset)s AND p.layer = %(layer)s AND p.pid = %(pid)s
  AND p.known_to = 'infinity'
  AND sc.obstime >= %(start)s AND sc.obstime < %(end)s
  AND (w.id IS NOT NULL OR (
    sc.obstime >= %(first)s::date AND sc.obstime < %(last)s::date + 1
    AND ST_Intersects(sc.footprint, g.geom)))
ORDER BY sc.obstime, pr.name, pr.revision, sc.tile, sc.id"""

# The recent past that the rate is taken from, as `cbm ledger status` does.
_RATE = """
SELECT count(*) FILTER (WHERE finished),
  extract(epoch FROM now() - greatest(min(w.started_at) FILTER (WHERE finished),
                                      now() - interval '15 minutes'))::float,
  count(*) FILTER (WHERE w.state IN ('pending', 'running') AND s.state = 'active'),
  max(w.finished_at) FILTER (WHERE w.state = 'done')
FROM cbm.work_item w
JOIN cbm.scene s ON s.id = w.scene_id
CROSS JOIN LATERAL (
  SELECT w.state IN ('done', 'failed') AND w.finished_at > now() - interval '15 minutes'
) f (finished)
WHERE w.dataset_id = %s"""

_COUNTS = """
SELECT p.name, p.revision, p.card,
  count(*) FILTER (WHERE w.state = 'pending' AND s.state = 'active'),
  count(*) FILTER (WHERE w.state = 'running' AND s.state = 'active'),
  count(*) FILTER (WHERE w.state = 'done'),
  count(*) FILTER (WHERE w.state = 'failed'),
  count(*) FILTER (WHERE w.state IN ('pending', 'running') AND s.state <> 'active')
FROM cbm.work_item w
JOIN cbm.scene s ON s.id = w.scene_id
JOIN cbm.product p ON p.id = w.product_id
WHERE w.dataset_id = %s
GROUP BY p.name, p.revision, p.card ORDER BY p.name, p.revision"""


@dataclass(frozen=True)
class Answer:
    """What there is of a scene for a parcel, and why."""

    obstime: datetime
    product: str
    revision: int
    reference: str
    part: str
    tile: str
    cloud_percent: float | None
    px_imaged: int | None
    px_clear: int | None
    code: str


@dataclass(frozen=True)
class Counts:
    """Scenes of a product by what became of them.

    ``withheld`` are open, but not in use: superseded, held or retracted.
    """

    product: str
    revision: int
    card: str
    pending: int
    running: int
    done: int
    failed: int
    withheld: int


@dataclass(frozen=True)
class Pace:
    """Scenes per hour of late, and seconds until the open ones are done; None: not known."""

    per_hour: float | None
    seconds_left: float | None
    last_done_at: datetime | None


def of_parcel(
    cursor: Cursor, dataset: Dataset, pid: str, products: Sequence[Product], period: Period
) -> list[Answer]:
    """Return an answer for each scene that shows a parcel's place, and each product, by time."""
    cursor.execute(
        _OF_PARCEL,
        {
            "dataset": dataset.id,
            "layer": dataset.layer,
            "pid": pid,
            "products": [product.id for product in products],
            "start": period.start,
            "end": period.end,
            "first": dataset.imagery_start,
            "last": dataset.imagery_end,
        },
    )
    return [Answer(*row) for row in cursor.fetchall()]


def counts(cursor: Cursor, dataset: Dataset) -> list[Counts]:
    """Count a dataset's scenes per product and state."""
    cursor.execute(_COUNTS, (dataset.id,))
    return [Counts(*row) for row in cursor.fetchall()]


def failures(cursor: Cursor, dataset: Dataset) -> dict[str, int]:
    """Count a dataset's failed scenes by cause."""
    cursor.execute(
        """SELECT coalesce(error_code, 'unknown'), count(*) FROM cbm.work_item
           WHERE dataset_id = %s AND state = 'failed' GROUP BY 1 ORDER BY 1""",
        (dataset.id,),
    )
    return dict(cursor.fetchall())


def pace(cursor: Cursor, dataset: Dataset) -> Pace:
    """Return how fast a dataset is being worked on."""
    cursor.execute(_RATE, (dataset.id,))
    finished, seconds, left, last = one_row(cursor)
    per_hour = finished / max(seconds, 1.0) * 3600 if finished else None
    seconds_left = 0.0 if not left else left / per_hour * 3600 if per_hour else None
    return Pace(per_hour, seconds_left, last)
