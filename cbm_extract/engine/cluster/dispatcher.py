"""The dispatcher: keeps the cluster's slots busy while the ledger has open scenes.

The ledger alone decides what is done. The dispatcher looks at it, and sends the workers as many
tasks "claim and do the next scene" as there are free slots and claimable scenes. It holds nothing
that could be lost: any number of them may work at one backlog, and any of them may die.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from cbm_core import db
from cbm_core.db import Connection
from cbm_core.errors import CbmError
from cbm_core.progress import note
from cbm_core.settings import Settings
from cbm_extract.engine.cluster.pool import Pool, Slots
from cbm_extract.engine.cluster.tidying import Tidying
from cbm_extract.engine.worker import Tally, settle
from cbm_extract.ledger import claims
from cbm_extract.ledger.claims import Backlog
from cbm_extract.ledger.states import Scope

_LOG_SECONDS = 10.0

# A look at a large backlog takes long: of the database's time it gets a twentieth.
_PAUSE_PER_LOOK = 20.0
_LONGEST_PAUSE = 60.0

# At the end of a backlog, how long to wait for the last reports.
_LAST_SECONDS = 5.0

# What a restart of the database looks like.
_DATABASE_AWAY = frozenset("database_lost database_unreachable database_timeout".split())


@dataclass(frozen=True)
class Rules:
    """How to dispatch: at most ``max_scenes`` at once, looking every ``poll_seconds``.

    ``once``: until nothing is open any more, else until told to stop.
    """

    lease_seconds: float
    poll_seconds: float
    max_scenes: int
    once: bool


class Dispatcher:
    """Sends tasks for the open scenes of a scope."""

    def __init__(self, settings: Settings, scope: Scope, rules: Rules) -> None:
        """Prepare; :meth:`run` connects."""
        self._settings, self._scope, self._rules = settings, scope, rules
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._looked = self._read_again = self._logged = 0.0
        self._tidying = Tidying(settings, scope.dataset_id)
        self._backlog: Backlog | None = None
        self._credit = 0
        self._slots = Slots()
        self._tally = Tally()
        self._burst = _Burst()

    def stop(self) -> None:
        """Submit nothing more and return from :meth:`run`; may be called from a signal handler."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> Tally:
        """Dispatch until told to stop, or with ``once`` until nothing is open.

        Returns what was done. Outlives restarts of scheduler, workers and database.

        Raises:
            CbmError: as :class:`cbm_extract.engine.cluster.pool.Pool` and
                :func:`cbm_core.db.connect` when either is not there at the start.

        """
        try:
            self._connection = db.connect(self._settings)
            with Pool(self._settings.engine, self._wake) as pool:
                while not self._stopping.is_set():
                    self._turn(pool)
                    if self._rules.once and self._empty():
                        self._last_reports(pool)
                        break
                    self._wake.wait(self._rules.poll_seconds)
                    self._wake.clear()
            self._settle()
        finally:
            self._tidying.end()
            self._disconnect()
        return self._tally

    def _turn(self, pool: Pool) -> None:
        self._collect(pool)
        if time.monotonic() - self._looked >= self._rules.poll_seconds:
            self._look(pool)
        free = min(self._slots.slots, self._rules.max_scenes) - pool.in_flight
        for _ in range(min(free, self._credit)):
            pool.submit(self._scope, self._rules.lease_seconds)
            self._credit -= 1
        self._log()

    def _collect(self, pool: Pool) -> None:
        for report in pool.reports():
            if report is None:
                self._credit, self._read_again = 0, 0.0
                continue
            self._tally.add(report.tally)
            self._burst.add(report.tally.scenes)
            if not report.tally.scenes and not report.trouble:
                self._credit, self._read_again = 0, 0.0

    def _look(self, pool: Pool) -> None:
        """See what is open and who is there."""
        slots = pool.look()
        if slots != self._slots:
            note(f"{slots.workers} workers with {slots.slots} slots.")
        self._slots = slots
        if time.monotonic() >= self._read_again:
            self._look_at_ledger()
        self._looked = time.monotonic()
        if self._empty() and not pool.in_flight:
            self._settle()
            if self._burst.scenes:
                note(f"Nothing is open any more: {self._burst.text()}.")
            self._burst = _Burst()
            if not self._rules.once:
                self._tidying.idle()
        else:
            self._tidying.work()

    def _look_at_ledger(self) -> None:
        began = time.monotonic()
        self._backlog = self._read_backlog()
        self._credit = self._backlog.claimable if self._backlog else 0
        now = time.monotonic()
        pause = min(_PAUSE_PER_LOOK * (now - began), _LONGEST_PAUSE)
        self._read_again = now + pause if self._backlog else now

    def _empty(self) -> bool:
        left = self._backlog
        return left is not None and not left.claimable and not left.leased

    def _read_backlog(self) -> Backlog | None:
        """Look at the ledger; None while the database is away."""
        try:
            if self._connection is None:
                self._connection = db.connect(self._settings)
                note("The database is back.")
            with db.readable_errors(), db.transaction(self._connection) as cursor:
                return claims.backlog(cursor, self._scope)
        except CbmError as error:
            if error.code not in _DATABASE_AWAY:
                raise
            if self._connection is not None:
                note(f"{error.message} Trying again.")
            self._disconnect()
            return None

    def _settle(self) -> None:
        if self._connection is None or not self._tally.partitions:
            return
        try:
            with db.readable_errors():
                settle(self._connection, self._tally)
        except CbmError as error:
            if error.code not in _DATABASE_AWAY:
                raise
            self._disconnect()  # the server does it by itself, later

    def _last_reports(self, pool: Pool) -> None:
        end = time.monotonic() + _LAST_SECONDS
        while pool.in_flight and time.monotonic() < end and not self._stopping.is_set():
            self._wake.wait(0.1)
            self._wake.clear()
            self._collect(pool)

    def _log(self) -> None:
        now = time.monotonic()
        if self._empty() or self._backlog is None or now - self._logged < _LOG_SECONDS:
            return
        self._logged = now
        left = self._backlog.claimable + self._backlog.leased
        note(f"{self._burst.text()}; {left} open, {self._backlog.leased} being done.")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class _Burst:
    """Scenes done since the backlog was last empty."""

    def __init__(self) -> None:
        self.scenes = 0
        self._since = time.monotonic()

    def add(self, scenes: int) -> None:
        self.scenes += scenes

    def text(self) -> str:
        seconds = time.monotonic() - self._since
        rate = self.scenes / seconds * 3600 if seconds else 0.0
        return f"{self.scenes} scenes done in {seconds:.0f} s, {rate:.0f} an hour"
