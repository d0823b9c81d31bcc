"""How fast the ledger's items get done, by whom, and what was done since a moment."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from cbm_core.datasets.pace import Pace, measure
from cbm_core.db import Cursor, one_row
from cbm_extract.ledger.states import IN_SCOPE, Scope

_WORKERS = sql.SQL("""
SELECT DISTINCT w.worker FROM cbm.work_item w
WHERE w.state = 'running' AND w.lease_until >= clock_timestamp() AND {in_scope}
ORDER BY w.worker""").format(in_scope=IN_SCOPE)

_DONE_SINCE = sql.SQL("""
SELECT count(DISTINCT w.scene_id), count(*), coalesce(sum(w.rows), 0)
FROM cbm.run w WHERE w.id > %(run)s AND {in_scope}""").format(in_scope=IN_SCOPE)


@dataclass(frozen=True)
class Progress:
    """The pace, and the processes that hold a live lease, as host:pid."""

    pace: Pace
    workers: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return the fields that verbs print."""
        return {**self.pace.as_json(), "workers": list(self.workers)}

    @property
    def line(self) -> str:
        """The pace for people, empty where there is none to speak of."""
        pace = self.pace
        parts = [f"{pace.per_hour:.0f} items an hour"] if pace.per_hour else []
        if pace.seconds_left:
            minutes = max(1, round(pace.seconds_left / 60))
            parts.append(f"about {minutes // 60} h {minutes % 60} min left")
        if self.workers:
            parts.append(f"{len(self.workers)} workers at it")
        return ", ".join(parts)


def progress(cursor: Cursor, scope: Scope) -> Progress:
    """Return how fast the scope is being worked on, and by whom."""
    parameters = scope.parameters()
    found = measure(cursor, IN_SCOPE, parameters)
    cursor.execute(_WORKERS, parameters)
    return Progress(found, tuple(row[0] for row in cursor.fetchall()))


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
