"""Putting months of signatures in parcel order while there is nothing else to do."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg2

from cbm_core import db
from cbm_core.database import partitions
from cbm_core.db import Connection
from cbm_core.errors import CbmError
from cbm_core.progress import note
from cbm_core.settings import Settings

_EVERY_SECONDS = 86_400.0

# How long to wait for a statement that was cancelled.
_END_SECONDS = 10.0


class Tidying:
    """Compacts what is due, once a day at most, in a thread with a session of its own.

    New work is not waited for and does not wait: the month in hand is finished, the others are left
    for another day.
    """

    def __init__(self, settings: Settings, dataset_id: int | None) -> None:
        """``dataset_id``: only this dataset, None all."""
        self._settings, self._dataset_id = settings, dataset_id
        self._began = -_EVERY_SECONDS
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._interrupted = threading.Event()

    def idle(self) -> None:
        """Nothing is open: begin, where a day has passed."""
        if time.monotonic() - self._began < _EVERY_SECONDS or self.running:
            return
        self._began = time.monotonic()
        self._interrupted.clear()
        self._thread = threading.Thread(target=self._run, name="tidying", daemon=True)
        self._thread.start()

    def work(self) -> None:
        """Something is open: begin no other month."""
        self._interrupted.set()

    def end(self) -> None:
        """Break off; what was begun is undone by the server."""
        self._interrupted.set()
        connection, thread = self._connection, self._thread
        if connection is not None and thread is not None and thread.is_alive():
            with suppress(psycopg2.Error):  # it has just ended by itself
                connection.cancel()
            thread.join(_END_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it is at it."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        try:
            with db.session(self._settings) as connection:
                self._connection = connection
                with db.transaction(connection) as cursor:
                    due = partitions.plan(cursor, self._dataset_id)
                for one in due:
                    if self._interrupted.is_set():
                        return
                    free = partitions.compact(connection, one.month.dataset_id, one.month.month)
                    what = "put in parcel order" if free else "is busy, not put in parcel order"
                    note(f"{one.month.name} {what}: {one.reason}.")
        except CbmError as error:
            if not self._interrupted.is_set():
                note(f"Months could not be put in parcel order: {error.message}")
        finally:
            self._connection = None
