"""How fast the ledger's items get done, by whom, and what was done since a moment."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from cbm_core.db import Cursor, one_row
from cbm_extract.ledger.states import IN_SCOPE, Scope

# The recent past that the rate is taken from.
WINDOW_SECONDS = 900.0

# Work that began before the window counts from the window's start on.
_PACE = sql.SQL("""
SELECT count(*) FILTER (WHERE finished),
       extract(epoch FROM clock_timestamp() - greatest(
         min(w.started_at) FILTER (WHERE finished),
         clock_timestamp() - make_interval(secs => %(window)s))),
       count(*) FILTER (WHERE w.state IN ('pending', 'running') AND s.state = 'active'),
       array_agg(DISTINCT w.worker ORDER BY w.worker)
         FILTER (WHERE w.state = 'running' AND w.lease_until >= clock_timestamp())
FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id,
LATERAL (SELECT w.state IN ('done', 'failed')
           AND w.finished_at > clock_timestamp() - make_interval(secs => %(window)s)) f (finished)
WHERE {in_scope}""").format(in_scope=IN_SCOPE)

_DONE_SINCE = sql.SQL("""
SELECT count(DISTINCT w.scene_id), count(*), coalesce(sum(w.rows), 0)
FROM cbm.run w WHERE w.id > %(run)s AND {in_scope}""").format(in_scope=IN_SCOPE)


@dataclass(frozen=True)
class Pace:
    """Items done (or failed) per hour of late, and seconds until the open ones are.

    Both None where nothing was done in the last quarter of an hour; ``seconds_left`` is 0 where
    nothing is open. ``workers`` are the processes that hold a live lease, as host:pid.
    """

    per_hour: float | None
    seconds_left: float | None
    workers: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return the fields that verbs print."""
        return {
            "rate_per_hour": None if self.per_hour is None else round(self.per_hour, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
            "workers": list(self.workers),
        }

    @property
    def line(self) -> str:
        """The pace for people, empty where there is none to speak of."""
        parts = [f"{self.per_hour:.0f} items an hour"] if self.per_hour else []
        if self.seconds_left:
            minutes = max(1, round(self.seconds_left / 60))
            parts.append(f"about {minutes // 60} h {minutes % 60} min left")
        if self.workers:
            parts.append(f"{len(self.workers)} workers at it")
        return ", ".join(parts)


def pace(cursor: Cursor, scope: Scope) -> Pace:
    """Return how fast the scope is being worked on."""
    cursor.execute(_PACE, {"window": WINDOW_SECONDS, **scope.parameters()})
    finished, seconds, left, workers = one_row(cursor)
    per_hour = finished / max(float(seconds), 1.0) * 3600 if finished else None
    seconds_left = 0.0 if not left else left / per_hour * 3600 if per_hour else None
    return Pace(per_hour, seconds_left, tuple(workers or ()))


def last_run(cursor: Cursor) -> int:
    """Return the number of the latest completed run, 0 without any."""
    cursor.execute("SELECT coalesce(max(id), 0) FROM cbm.run")
    return int(one_row(cursor)[0])


@dataclass(frozen=True)
class Done:
    """What was completed: distinct scenes, items, and rows written."""

    scenes: int
    items: int
    rows: int


def done_since(cursor: Cursor, scope: Scope, run: int) -> Done:
    """Count what was completed in a scope after :func:`last_run` said ``run``."""
    cursor.execute(_DONE_SINCE, {"run": run, **scope.parameters()})
    return Done(*(int(number) for number in one_row(cursor)))
