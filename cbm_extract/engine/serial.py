"""The serial engine: claim a scene, do it, until nothing in scope is open."""

from __future__ import annotations

import time

from cbm_core import db
from cbm_core.db import Connection
from cbm_core.progress import Step, step
from cbm_core.settings import Settings
from cbm_extract.engine.worker import Tally, Worker, settle
from cbm_extract.ledger import claims
from cbm_extract.ledger.claims import Backlog
from cbm_extract.ledger.states import Scope

# How often to look whether another worker's scene is done, or its lease has run out.
_POLL_SECONDS = 0.5


def run(settings: Settings, scope: Scope, lease_seconds: float) -> Tally:
    """Do everything open in the scope, together with whoever else does.

    Returns when nothing is open any more: scenes that other workers hold are waited for, and taken
    over where a lease runs out. An interrupt gives the scene in hand back and goes on upwards.

    Raises:
        CbmError: ``database_lost`` when the connection broke; what was in hand is free again when
            its lease has run out.

    """
    tally = Tally()
    with db.session(settings) as connection:
        worker = Worker(settings, connection, scope, lease_seconds)
        open_scenes = _backlog(connection, scope)
        total = open_scenes.claimable + open_scenes.leased
        if not total:
            return tally
        with step("Extracting", total, "scenes") as progress:
            while True:
                outcome = worker.do_next()
                if outcome is not None:
                    tally.add(outcome)
                    progress.advance()
                elif not _wait(connection, scope, progress):
                    break
        settle(connection, tally)
    return tally


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
