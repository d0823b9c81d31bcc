"""Database sessions of a worker process: few, shared by its threads, opened when first needed.

Sessions are not inherited by forked workers. Every transaction knows on whose behalf it is, so that
row-level security shows it that user's datasets only.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from cbm_core import db
from cbm_core.db import Connection, Cursor
from cbm_core.errors import CbmError
from cbm_core.settings import Settings

# One round trip: the session is in autocommit mode, the transaction is ours.
_BEGIN = "BEGIN; SELECT set_config('cbm.api_user', %s, true)"


class Database:
    """A bounded pool of sessions."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; sessions are opened by :meth:`transaction`."""
        self._settings = settings
        self._wait = settings.api.pool_wait_seconds
        self._free = threading.BoundedSemaphore(settings.api.pool_size)
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        # One user leaves a session to others.
        self._share = max(1, settings.api.pool_size - 1)
        self._held: Counter[str] = Counter()
        self._turn = threading.Condition()

    @contextmanager
    def transaction(self, user: str | None) -> Iterator[Cursor]:
        """Give a cursor in a transaction on behalf of a user; None sees no dataset.

        Committed at the end of the block, rolled back on any exception.

        Raises:
            CbmError: ``busy`` when no session became free in time, or too many are the user's own;
                ``database_unreachable``, ``database_lost``, ``database_timeout``.

        """
        with self._place(user), db.readable_errors():
            connection = self._begin(user or "")
            try:
                with connection.cursor() as cursor:
                    yield cursor
                    cursor.execute("COMMIT")
            except BaseException:
                with suppress(psycopg2.Error), connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
                raise
            finally:
                self._put_back(connection)

    def close(self) -> None:
        """Close the idle sessions."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _place(self, user: str | None) -> Iterator[None]:
        """Hold the right to a session; logins, which are nobody's yet, have no share to exceed."""
        if user is not None:
            with self._turn:
                if not self._turn.wait_for(lambda: self._held[user] < self._share, self._wait):
                    raise self._busy("Your share of the database sessions is")
                self._held[user] += 1
        try:
            if not self._free.acquire(timeout=self._wait):
                raise self._busy("All database sessions are")
            try:
                yield
            finally:
                self._free.release()
        finally:
            if user is not None:
                with self._turn:
                    self._held[user] -= 1
                    if not self._held[user]:
                        del self._held[user]
                    self._turn.notify_all()

    def _busy(self, what: str) -> CbmError:
        return CbmError(
            "busy", f"{what} in use, and none became free in {self._wait} s.", "Ask again."
        )

    def _begin(self, user: str) -> Connection:
        """Begin a transaction in an idle session, or in a new one where the idle ones broke."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                _begin(connection, user)
            except psycopg2.Error:
                connection.close()
                self.close()
            else:
                return connection
        connection = self._open()
        _begin(connection, user)
        return connection

    def _open(self) -> Connection:
        connection = db.connect(self._settings)
        connection.autocommit = True
        milliseconds = self._settings.api.statement_timeout_seconds * 1000
        with connection.cursor() as cursor:
            # What is written for the API is the log of reads: it may lag a moment behind.
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, false),"
                " set_config('idle_in_transaction_session_timeout', %s, false),"
                " set_config('synchronous_commit', 'off', false)",
                (str(milliseconds), str(milliseconds)),
            )
        return connection

    def _put_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)


def _begin(connection: Connection, user: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, (user,))
