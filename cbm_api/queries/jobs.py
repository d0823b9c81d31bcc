"""Jobs: requests for signatures that are answered with a file, later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg2.extras import Json

from cbm_api.queries.datasets import Dataset
from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError

# How long files are kept, and who works on a job may be silent.
KEEP = "7 days"
LEASE = "2 minutes"
# Jobs of a user that are not done yet.
MOST_OPEN = 5

_SELECT = """
SELECT id::text, collection, state, parcels, parcels_done, rows, bytes, error_code, error,
  created_at, started_at, finished_at, expires_at, request
FROM cbm.api_job"""


@dataclass(frozen=True)
class Job:
    """A job as its user sees it; ``request`` is what was asked for.

    ``parcels`` is None until the work on it begins.
    """

    id: str
    collection: str
    state: str
    parcels: int | None
    parcels_done: int
    rows: int
    bytes: int | None
    error_code: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    request: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A job leased to a process, to be done on behalf of ``user``."""

    id: str
    user: str
    token: int


def require_room(cursor: Cursor) -> None:
    """See that the user may put another job in line.

    Raises:
        CbmError: ``too_many_requests`` when as many of the user's are in line as may be.

    """
    cursor.execute("SELECT count(*) FROM cbm.api_job WHERE state IN ('pending', 'running')")
    if one_row(cursor)[0] >= MOST_OPEN:
        raise CbmError(
            "too_many_requests",
            f"{MOST_OPEN} of your jobs are not done yet.",
            "Wait for one, or delete one.",
            retry_after=60,
        )


def add(cursor: Cursor, user: str, dataset: Dataset, request: dict[str, Any]) -> Job:
    """Put a job in line.

    Raises:
        CbmError: as :func:`require_room`.

    """
    # Of requests that come at once, each counts the ones before.
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cbm.api_job'), hashtext(%s))", (user,))
    require_room(cursor)
    cursor.execute(
        """INSERT INTO cbm.api_job (user_name, dataset_id, collection, request)
           VALUES (%s, %s, %s, %s) RETURNING id::text""",
        (user, dataset.id, dataset.name, Json(request)),
    )
    return get(cursor, one_row(cursor)[0])


def listed(cursor: Cursor) -> list[Job]:
    """Return the user's jobs, the newest first."""
    cursor.execute(f"{_SELECT} ORDER BY created_at DESC, id")
    return [Job(*row) for row in cursor.fetchall()]


def get(cursor: Cursor, number: str | UUID) -> Job:
    """Return one of the user's jobs.

    Raises:
        CbmError: ``job_unknown``.

    """
    cursor.execute(f"{_SELECT} WHERE id = %s::uuid", (str(number),))
    row = cursor.fetchone()
    if row is None:
        raise CbmError(
            "job_unknown",
            "You have no such job, or it has expired.",
            "GET /v1/jobs lists yours.",
        )
    return Job(*row)


def delete(cursor: Cursor, number: str | UUID) -> None:
    """Forget a job; whoever works on it notices.

    Raises:
        CbmError: ``job_unknown``.

    """
    get(cursor, number)
    cursor.execute("DELETE FROM cbm.api_job WHERE id = %s::uuid", (str(number),))


def claim(cursor: Cursor) -> Claim | None:
    """Lease the next job, of whichever user; None when none is open."""
    cursor.execute(
        "SELECT job::text, on_behalf_of, held_token FROM cbm.claim_api_job(%s::interval)", (LEASE,)
    )
    row = cursor.fetchone()
    return Claim(*row) if row else None


def living(cursor: Cursor) -> set[str]:
    """Forget jobs that expired or whose users may not read the dataset; return the others' ids."""
    cursor.execute("SELECT living::text FROM cbm.living_api_jobs() AS living")
    return {number for (number,) in cursor.fetchall()}


def begin(cursor: Cursor, held: Claim, parcels: int) -> None:
    """Say how many parcels a job has, as they are known now.

    Raises:
        CbmError: ``lease_lost`` when the job is not this process's any more.

    """
    _update(cursor, held, "parcels = %(parcels)s", parcels=parcels)


def advance(cursor: Cursor, held: Claim, parcels: int, rows: int) -> None:
    """Say how far a job is, and extend its lease.

    Raises:
        CbmError: ``lease_lost`` when the job is not this process's any more.

    """
    _update(
        cursor,
        held,
        """parcels_done = %(parcels)s, rows = %(rows)s,
           lease_until = now() + %(lease)s::interval""",
        parcels=parcels,
        rows=rows,
        lease=LEASE,
    )


def finish(cursor: Cursor, held: Claim, size: int) -> None:
    """Say that a job's file is there, of ``size`` bytes.

    Raises:
        CbmError: ``lease_lost`` when the job is not this process's any more.

    """
    _update(cursor, held, f"state = 'done', bytes = %(size)s, {_CLOSED}", size=size, keep=KEEP)


def fail(cursor: Cursor, held: Claim, error: CbmError) -> None:
    """Say why a job cannot be done.

    Raises:
        CbmError: ``lease_lost`` when the job is not this process's any more.

    """
    _update(
        cursor,
        held,
        f"state = 'failed', error_code = %(code)s, error = %(error)s, {_CLOSED}",
        code=error.code,
        error=str(error),
        keep=KEEP,
    )


_CLOSED = (
    "token = NULL, lease_until = NULL, finished_at = now(), expires_at = now() + %(keep)s::interval"
)


def _update(cursor: Cursor, held: Claim, changes: str, **values: object) -> None:
    cursor.execute(
        f"""UPDATE cbm.api_job SET {changes}
            WHERE id = %(id)s::uuid AND token = %(token)s AND state = 'running'""",  # noqa: S608
        {"id": held.id, "token": held.token, **values},
    )
    if cursor.rowcount != 1:
        raise CbmError("lease_lost", f"The job {held.id} is not this process's any more.")
