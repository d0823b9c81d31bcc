"""The log of reads is kept short by the API itself, so that no timer can be forgotten."""

from __future__ import annotations

import logging
import threading
import time

from cbm_api.database import Database
from cbm_api.logins import store
from cbm_core.errors import CbmError

_log = logging.getLogger("cbm_api")

INTERVAL_SECONDS = 3600.0
# While there is more to delete than one statement takes.
SOON_SECONDS = 10.0


class Retention:
    """Deletes what is too old now and then, after an answer has gone out."""

    def __init__(self, database: Database, days: int) -> None:
        """Prepare; 0 days keep everything."""
        self._database = database
        self._days = days
        self._next = 0.0 if days else float("inf")
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Say whether to call :meth:`run`; True to one caller each time."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + INTERVAL_SECONDS
            return True

    def run(self) -> None:
        """Delete some; what fails is tried again the next time."""
        try:
            with self._database.transaction(None) as cursor:
                forgotten = store.forget_reads(cursor, self._days)
        except CbmError as error:
            _log.warning("the log of reads was not shortened: %s", error)
            return
        if forgotten:
            _log.info("forgot %d reads older than %d days", forgotten, self._days)
            self._next = time.monotonic() + SOON_SECONDS
