"""What the ledger says about its items: counts and failures, and putting failures back to work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql

from cbm_core.db import Cursor
from cbm_extract.ledger.states import IN_SCOPE, STATES, Scope


@dataclass(frozen=True)
class Failure:
    """A failed item with its cause."""

    item_id: int
    dataset: str
    product: str
    scene_id: int
    reference: str
    part: str
    attempts: int
    code: str
    error: str
    at: datetime

    def as_json(self) -> dict[str, object]:
        """Return the form that verbs print."""
        return {**vars(self), "at": self.at.isoformat()}


_COUNTS = sql.SQL("""
SELECT d.aoi || ':' || d.year,
       p.name || CASE WHEN p.revision > 1 THEN '@' || p.revision ELSE '' END,
       CASE WHEN w.state IN ('pending', 'running') AND s.state <> 'active' THEN s.state
            ELSE w.state END AS state,
       count(*)
FROM cbm.work_item w
JOIN cbm.dataset d ON d.id = w.dataset_id
JOIN cbm.product p ON p.id = w.product_id
JOIN cbm.scene s ON s.id = w.scene_id
WHERE {in_scope}
GROUP BY d.aoi, d.year, p.name, p.revision, 3
ORDER BY d.aoi, d.year, p.name, p.revision""").format(in_scope=IN_SCOPE)

_FAILURES = sql.SQL("""
SELECT w.id, d.aoi || ':' || d.year, p.name, s.id, s.reference, s.part, w.attempts,
       coalesce(w.error_code, ''), coalesce(w.error, ''), w.finished_at
FROM cbm.work_item w
JOIN cbm.dataset d ON d.id = w.dataset_id
JOIN cbm.product p ON p.id = w.product_id
JOIN cbm.scene s ON s.id = w.scene_id
WHERE w.state = 'failed' AND {in_scope}
  AND (%(code)s::text IS NULL OR w.error_code = %(code)s)
  AND (%(reference)s::text IS NULL OR s.reference = %(reference)s)
  AND (%(active)s::boolean IS FALSE OR s.state = 'active')
ORDER BY s.obstime, s.id, p.name""").format(in_scope=IN_SCOPE)


def counts(cursor: Cursor, scope: Scope) -> dict[tuple[str, str], dict[str, int]]:
    """Return (dataset, product) -> state -> items.

    Open items of a scene that is not active are counted under the scene's state (``held``,
    ``superseded``, ``retracted``): nobody will do them as things are. A product's later revisions
    are written ``name@2``.
    """
    cursor.execute(_COUNTS, scope.parameters())
    found: dict[tuple[str, str], dict[str, int]] = {}
    for dataset, product, state, number in cursor.fetchall():
        found.setdefault((dataset, product), dict.fromkeys(STATES, 0))[state] = number
    return found


def failures(
    cursor: Cursor,
    scope: Scope,
    *,
    code: str | None = None,
    reference: str | None = None,
    active_only: bool = False,
) -> list[Failure]:
    """Return failed items in the order of acquisition, filtered where told."""
    filters = {"code": code, "reference": reference, "active": active_only}
    cursor.execute(_FAILURES, {**filters, **scope.parameters()})
    return [Failure(*row) for row in cursor.fetchall()]


def retry(cursor: Cursor, item_ids: list[int]) -> int:
    """Put failed items back to pending with all attempts left; return how many."""
    cursor.execute(
        """UPDATE cbm.work_item SET state = 'pending', attempts = 0
           WHERE id = ANY(%s) AND state = 'failed'""",
        (item_ids,),
    )
    return cursor.rowcount
