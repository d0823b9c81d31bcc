"""What a worker of the cluster runs: it takes scenes from the ledger, not from its caller.

A task names a scope and a lease, never a scene: run twice, lost, or run by another worker than
meant, it does no harm. The scheduler loads this module as well, so it imports nothing heavy.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cbm_core.errors import CbmError

if TYPE_CHECKING:
    from cbm_core.db import Connection
    from cbm_core.settings import Settings
    from cbm_extract.engine.worker import Tally, Worker
    from cbm_extract.ledger.states import Scope

# A task goes on with the next scene for as long, so that small scenes share its overhead.
TASK_SECONDS = 2.0

# A worker that can do nothing (no settings, no database) keeps its slot for as long, or it would
# be handed every task there is.
TROUBLE_SECONDS = 5.0


@dataclass
class Report:
    """What a task did. ``trouble`` is what kept the worker from going on, None without any."""

    tally: Tally
    trouble: str | None = None


@dataclass
class _Process:
    """The workers busy in this process, and whether it is about to end."""

    closing: threading.Event = field(default_factory=threading.Event)
    workers: set[Worker] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


_process = _Process()


def do_scenes(scope: Scope, lease_seconds: float) -> Report:
    """Claim and do the next scene of the scope, and further ones for two seconds.

    Reads this host's own settings; the database session lasts as long as the task, so that a
    worker without work holds none. Whatever happens to a scene is in the ledger; nothing is raised
    for it.
    """
    from cbm_core import db, settings
    from cbm_extract.engine.worker import Tally

    tally = Tally()
    try:
        host = settings.load()
        with db.session(host) as connection:
            _work(host, connection, scope, lease_seconds, tally)
    except CbmError as error:
        _process.closing.wait(TROUBLE_SECONDS)
        return Report(tally, str(error))
    return Report(tally)


def _work(
    host: Settings, connection: Connection, scope: Scope, lease_seconds: float, tally: Tally
) -> None:
    from cbm_extract.engine.worker import Worker

    worker = Worker(host, connection, scope, lease_seconds)
    with _process.lock:
        _process.workers.add(worker)
    try:
        end = time.monotonic() + TASK_SECONDS
        while not _process.closing.is_set():
            outcome = worker.do_next()
            if outcome is None:
                return
            tally.add(outcome)
            if time.monotonic() > end:
                return
    finally:
        with _process.lock:
            _process.workers.discard(worker)


def give_back() -> None:
    """Begin no further scene in this process and give those in hand back; it is about to end."""
    _process.closing.set()
    with _process.lock:
        busy = list(_process.workers)
    for worker in busy:
        worker.give_back()
