"""Asking for a full extraction of items that have been done before."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extras import Json

from cbm_core.db import Cursor
from cbm_extract.ledger.states import FULL, IN_SCOPE, Scope


@dataclass(frozen=True)
class Marked:
    """An item to be extracted again."""

    item_id: int
    product: str
    scene: str
    state: str

    @property
    def state_after(self) -> str:
        """What becomes of it: what is running is done again when it is finished."""
        return "running, then pending in full" if self.state == "running" else "pending in full"


_FIND = sql.SQL("""
SELECT w.id, p.name || CASE WHEN p.revision > 1 THEN '@' || p.revision ELSE '' END,
       rtrim(s.reference || ' ' || s.part), w.state
FROM cbm.work_item w
JOIN cbm.product p ON p.id = w.product_id
JOIN cbm.scene s ON s.id = w.scene_id
WHERE w.parcel_set_id > 0 AND {in_scope} AND (%(scene)s::text IS NULL OR s.reference = %(scene)s)
  AND CASE w.state WHEN 'running' THEN w.next_scope IS DISTINCT FROM 'full'
                   WHEN 'pending' THEN w.scope <> 'full' ELSE true END
ORDER BY s.obstime, s.id, p.name, p.revision""").format(in_scope=IN_SCOPE)


def find(cursor: Cursor, scope: Scope, scene: str | None) -> list[Marked]:
    """Return the items with stored rows that are not to be extracted in full already.

    ``scene`` is a reference; None means all.
    """
    cursor.execute(_FIND, {"scene": scene, **scope.parameters()})
    return [Marked(*row) for row in cursor.fetchall()]


def mark(cursor: Cursor, dataset: str, found: list[Marked], reason: str | None) -> None:
    """Have items extracted in full, and say so in the audit trail."""
    if not found:
        return
    ids = [one.item_id for one in found]
    cursor.execute(
        """UPDATE cbm.work_item SET
             state = CASE state WHEN 'running' THEN state ELSE 'pending' END,
             attempts = CASE state WHEN 'running' THEN attempts ELSE 0 END,
             scope = CASE state WHEN 'running' THEN scope ELSE %(full)s END,
             next_scope = CASE state WHEN 'running' THEN %(full)s END,
             reason = coalesce(%(reason)s, 'asked for by ' || session_user)
           WHERE id = ANY(%(ids)s)""",
        {"full": FULL, "reason": reason, "ids": ids},
    )
    detail = {"dataset": dataset, "items": len(ids), "reason": reason}
    cursor.execute(
        "INSERT INTO cbm.audit (action, detail) VALUES ('ledger redo', %s)", (Json(detail),)
    )
