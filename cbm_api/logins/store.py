"""What logins ask the database, as functions of a cursor that sees no dataset."""

from __future__ import annotations

from dataclasses import dataclass

from cbm_core.db import Cursor, one_row
from cbm_core.users import store as users
from cbm_core.users import tokens

# From so many failures on a user, or an address, is locked out: SHORTEST_LOCK seconds, doubled with
# every further failure up to LONGEST_LOCK.
FAILURES_OF_USER = 5
FAILURES_OF_ADDRESS = 50
SHORTEST_LOCK = 15
LONGEST_LOCK = 900
# An agency's users may share one address: of its failures one is forgotten in so many seconds.
FORGIVEN_AFTER = 120
# Counts an address's failures, whoever was named.
ANYBODY = ""


@dataclass(frozen=True)
class Account:
    """What a password is checked with; ``locked_seconds`` is 0 where it may be tried."""

    password_hash: str | None
    locked_seconds: int
    has_failures: bool


def account(cursor: Cursor, name: str, address: str) -> Account:
    """Return how a login of a user from an address stands; unknown and disabled have no hash."""
    cursor.execute(
        """SELECT u.password_hash,
                  coalesce((SELECT ceil(extract(epoch FROM max(l.locked_until) - now()))::integer
                            FROM cbm.api_lockout l WHERE l.user_name IN (%(anybody)s, %(name)s)
                              AND l.address = %(address)s AND l.locked_until > now()), 0),
                  EXISTS (SELECT FROM cbm.api_lockout l
                          WHERE l.user_name = %(name)s AND l.address = %(address)s)
           FROM (VALUES (1)) AS always
           LEFT JOIN cbm.api_user u ON u.name = %(name)s AND u.disabled_at IS NULL""",
        {"name": name, "address": address, "anybody": ANYBODY},
    )
    return Account(*one_row(cursor))


def count_failure(cursor: Cursor, name: str | None, address: str) -> None:
    """Count a failed login and lock out who failed too often; no name where none can be so."""
    cursor.execute(
        """INSERT INTO cbm.api_lockout AS l (user_name, address, failures)
           SELECT unnest(%(names)s::text[]), %(address)s, 1
           ON CONFLICT (user_name, address) DO UPDATE SET last_failure = now(),
             failures = 1 + CASE
               WHEN l.last_failure < now() - interval '1 day' THEN 0
               WHEN l.user_name <> %(anybody)s THEN l.failures
               ELSE greatest(0, l.failures - greatest(0, floor(
                 extract(epoch FROM now() - l.last_failure) / %(forgiven)s))::integer)
             END""",
        {
            "names": [ANYBODY, *([name] if name else [])],
            "address": address,
            "anybody": ANYBODY,
            "forgiven": FORGIVEN_AFTER,
        },
    )
    _lock_out(cursor, name, address)
    # Last, and waiting for nobody: two who fail at once cannot wait for each other.
    cursor.execute(
        """DELETE FROM cbm.api_lockout WHERE (user_name, address) IN (
             SELECT user_name, address FROM cbm.api_lockout
             WHERE last_failure < now() - interval '1 day' AND locked_until < now()
             FOR UPDATE SKIP LOCKED)"""
    )


def _lock_out(cursor: Cursor, name: str | None, address: str) -> None:
    """Lock out an address, and a user from there, whose failures are too many by now."""
    cursor.execute(
        """UPDATE cbm.api_lockout l
           SET locked_until = now() + make_interval(
             secs => least(%(longest)s, %(shortest)s * 2 ^ least(l.failures - free.failures, 20)))
           FROM (VALUES (%(anybody)s, %(of_address)s), (%(name)s, %(of_user)s))
             AS free (user_name, failures)
           WHERE l.user_name = free.user_name AND l.address = %(address)s
             AND l.failures >= free.failures""",
        {
            "anybody": ANYBODY,
            "name": name,
            "address": address,
            "of_address": FAILURES_OF_ADDRESS,
            "of_user": FAILURES_OF_USER,
            "shortest": SHORTEST_LOCK,
            "longest": LONGEST_LOCK,
        },
    )


def forget_failures(cursor: Cursor, name: str, address: str) -> None:
    """Forget a user's failures from an address: the user has logged in."""
    cursor.execute(
        "DELETE FROM cbm.api_lockout WHERE user_name = %s AND address = %s", (name, address)
    )


def token_holder(cursor: Cursor, token: str) -> tuple[str, bool] | None:
    """Return who holds a token of ours and whether it has expired; None where it is worthless."""
    cursor.execute(
        """SELECT t.user_name, t.expires_at <= now()
           FROM cbm.api_token t JOIN cbm.api_user u ON u.name = t.user_name
           WHERE t.hash = %s AND t.revoked_at IS NULL AND u.disabled_at IS NULL""",
        (tokens.digest(token),),
    )
    row = cursor.fetchone()
    return (row[0], row[1]) if row else None


def is_user(cursor: Cursor, name: str) -> bool:
    """Say whether there is such a user, who is not disabled."""
    if not users.is_name(name):
        return False
    cursor.execute("SELECT FROM cbm.api_user WHERE name = %s AND disabled_at IS NULL", (name,))
    return cursor.rowcount == 1


def forget_reads(cursor: Cursor, days: int) -> int:
    """Delete some reads that were logged longer ago; return how many."""
    cursor.execute("SELECT cbm.forget_reads(%s)", (days,))
    return int(one_row(cursor)[0])
