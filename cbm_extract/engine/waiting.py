"""Waiting for a cluster's workers: all that is seen of them is the ledger."""

from __future__ import annotations

import time

from cbm_core import db
from cbm_core.errors import CbmError
from cbm_core.progress import Step, note, step
from cbm_core.settings import Settings
from cbm_extract.engine.worker import Tally
from cbm_extract.ledger import claims, rate
from cbm_extract.ledger.claims import Backlog
from cbm_extract.ledger.states import Scope

_POLL_SECONDS = 1.0

# How long open scenes may lie about before somebody is told, and told again.
STALLED_SECONDS = 30.0
_SAY_AGAIN_SECONDS = 600.0

# How long the database may be away; those who work wait for it as well.
_PATIENCE_SECONDS = 300.0


def run(settings: Settings, scope: Scope, since: int) -> Tally:
    """Wait until nothing in the scope is open; return what was done after run ``since``.

    Needs a dispatcher and workers somewhere, and says so where none seems to be. An interrupt goes
    upwards; the work goes on.

    Raises:
        CbmError: ``database_unreachable`` or ``database_lost`` when the database stays away.

    """
    try:
        _wait(settings, scope)
    except KeyboardInterrupt:
        note("The workers go on; `cbm ledger status` shows how far they are.")
        raise
    with db.session(settings) as connection, db.transaction(connection) as cursor:
        done = rate.done_since(cursor, scope, since)
    return Tally(done.scenes, {"done": done.items}, done.rows)


def _wait(settings: Settings, scope: Scope) -> None:
    left = _look(settings, scope)
    still_open = left.claimable + left.leased
    if not still_open:
        return
    stall = _Stall()
    with step("Extracting", still_open, "scenes") as progress:
        while still_open:
            time.sleep(_POLL_SECONDS)
            left = _look(settings, scope)
            now_open = left.claimable + left.leased
            stall.watch(left, moved=now_open < still_open)
            still_open = _advance(progress, still_open, now_open)


def _advance(progress: Step, before: int, now: int) -> int:
    if now < before:
        progress.advance(before - now)
    return now


def _look(settings: Settings, scope: Scope) -> Backlog:
    """Look at the ledger by a short session; the database may be away for a while."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with db.session(settings) as connection, db.transaction(connection) as cursor:
                return claims.backlog(cursor, scope)
        except CbmError as error:
            away = error.code in ("database_lost", "database_unreachable")
            if not away or time.monotonic() > end:
                raise
        time.sleep(_POLL_SECONDS)


class _Stall:
    """Says when there are open scenes and nobody who does them."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._wait = STALLED_SECONDS

    def watch(self, left: Backlog, *, moved: bool) -> None:
        now = time.monotonic()
        if moved or left.leased:
            self._since, self._wait = now, STALLED_SECONDS
        elif now - self._since >= self._wait:
            self._since, self._wait = now, _SAY_AGAIN_SECONDS
            note(
                f"{left.claimable} scenes wait and nobody works on them. Check that a dispatcher"
                " and workers run: `systemctl status cbm-dispatcher cbm-dask-scheduler` on the"
                " manager, `systemctl status cbm-dask-worker` on the workers."
            )
