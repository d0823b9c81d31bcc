"""Users of the API in the database: password hashes, grants, tokens, the log of what they read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2.extras import Json

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError

# As the database has it (table api_user).
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
_NAME = re.compile(NAME[:-1])


@dataclass(frozen=True)
class Token:
    """A token that is not revoked; times are UTC."""

    label: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class User:
    """A row of ``cbm.api_user`` with its grants (``aoi:year``, in order) and tokens."""

    name: str
    password_hash: str | None
    disabled_at: datetime | None
    datasets: tuple[str, ...]
    tokens: tuple[Token, ...]


_SELECT = """
SELECT u.name, u.password_hash, u.disabled_at,
       array(SELECT d.aoi || ':' || d.year
             FROM cbm.dataset_grant g JOIN cbm.dataset d ON d.id = g.dataset_id
             WHERE g.via = 'api' AND g.grantee = u.name AND d.purged_at IS NULL ORDER BY 1),
       t.labels, t.created, t.expires
FROM cbm.api_user u
CROSS JOIN LATERAL (
  SELECT coalesce(array_agg(label ORDER BY id), '{}') AS labels,
         array_agg(created_at ORDER BY id) AS created, array_agg(expires_at ORDER BY id) AS expires
  FROM cbm.api_token WHERE user_name = u.name AND revoked_at IS NULL
) t"""


def is_name(text: str) -> bool:
    """Say whether a user could be called so."""
    return _NAME.fullmatch(text) is not None


def _user(row: tuple[Any, ...]) -> User:
    name, password_hash, disabled_at, datasets, labels, created, expires = row
    tokens = tuple(map(Token, labels, created or (), expires or ()))
    return User(name, password_hash, disabled_at, tuple(datasets), tokens)


def find(cursor: Cursor, name: str) -> User | None:
    """Return a user, None where there is none."""
    cursor.execute(f"{_SELECT} WHERE u.name = %s", (name,))
    row = cursor.fetchone()
    return _user(row) if row else None


def require_user(cursor: Cursor, name: str) -> User:
    """Return a user.

    Raises:
        CbmError: ``user_unknown`` when there is none of that name.

    """
    found = find(cursor, name)
    if found is None:
        raise CbmError(
            "user_unknown",
            f"There is no user {name} of the API.",
            f"See `cbm user list`, or add the user with `cbm user add {name}`.",
        )
    return found


def list_all(cursor: Cursor) -> list[User]:
    """Return all users by name."""
    cursor.execute(f"{_SELECT} ORDER BY u.name")
    return [_user(row) for row in cursor.fetchall()]


def lock(cursor: Cursor) -> None:
    """Keep others from changing users until this transaction ends; logins go on."""
    cursor.execute("LOCK TABLE cbm.api_user IN SHARE ROW EXCLUSIVE MODE")


def insert(cursor: Cursor, name: str) -> None:
    """Add a user who has no password."""
    cursor.execute("INSERT INTO cbm.api_user (name) VALUES (%s)", (name,))


def set_password(cursor: Cursor, name: str, password_hash: str) -> None:
    """Write a password's hash, and let the user try again wherever logins failed too often."""
    cursor.execute(
        "UPDATE cbm.api_user SET password_hash = %s WHERE name = %s", (password_hash, name)
    )
    cursor.execute("DELETE FROM cbm.api_lockout WHERE user_name = %s", (name,))


def set_disabled(cursor: Cursor, name: str, disabled: bool) -> None:
    """Shut a user out, or let the user in again."""
    cursor.execute(
        "UPDATE cbm.api_user SET disabled_at = CASE WHEN %s THEN now() END WHERE name = %s",
        (disabled, name),
    )


def grant(cursor: Cursor, name: str, dataset_ids: list[int]) -> None:
    """Let a user read datasets."""
    cursor.execute(
        """INSERT INTO cbm.dataset_grant (dataset_id, via, grantee)
           SELECT unnest(%s::smallint[]), 'api', %s ON CONFLICT DO NOTHING""",
        (dataset_ids, name),
    )


def revoke(cursor: Cursor, name: str, dataset_ids: list[int]) -> None:
    """Take the reading of datasets from a user."""
    cursor.execute(
        """DELETE FROM cbm.dataset_grant
           WHERE via = 'api' AND grantee = %s AND dataset_id = ANY(%s::smallint[])""",
        (name, dataset_ids),
    )


def add_token(cursor: Cursor, name: str, label: str, digest: bytes, days: int) -> datetime:
    """Keep a token's digest and return when it expires."""
    cursor.execute(
        """INSERT INTO cbm.api_token (user_name, label, hash, expires_at)
           VALUES (%s, %s, %s, now() + make_interval(days => %s)) RETURNING expires_at""",
        (name, label, digest, days),
    )
    expires: datetime = one_row(cursor)[0]
    return expires


def revoke_token(cursor: Cursor, name: str, label: str) -> None:
    """Make a token worthless."""
    cursor.execute(
        """UPDATE cbm.api_token SET revoked_at = now()
           WHERE user_name = %s AND label = %s AND revoked_at IS NULL""",
        (name, label),
    )


def audit(cursor: Cursor, action: str, name: str, changes: list[str]) -> None:
    """Append to the audit what was changed about a user."""
    cursor.execute(
        "INSERT INTO cbm.audit (action, detail) VALUES (%s, %s)",
        (action, Json({"user": name, "changes": changes})),
    )


@dataclass(frozen=True)
class Reads:
    """Which entries of the log of reads; None means all. Days are UTC, both inclusive.

    ``dataset`` is ``aoi:year``; the log names collections, ``aoi_year`` and ``aoi_year.layer``.
    """

    user: str | None = None
    dataset: str | None = None
    parcel: str | None = None
    start: date | None = None
    end: date | None = None


_READS = """
FROM cbm.audit
WHERE action = 'read'
  AND (%(user)s::text IS NULL OR who = 'api:' || %(user)s)
  AND (%(dataset)s::text IS NULL
       OR split_part(detail ->> 'dataset', '.', 1) = replace(%(dataset)s, ':', '_'))
  AND (%(parcel)s::text IS NULL OR detail -> 'parcels' ? %(parcel)s)
  AND (%(start)s::date IS NULL OR at >= %(start)s::date)
  AND (%(end)s::date IS NULL OR at < %(end)s::date + 1)"""


def reads(cursor: Cursor, wanted: Reads, limit: int) -> list[dict[str, Any]]:
    """Return entries of the log of reads, the newest first."""
    cursor.execute(
        f"SELECT at, substr(who, 5), detail {_READS} ORDER BY at DESC, id DESC LIMIT %(limit)s",
        {**vars(wanted), "limit": limit},
    )
    return [
        {"at": at.isoformat(), "user": user, **detail} for at, user, detail in cursor.fetchall()
    ]


def count_reads_before(cursor: Cursor, day: date) -> int:
    """Return how many entries of the log of reads are older than a day."""
    cursor.execute("SELECT count(*) FROM cbm.audit WHERE action = 'read' AND at < %s", (day,))
    return int(one_row(cursor)[0])


def forget_reads_before(cursor: Cursor, day: date) -> int:
    """Delete entries of the log of reads that are older than a day; return how many."""
    cursor.execute("DELETE FROM cbm.audit WHERE action = 'read' AND at < %s", (day,))
    return int(cursor.rowcount)
