"""What every worker does, alone or in a cluster: claim the next scene, do it, count it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

from cbm_core import db
from cbm_core.db import Connection
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_extract.engine import scene_task
from cbm_extract.engine.scene_task import Outcome
from cbm_extract.ledger import claims
from cbm_extract.ledger.states import Claim, Scope
from cbm_extract.store import signatures


@dataclass
class Tally:
    """What workers have done: scenes, items by what became of them, rows written.

    ``partitions`` are the (dataset id, first day of a month) that the rows went to.
    """

    scenes: int = 0
    items: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    partitions: set[tuple[int, date]] = field(default_factory=set)

    def add(self, other: Outcome | Tally) -> None:
        """Count a scene, or what another worker has counted."""
        self.scenes += other.scenes if isinstance(other, Tally) else 1
        self.rows += other.rows
        self.partitions |= other.partitions
        for state, number in other.items.items():
            self.items[state] = self.items.get(state, 0) + number


class Worker:
    """Does scenes of a scope, one after another, over one database session."""

    def __init__(
        self, settings: Settings, connection: Connection, scope: Scope, lease_seconds: float
    ) -> None:
        """Prepare the session, so that what stalls in it is ended by the server."""
        self._settings, self._connection = settings, connection
        self._scope, self._lease_seconds = scope, lease_seconds
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._in_hand: Claim | None = None
        with db.transaction(connection) as cursor:
            claims.guard(cursor, lease_seconds)

    def do_next(self) -> Outcome | None:
        """Claim a scene and do it; None when there is none to be had.

        What is wrong with the scene is recorded in the ledger. Where this raises, an interrupt
        included, the scene has been given back, or is free again when its lease has run out.

        Raises:
            CbmError: ``database_lost``.

        """
        with db.transaction(self._connection) as cursor:
            self._in_hand = claims.claim(cursor, self._scope, self._name, self._lease_seconds)
        if self._in_hand is None:
            return None
        try:
            return scene_task.run(self._settings, self._connection, self._in_hand)
        except BaseException:
            # The session may be in the middle of anything, and would hold locks.
            self._connection.close()
            self.give_back()
            raise
        finally:
            self._in_hand = None

    def give_back(self) -> None:
        """Give the scene in hand to others; may be called from another thread.

        A worker that is still at it can't write what it has no claim to any more.
        """
        claim = self._in_hand
        if claim is None:
            return
        with (
            suppress(CbmError),  # the database is gone: the lease will run out
            db.session(self._settings) as fresh,
            db.transaction(fresh) as cursor,
        ):
            claims.release(cursor, claim)


def settle(connection: Connection, tally: Tally) -> None:
    """Let the database's planner know what was written to; empties ``tally.partitions``."""
    for dataset_id, month in sorted(tally.partitions):
        signatures.analyze_partition(connection, dataset_id, month)
    tally.partitions.clear()
