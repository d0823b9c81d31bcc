"""Connections and transactions. SQL everywhere uses bound parameters and ``psycopg2.sql`` only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from cbm_core.errors import CbmError
from cbm_core.settings import Duty, Settings

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

SCHEMA = "cbm"
OWNER_ROLE = "cbm_owner"


def connect(settings: Settings, duty: Duty = "ingest") -> Connection:
    """Open a connection whose session runs in UTC with a fixed search path.

    Raises:
        CbmError: ``database_unreachable`` when no session could be had, ``database_lost`` when it
            broke at once.

    """
    parameters = settings.connection(duty)
    parameters.setdefault("connect_timeout", "10")
    try:
        connection: Connection = psycopg2.connect(application_name="cbm", **parameters)  # type: ignore[call-overload]
    except psycopg2.OperationalError as error:
        raise CbmError(
            "database_unreachable",
            f"No connection to the database: {' '.join(str(error).split())}.",
            "Check [database] in the configuration file, and that the server runs.",
        ) from None
    with readable_errors(), connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SET search_path = cbm, public")
        cursor.execute("SET extra_float_digits = 3")
    return connection


@contextmanager
def session(settings: Settings, duty: Duty = "ingest") -> Iterator[Connection]:
    """Give a connection for the length of a block and translate what a user can mend."""
    connection = connect(settings, duty)
    try:
        with readable_errors():
            yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """Commit at the end of the block, roll back on any exception."""
    with connection, connection.cursor() as cursor:
        yield cursor


def one_row(cursor: Cursor) -> tuple[Any, ...]:
    """Return the row of a query that always gives one."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("the query gave no row")
    return row


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn the database failures an operator can mend into :class:`CbmError`; let bugs through."""
    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise CbmError(
            "no_permission",
            f"The database refused this user: {_first_line(error)}.",
            "Use a login that is a member of the role this command needs (cbm_ingest, cbm_owner).",
        ) from error
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName) as error:
        raise CbmError(
            "schema_missing",
            f"The database has no such table: {_first_line(error)}.",
            "Run `cbm schema migrate` first.",
        ) from error
    except (psycopg2.errors.DiskFull, psycopg2.errors.OutOfMemory) as error:
        raise CbmError(
            "database_full",
            f"The database server is out of space or memory: {_first_line(error)}.",
            "Free or add space and run the same command again; nothing was written by this one.",
        ) from error
    except psycopg2.errors.QueryCanceled as error:
        raise CbmError(
            "database_timeout", f"The database gave up: {_first_line(error)}."
        ) from error
    except psycopg2.Error as error:
        if not _is_loss(error):
            raise
        raise CbmError(
            "database_lost",
            f"The connection to the database was lost: {_first_line(error)}.",
            "Run the same command again once the server answers; it goes on where it stopped.",
        ) from error


def _is_loss(error: psycopg2.Error) -> bool:
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return True
    # A server that dies in the middle of a statement leaves an error of no kind, without a code.
    return type(error) is psycopg2.DatabaseError and error.pgcode is None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
