"""The serial engine: claim a scene, do it, until nothing in scope is open."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

from cbm_core import db
from cbm_core.db import Connection
from cbm_core.errors import CbmError
from cbm_core.progress import Step, step
from cbm_core.settings import Settings
from cbm_extract.engine import scene_task
from cbm_extract.engine.scene_task import Outcome
from cbm_extract.ledger import claims
from cbm_extract.ledger.claims import Backlog
from cbm_extract.ledger.states import Claim, Scope
from cbm_extract.store import signatures

# How often to look whether another worker's scene is done, or its lease has run out.
_POLL_SECONDS = 0.5


@dataclass
class Tally:
    """What a worker has done: scenes, items by what became of them, rows written.

    ``partitions`` are the (dataset id, first day of a month) that the rows went to.
    """

    scenes: int = 0
    items: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    partitions: set[tuple[int, date]] = field(default_factory=set)

    def add(self, outcome: Outcome) -> None:
        """Count a scene."""
        self.scenes += 1
        self.rows += outcome.rows
        self.partitions |= outcome.partitions
        for state, number in outcome.items.items():
            self.items[state] = self.items.get(state, 0) + number


def run(settings: Settings, scope: Scope, lease_seconds: float) -> Tally:
    """Do everything open in the scope, together with whoever else does.

    Returns when nothing is open any more: scenes that other workers hold are waited for, and taken
    over where a lease runs out. An interrupt gives the scene in hand back and goes on upwards.

    Raises:
        CbmError: ``database_lost`` when the connection broke; what was in hand is free again when
            its lease has run out.

    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    tally = Tally()
    with db.session(settings) as connection:
        with db.transaction(connection) as cursor:
            claims.guard(cursor, lease_seconds)
        open_scenes = _backlog(connection, scope)
        total = open_scenes.claimable + open_scenes.leased
        if not total:
            return tally
        with step("Extracting", total, "scenes") as progress:
            while True:
                with db.transaction(connection) as cursor:
                    claim = claims.claim(cursor, scope, worker, lease_seconds)
                if claim is not None:
                    tally.add(_do(settings, connection, claim))
                    progress.advance()
                elif not _wait(connection, scope, progress):
                    break
        for dataset_id, month in sorted(tally.partitions):
            signatures.analyze_partition(connection, dataset_id, month)
    return tally


def _do(settings: Settings, connection: Connection, claim: Claim) -> Outcome:
    try:
        return scene_task.run(settings, connection, claim)
    except BaseException:
        # The session may be in the middle of anything, and would hold locks.
        connection.close()
        with (
            suppress(CbmError),  # the database is gone: the lease will run out
            db.session(settings) as fresh,
            db.transaction(fresh) as cursor,
        ):
            claims.release(cursor, claim)
        raise


def _wait(connection: Connection, scope: Scope, progress: Step) -> bool:
    """Wait while all that is open is in other hands; False when nothing is open any more."""
    left = _backlog(connection, scope)
    if not left.claimable and not left.leased:
        return False
    if left.claimable:
        # Somebody else was about to claim it, or the catalogue is just writing.
        time.sleep(_POLL_SECONDS / 10)
        return True
    label = f"Waiting for {left.leased} scenes of {', '.join(left.workers)}"
    with step(label, None, "s") as waiting:
        before = left.leased
        while left.leased and not left.claimable:
            time.sleep(_POLL_SECONDS)
            left = _backlog(connection, scope)
            if left.leased < before:
                progress.advance(before - left.leased)
                before = left.leased
        waiting.advance()
    return True


def _backlog(connection: Connection, scope: Scope) -> Backlog:
    with db.transaction(connection) as cursor:
        return claims.backlog(cursor, scope)
