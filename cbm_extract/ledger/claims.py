"""Claiming a scene, keeping it, and giving it back; ``states`` has the table of transitions.

Every function takes a cursor inside the caller's transaction and changes only what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_extract.ledger.states import (
    IN_SCOPE,
    MAX_ATTEMPTS,
    TRANSIENT_CODES,
    Claim,
    Item,
    Scope,
)

# Shorter leases do not make the server more impatient than this.
MIN_STALL_SECONDS = 30.0

_EXPIRED = sql.SQL("(w.state = 'running' AND w.lease_until < clock_timestamp())")
_CLAIMABLE = sql.SQL("(w.state = 'pending' OR {})").format(_EXPIRED)

# Pending items are read from one end of an index that has them in this order, whatever their
# number; running ones are as many as workers. The planner would rather sort the whole backlog where
# it has no statistics yet, or where many items seem to be in scope.
_READ_IN_ORDER = """SELECT set_config('enable_' || method, 'off', true)
FROM unnest('{seqscan,bitmapscan,sort,hashjoin,mergejoin}'::text[]) AS method"""

# Scenes with fewer failed attempts first, so that one that keeps failing does not hold others up;
# then in the order of the catalogue. The lock on the scene keeps two claimers from sharing its
# items; it is weaker than FOR UPDATE, so that inserting work items is not blocked.
_FIRST = sql.SQL("""
SELECT s.id FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
WHERE {claimable} AND {in_scope} AND w.attempts <= %(most)s
  AND s.state = 'active' AND s.id <> ALL(%(tried)s)
ORDER BY w.attempts, w.scene_id
LIMIT 1
FOR NO KEY UPDATE OF s SKIP LOCKED""")
_FIRST_PENDING = _FIRST.format(claimable=sql.SQL("w.state = 'pending'"), in_scope=IN_SCOPE)
_FIRST_EXPIRED = _FIRST.format(claimable=_EXPIRED, in_scope=IN_SCOPE)
_FEWEST_ATTEMPTS_EXPIRED = sql.SQL("""
SELECT min(w.attempts) FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
WHERE {expired} AND {in_scope} AND s.state = 'active'""").format(
    expired=_EXPIRED, in_scope=IN_SCOPE
)

# A locked item is about to be finished by a worker that overslept: not waited for.
_TAKE = sql.SQL("""
UPDATE cbm.work_item
SET state = 'running', token = %(token)s, worker = %(worker)s, attempts = attempts + 1,
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
    started_at = clock_timestamp(), finished_at = NULL,
    scope = greatest(scope, next_scope), next_scope = NULL
WHERE id IN (SELECT w.id FROM cbm.work_item w
             WHERE w.scene_id = %(scene_id)s AND {claimable} AND {in_scope}
             FOR UPDATE SKIP LOCKED)
RETURNING id, dataset_id, product_id, parcel_set_id, attempts, scope, started_at""").format(
    claimable=_CLAIMABLE, in_scope=IN_SCOPE
)

_GIVE_UP = sql.SQL("""
UPDATE cbm.work_item
SET state = 'failed', token = NULL, lease_until = NULL, finished_at = clock_timestamp(),
    scope = greatest(scope, next_scope), next_scope = NULL,
    error_code = 'worker_lost',
    error = format('Workers died or stalled %%s times on this scene, %%s the last.',
                   attempts, worker)
WHERE id IN (SELECT w.id FROM cbm.work_item w
             WHERE {expired} AND w.attempts >= %(max_attempts)s AND {in_scope}
             FOR UPDATE SKIP LOCKED)""").format(expired=_EXPIRED, in_scope=IN_SCOPE)

_BACKLOG = sql.SQL("""
SELECT count(DISTINCT w.scene_id) FILTER (WHERE {claimable}),
       count(DISTINCT w.scene_id) FILTER (WHERE NOT {claimable}),
       min(w.lease_until) FILTER (WHERE NOT {claimable}),
       array_agg(DISTINCT w.worker ORDER BY w.worker) FILTER (WHERE NOT {claimable})
FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
WHERE w.state IN ('pending', 'running') AND s.state = 'active' AND {in_scope}""").format(
    claimable=_CLAIMABLE, in_scope=IN_SCOPE
)

_LEAVE = sql.SQL("""
UPDATE cbm.work_item
SET {changes}, next_scope = NULL, token = NULL, lease_until = NULL, finished_at = clock_timestamp()
WHERE id = %(id)s AND token = %(token)s AND state = 'running' RETURNING state""")
# Under the lock, so that the statement that follows sees every import whose extraction was asked
# for before (see await_finishing).
_LOCK = "SELECT FROM cbm.work_item WHERE id = %s AND token = %s AND state = 'running' FOR UPDATE"
# Its worker may have looked before they were imported, and who asked saw it running.
_NEWER_PARCELS = sql.SQL("""EXISTS (
    SELECT FROM cbm.parcel_set p
    JOIN cbm.parcel_geometry g ON g.parcel_set_id = p.id AND g.retired_at IS NULL
    JOIN cbm.scene s ON s.id = work_item.scene_id AND g.geom && s.footprint
    WHERE p.dataset_id = work_item.dataset_id AND p.id > %(parcel_set_id)s)""")
# What was asked for while it ran is done next.
_DONE = sql.SQL("""
  (state, attempts) = (
    SELECT CASE WHEN more THEN 'pending' ELSE 'done' END, CASE WHEN more THEN 0 ELSE attempts END
    FROM (SELECT next_scope IS NOT NULL OR {newer} AS more) AS asked),
  reason = CASE WHEN next_scope IS NOT NULL THEN reason END,
  scope = coalesce(next_scope, 'delta'),
  parcel_set_id = %(parcel_set_id)s, error_code = NULL, error = NULL""").format(
    newer=_NEWER_PARCELS
)
# The order of scopes as texts is that of what they comprise.
_STILL_OPEN = sql.SQL("scope = greatest(scope, next_scope)")
_FAILED = sql.SQL("state = %(state)s, error_code = %(code)s, error = %(error)s, {}").format(
    _STILL_OPEN
)
_GIVEN_BACK = sql.SQL("""
UPDATE cbm.work_item
SET state = 'pending', token = NULL, lease_until = NULL, {changes}, {still_open}, next_scope = NULL
WHERE id = ANY(%(ids)s) AND token = %(token)s AND state = 'running'""")
_RELEASED = _GIVEN_BACK.format(changes=sql.SQL("attempts = attempts - 1"), still_open=_STILL_OPEN)
_HELD = _GIVEN_BACK.format(
    changes=sql.SQL(
        "attempts = 0, error_code = %(code)s, error = %(error)s, finished_at = clock_timestamp()"
    ),
    still_open=_STILL_OPEN,
)


def guard(cursor: Cursor, lease_seconds: float) -> None:
    """Let the server end this session's transactions and statements that stall.

    A worker that is stopped in the middle of writing would otherwise keep its successor waiting for
    its locks for ever.
    """
    limit = f"{max(lease_seconds, MIN_STALL_SECONDS) * 1000:.0f}"
    for name in ("idle_in_transaction_session_timeout", "statement_timeout"):
        cursor.execute("SELECT set_config(%s, %s, false)", (name, limit))


def claim(cursor: Cursor, scope: Scope, worker: str, lease_seconds: float) -> Claim | None:
    """Lease the next scene with all its open items in scope; None when there is none to be had.

    ``worker`` names the process for people. The caller commits.
    """
    cursor.execute(_READ_IN_ORDER)
    cursor.execute(_GIVE_UP, {"max_attempts": MAX_ATTEMPTS} | scope.parameters())
    tried: list[int] = []
    while (scene_id := _first(cursor, scope, tried)) is not None:
        taken = _take(cursor, scene_id, scope, worker, lease_seconds)
        if taken:
            return taken
        # Another claimer was quicker between the two statements.
        tried.append(scene_id)
    return None


def _first(cursor: Cursor, scope: Scope, tried: list[int]) -> int | None:
    """Lock and return the scene that is next, None when there is none."""
    cursor.execute(_FEWEST_ATTEMPTS_EXPIRED, scope.parameters())
    expired = one_row(cursor)[0]
    most = MAX_ATTEMPTS if expired is None else expired
    for query in [_FIRST_PENDING, *([] if expired is None else [_FIRST_EXPIRED, _FIRST_PENDING])]:
        cursor.execute(query, {"tried": tried, "most": most, **scope.parameters()})
        row = cursor.fetchone()
        if row is not None:
            return int(row[0])
        most = MAX_ATTEMPTS
    return None


def _take(
    cursor: Cursor, scene_id: int, scope: Scope, worker: str, lease_seconds: float
) -> Claim | None:
    cursor.execute("SELECT nextval('cbm.lease_token')")
    token = int(one_row(cursor)[0])
    parameters = {"token": token, "worker": worker, "lease": lease_seconds, "scene_id": scene_id}
    cursor.execute(_TAKE, parameters | scope.parameters())
    rows = sorted(cursor.fetchall())
    if not rows:
        return None
    items = tuple(Item(*row[:6]) for row in rows)
    return Claim(scene_id, token, worker, lease_seconds, rows[0][6], items)


def extend(cursor: Cursor, claim: Claim) -> int:
    """Lengthen the lease of what the claim still holds; return how many items that is."""
    cursor.execute(
        """UPDATE cbm.work_item
           SET lease_until = clock_timestamp() + make_interval(secs => %s)
           WHERE id = ANY(%s) AND token = %s AND state = 'running'""",
        (claim.lease_seconds, [item.id for item in claim.items], claim.token),
    )
    return cursor.rowcount


def finish(cursor: Cursor, claim: Claim, item: Item, parcel_set_id: int) -> str:
    """Mark an item done; the end of the transaction that wrote its rows.

    Returns its new state: ``done``, or ``pending`` where more was asked for while it ran, or newer
    parcels came than those of ``parcel_set_id``.

    Raises:
        CbmError: ``lease_lost`` when the item is no longer this claim's; the caller's transaction
            must roll back.

    """
    cursor.execute(_LOCK, (item.id, claim.token))
    return _leave(cursor, claim, item, _DONE, {"parcel_set_id": parcel_set_id})


def await_finishing(cursor: Cursor, dataset_id: int) -> None:
    """Wait for workers that are just committing an item of the dataset; before it is enqueued.

    Then items they leave are seen as done, and those that finish later see the parcels that are
    there now. The caller ends the transaction at once.
    """
    cursor.execute(
        "SELECT FROM cbm.work_item WHERE dataset_id = %s AND state = 'running' FOR SHARE",
        (dataset_id,),
    )


def fail(cursor: Cursor, claim: Claim, item: Item, error: CbmError) -> str:
    """Record why an item could not be done and return its new state.

    ``pending`` where the cause may pass and attempts are left, else ``failed``.

    Raises:
        CbmError: ``lease_lost`` as in :func:`finish`.

    """
    again = error.code in TRANSIENT_CODES and item.attempts < MAX_ATTEMPTS
    state = "pending" if again else "failed"
    values = {"state": state, "code": error.code, "error": str(error)}
    return _leave(cursor, claim, item, _FAILED, values)


def release(cursor: Cursor, claim: Claim) -> int:
    """Give back what the claim still holds, as if never claimed; return how many items.

    Items that were lost or finished meanwhile are passed over.
    """
    cursor.execute(_RELEASED, {"ids": [item.id for item in claim.items], "token": claim.token})
    return cursor.rowcount


def hold(cursor: Cursor, claim: Claim, error: CbmError) -> None:
    """Hold the scene, which was found unfit, and give back its items with the reason.

    Raises:
        CbmError: ``lease_lost`` when the claim holds nothing any more.

    """
    ids = [item.id for item in claim.items]
    values = {"code": error.code, "error": str(error), "ids": ids, "token": claim.token}
    cursor.execute(_HELD, values)
    if not cursor.rowcount:
        raise lease_lost(claim)
    cursor.execute(
        """UPDATE cbm.scene SET state = 'held', state_reason = %s, state_since = now()
           WHERE id = %s AND state = 'active'""",
        (error.code, claim.scene_id),
    )


def _leave(
    cursor: Cursor, claim: Claim, item: Item, changes: sql.Composable, values: Mapping[str, object]
) -> str:
    key = {"id": item.id, "token": claim.token}
    cursor.execute(_LEAVE.format(changes=changes), {**values, **key})
    row = cursor.fetchone()
    if row is None:
        raise lease_lost(claim)
    return str(row[0])


def lease_lost(claim: Claim) -> CbmError:
    """Return the error of a worker that no longer holds what it works on."""
    return CbmError(
        "lease_lost",
        f"Scene {claim.scene_id} was taken over by another worker: this one was silent for more"
        f" than its lease of {claim.lease_seconds:g} s.",
        "Nothing is lost; the other worker does it. Lengthen the lease if machines stall often.",
        scene_id=claim.scene_id,
    )


@dataclass(frozen=True)
class Backlog:
    """What is open in a scope on active scenes.

    ``claimable`` scenes could be claimed now; ``leased`` are with live workers until at the latest
    ``lease_until`` (of the first lease that runs out, None without any).
    """

    claimable: int
    leased: int
    lease_until: datetime | None
    workers: tuple[str, ...]


def backlog(cursor: Cursor, scope: Scope) -> Backlog:
    """Count the open scenes in a scope."""
    cursor.execute(_BACKLOG, scope.parameters())
    claimable, leased, until, workers = one_row(cursor)
    return Backlog(claimable, leased, until, tuple(workers or ()))
