"""Compares the files of this release with what a database has applied, and applies the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import errors, sql

from cbm_core import __version__, db
from cbm_core.db import Connection, Cursor
from cbm_core.errors import CbmError
from cbm_core.migrations.files import DIRECTORY, Migration, read_all, statements

if TYPE_CHECKING:
    from cbm_core.settings import Settings

# Any constant serves, so long as nothing else in the database uses it.
LOCK_KEY = 0x63626D01
# Whoever comes while a lock is waited for waits too: a long writer is let finish, between attempts.
# Shorter than PostgreSQL's deadlock_timeout of 1 s: a writer who waits in turn is not ended for it.
_LOCK_TIMEOUT = "500ms"
_IN_USE = (errors.LockNotAvailable, errors.DeadlockDetected)
_ATTEMPTS = 30
_PAUSE_SECONDS = 3.0
GROUPS = ("cbm_owner", "cbm_ingest", "cbm_api", "cbm_read")


@dataclass(frozen=True)
class Applied:
    """A row of ``cbm.schema_migration``."""

    name: str
    kind: str
    checksum: str


@dataclass(frozen=True)
class Plan:
    """What a database has applied and what is still to be applied, in order."""

    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]
    newer: tuple[Applied, ...]
    """Expand migrations of a newer release, which this one works beside."""


def plan(settings: Settings, directory: Path = DIRECTORY) -> Plan:
    """Read files and database and return what is to be done; changes nothing.

    Raises:
        CbmError: ``migration_changed``, ``migration_missing`` or ``schema_too_new`` by name when
            the database does not follow from this release's files; ``bootstrap_missing`` when
            roles, extension or schema are not there.

    """
    with db.session(settings, "owner") as connection, db.transaction(connection) as cursor:
        return _plan(cursor, directory)


def migrate(settings: Settings, directory: Path = DIRECTORY) -> Plan:
    """Apply all pending migrations and return the plan that was carried out.

    Consecutive transactional migrations run in one transaction, which waits for a table no longer
    than 0.5 s at a time; a second runner waits for the first and then finds nothing to do.

    Raises:
        CbmError: as :func:`plan` does; ``migration_failed``; ``migration_blocked`` when a table was
            in use all the time.

    """
    with db.session(settings, "owner") as connection:
        _lock(connection)
        with db.transaction(connection) as cursor:
            todo = _plan(cursor, directory)
        _apply(connection, todo.pending)
        return todo


def _lock(connection: Connection) -> None:
    """Wait for other runners; in no transaction, for which theirs would wait in turn."""
    while True:
        with db.transaction(connection) as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,))
            if db.one_row(cursor)[0]:
                return
        time.sleep(0.2)


def require_current(cursor: Cursor) -> None:
    """Refuse to work on a schema that is older than this release, or newer beyond its knowledge.

    Raises:
        CbmError: as :func:`plan` does, and ``schema_outdated`` when a migration is pending.

    """
    missing = _plan(cursor, DIRECTORY).pending
    if missing:
        raise CbmError(
            "schema_outdated",
            f"The database lacks the migration {missing[0].name}.",
            "Run `cbm schema migrate`.",
        )


def _plan(cursor: Cursor, directory: Path) -> Plan:
    files = read_all(directory)
    _require_bootstrap(cursor)
    applied = _applied(cursor)
    by_name = {migration.name: migration for migration in files}
    for row in applied:
        known = by_name.get(row.name)
        if known is None:
            _accept_unknown(row, len(files))
        elif known.checksum != row.checksum:
            raise CbmError(
                "migration_changed",
                f"The migration {row.name} was changed after this database applied it.",
                "Restore the file as it was released; put the change into a new migration.",
            )
    done = {row.name for row in applied}
    pending = tuple(migration for migration in files if migration.name not in done)
    late = [m.name for m in pending if applied and m.number < int(applied[-1].name[:4])]
    if late:
        raise CbmError(
            "migration_missing",
            f"The database applied {applied[-1].name}, but never {late[0]}, which comes before it.",
            "Install a release whose migrations follow those of the database.",
        )
    newer = tuple(row for row in applied if row.name not in by_name)
    return Plan(applied=applied, pending=pending, newer=newer)


def _accept_unknown(row: Applied, known: int) -> None:
    if int(row.name[:4]) <= known:
        raise CbmError(
            "migration_missing",
            f"The database applied {row.name}, which this release ({__version__}) does not have.",
            "Install the release the database was migrated with, or a newer one.",
        )
    if row.kind == "contract":
        raise CbmError(
            "schema_too_new",
            f"The database applied {row.name}, which takes away what release {__version__} needs.",
            "Install the release the database was migrated with, or a newer one.",
        )


def _require_bootstrap(cursor: Cursor) -> None:
    cursor.execute(
        """SELECT array(SELECT g FROM unnest(%s::text[]) g
                        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = g)),
                  EXISTS (SELECT FROM pg_extension WHERE extname = 'postgis'),
                  EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)""",
        (list(GROUPS), db.SCHEMA),
    )
    row = db.one_row(cursor)
    lacking = [f"role {role}" for role in row[0]]
    lacking += [] if row[1] else ["extension postgis"]
    lacking += [] if row[2] else [f"schema {db.SCHEMA}"]
    if lacking:
        raise CbmError(
            "bootstrap_missing",
            f"The database lacks {', '.join(lacking)}.",
            "As a superuser run the SQL that `cbm schema bootstrap` prints.",
        )


def _applied(cursor: Cursor) -> tuple[Applied, ...]:
    cursor.execute("SELECT to_regclass('cbm.schema_migration') IS NOT NULL")
    if not db.one_row(cursor)[0]:
        return ()
    cursor.execute("SELECT name, kind, checksum FROM cbm.schema_migration ORDER BY name")
    return tuple(Applied(*values) for values in cursor.fetchall())


def _apply(connection: Connection, pending: tuple[Migration, ...]) -> None:
    batch: list[Migration] = []
    for migration in pending:
        if migration.transactional:
            batch.append(migration)
            continue
        _apply_batch(connection, batch)
        batch = []
        _apply_alone(connection, migration)
    _apply_batch(connection, batch)


def _apply_batch(connection: Connection, batch: list[Migration]) -> None:
    def attempt() -> None:
        with db.transaction(connection) as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            _become_owner(cursor, local=True)
            for migration in batch:
                _run(cursor, migration, [migration.sql])

    if batch:
        _insist(attempt, f"{batch[0].name} and those after it change", "Nothing of it was kept.")


def _apply_alone(connection: Connection, migration: Migration) -> None:
    def attempt() -> None:
        with connection.cursor() as cursor:
            _become_owner(cursor, local=False)
            # Each alone: sent together, PostgreSQL makes them one transaction.
            _run(cursor, migration, statements(migration.sql))
            cursor.execute("RESET ROLE")

    connection.autocommit = True
    try:
        _insist(attempt, f"{migration.name} works on", "It begins anew.")
    finally:
        connection.autocommit = False


def _insist(attempt: Callable[[], None], whose: str, kept: str) -> None:
    """Try again while a table is in use."""
    for number in range(1, _ATTEMPTS + 1):
        try:
            attempt()
        except _IN_USE as error:
            if number == _ATTEMPTS:
                first = str(error).strip().splitlines()[0]
                raise CbmError(
                    "migration_blocked",
                    f"A table that {whose} was always in use: {first}.",
                    f"{kept} End what runs for long, and `cbm schema migrate`.",
                ) from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _become_owner(cursor: Cursor, *, local: bool) -> None:
    scope = sql.SQL("LOCAL ") if local else sql.SQL("")
    cursor.execute(sql.SQL("SET {}ROLE {}").format(scope, sql.Identifier(db.OWNER_ROLE)))
    cursor.execute(
        """CREATE TABLE IF NOT EXISTS cbm.schema_migration (
             name text PRIMARY KEY,
             kind text NOT NULL CHECK (kind IN ('expand', 'contract')),
             checksum text NOT NULL,
             software_version text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now())"""
    )
    cursor.execute("GRANT SELECT ON cbm.schema_migration TO cbm_ingest, cbm_api, cbm_read")


def _run(cursor: Cursor, migration: Migration, parts: list[str]) -> None:
    try:
        for part in parts:
            cursor.execute(part)
    except _IN_USE:
        raise
    except psycopg2.Error as error:
        first = str(error).strip().splitlines()[0]
        kept = "Nothing of it was kept." if migration.transactional else "It begins anew."
        raise CbmError(
            "migration_failed",
            f"The migration {migration.name} failed: {first}.",
            f"Mend the cause and run `cbm schema migrate` again. {kept}",
        ) from error
    cursor.execute(
        """INSERT INTO cbm.schema_migration (name, kind, checksum, software_version)
           VALUES (%s, %s, %s, %s)""",
        (migration.name, migration.kind, migration.checksum, __version__),
    )
