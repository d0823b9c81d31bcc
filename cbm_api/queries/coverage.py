"""Why a parcel has a value of a scene or not, and how far the extraction of a dataset is.

The codes are those of ``cbm.parcel_coverage``, and ``not_asked``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from psycopg2 import sql
from pydantic import Field, computed_field

from cbm_api.period import Period
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.rows import Row
from cbm_core.datasets import pace as paces
from cbm_core.datasets.pace import Pace
from cbm_core.datasets.products import Product
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


Code = Literal[
    "ok", "clouded", "no_image", "no_pixel", "not_yet", "not_asked", "failed",
    "held", "superseded", "retracted",
]  # fmt: skip
_WHY: dict[Code, str] = {
    "ok": "There are statistics.",
    "clouded": "Imaged, but the product's mask left no pixel, or too few.",
    "no_image": "The scene holds no valid pixel of the parcel, or a better tile does.",
    "no_pixel": "No pixel's centre lies in the parcel.",
    "not_yet": "The extraction is still to come.",
    "not_asked": "The scene is catalogued; its extraction has not been asked for yet.",
    "failed": "The extraction failed; the operator knows why.",
    "held": "The scene was found unfit and is held back.",
    "superseded": "A newer processing of the scene took its place.",
    "retracted": "The operator took the scene out of use.",
}


class Answer(Row):
    """What there is of a scene for the parcel."""

    obstime: datetime
    product: str
    revision: int
    reference: str
    part: str
    tile: str
    cloud_percent: float | None = Field(description="Of the whole scene.")
    px_imaged: int | None
    px_clear: int | None
    code: Code

    @computed_field
    def why(self) -> str:
        """Say the code in words."""
        return _WHY[self.code]


class Counts(Row):
    """Scenes of a product by what became of them."""

    product: str
    revision: int
    card: str
    pending: int
    running: int
    done: int
    failed: int
    withheld: int = Field(description="Open, but superseded, held or retracted: not in use.")


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
    return [Answer.of(row) for row in cursor.fetchall()]


def counts(cursor: Cursor, dataset: Dataset) -> list[Counts]:
    """Count a dataset's scenes per product and state."""
    cursor.execute(_COUNTS, (dataset.id,))
    return [Counts.of(row) for row in cursor.fetchall()]


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
    of_dataset = sql.SQL("w.dataset_id = %(dataset)s")
    return paces.measure(cursor, of_dataset, {"dataset": dataset.id})


def last_done_at(cursor: Cursor, dataset: Dataset) -> datetime | None:
    """Return when a scene of a dataset was last done."""
    cursor.execute(
        """SELECT max(finished_at) FROM cbm.work_item
           WHERE dataset_id = %s AND state = 'done'""",
        (dataset.id,),
    )
    found: datetime | None = one_row(cursor)[0]
    return found
