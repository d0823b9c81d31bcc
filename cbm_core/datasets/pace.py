"""How fast the ledger's items get done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2 import sql

from cbm_core.db import Cursor, one_row

# The recent past that the rate is taken from.
WINDOW_SECONDS = 900.0

# Work that began before the window counts from the window's start on.
_PACE = sql.SQL("""
SELECT count(*) FILTER (WHERE finished),
       extract(epoch FROM clock_timestamp() - greatest(
         min(w.started_at) FILTER (WHERE finished),
         clock_timestamp() - make_interval(secs => %(window)s))),
       count(*) FILTER (WHERE w.state IN ('pending', 'running') AND s.state = 'active')
FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id,
LATERAL (SELECT w.state IN ('done', 'failed')
           AND w.finished_at > clock_timestamp() - make_interval(secs => %(window)s)) f (finished)
WHERE {condition}""")


@dataclass(frozen=True)
class Pace:
    """Items done (or failed) per hour of late, and seconds until the open ones are.

    Both None where nothing was done in the last quarter of an hour; ``seconds_left`` is 0 where
    nothing is open.
    """

    per_hour: float | None
    seconds_left: float | None

    def as_json(self) -> dict[str, float | None]:
        """Return both, rounded."""
        return {
            "rate_per_hour": None if self.per_hour is None else round(self.per_hour, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
        }


def measure(cursor: Cursor, condition: sql.Composable, values: Mapping[str, object]) -> Pace:
    """Return how fast the items of ``cbm.work_item w`` that meet a condition are worked on."""
    cursor.execute(_PACE.format(condition=condition), {"window": WINDOW_SECONDS, **values})
    finished, seconds, left = one_row(cursor)
    per_hour = finished / max(float(seconds), 1.0) * 3600 if finished else None
    seconds_left = 0.0 if not left else left / per_hour * 3600 if per_hour else None
    return Pace(per_hour, seconds_left)
