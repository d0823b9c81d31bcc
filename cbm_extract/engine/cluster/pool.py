"""The workers as the dispatcher sees them: slots, tasks in flight, and what comes back of them."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from distributed import Client, Future
from distributed.client import ClosedClientError

from cbm_core.errors import CbmError
from cbm_core.progress import note
from cbm_core.settings import EngineSettings
from cbm_extract.engine.cluster.client import connect
from cbm_extract.engine.cluster.tasks import Report, do_scenes
from cbm_extract.ledger.states import Scope

# How long to wait for the scheduler's answer, for a report, and for a new connection.
_ANSWER_SECONDS = 10.0
_REPORT_SECONDS = 5.0
_RECONNECT_SECONDS = 3.0

# What a broken or silent connection raises.
_LOST = (OSError, TimeoutError, futures.CancelledError, asyncio.CancelledError, ClosedClientError)


@dataclass(frozen=True)
class Slots:
    """Threads of present workers that could each do a scene."""

    slots: int = 0
    workers: int = 0


class Pool:
    """Tasks on the cluster's workers, over a connection that is made anew when it breaks.

    What was in flight is then forgotten: the ledger knows what became of it.
    """

    def __init__(self, engine: EngineSettings, wake: threading.Event) -> None:
        """Connect; ``wake`` is set whenever a task has ended.

        Raises:
            CbmError: as :func:`cbm_extract.engine.cluster.client.connect`.

        """
        self._engine, self._wake = engine, wake
        self._client: Client | None = connect(engine)
        self._in_flight: list[Future[Report]] = []
        self._said = ""

    def __enter__(self) -> Pool:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave: tasks not begun are dropped, scenes being done are finished by their workers."""
        self._drop()

    @property
    def in_flight(self) -> int:
        """Return how many tasks were submitted and have not come back."""
        return len(self._in_flight)

    def look(self) -> Slots:
        """Count the workers present; none while the scheduler is away."""
        try:
            if self._client is None:
                self._client = connect(self._engine, _RECONNECT_SECONDS)
                self._say("The scheduler is back.")
            scheduler = self._client.scheduler
            if self._client.status != "running" or scheduler is None:
                raise OSError("the connection broke")
            answer = self._client.sync(
                scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_SECONDS
            )
        except CbmError as error:
            self._say(str(error))
            return Slots()
        except _LOST as error:
            self._say(f"The scheduler is away ({error or 'it does not answer'}); trying again.")
            self._drop()
            return Slots()
        running = [one for one in answer["workers"].values() if one["status"] == "running"]
        return Slots(sum(one["nthreads"] for one in running), len(running))

    def submit(self, scope: Scope, lease_seconds: float) -> None:
        """Send one task to the workers; not while the scheduler is away, as the next look finds."""
        if self._client is None or self._client.status != "running":
            return
        with suppress(*_LOST):
            future = self._client.submit(do_scenes, scope, lease_seconds, pure=False, retries=0)
            future.add_done_callback(lambda _: self._wake.set())
            self._in_flight.append(future)

    def reports(self) -> list[Report | None]:
        """Take what has come back; None stands for a task that was lost or could not be run."""
        ended = [future for future in self._in_flight if future.status != "pending"]
        self._in_flight = [future for future in self._in_flight if future not in ended]
        return [self._report(future) for future in ended]

    def _report(self, future: Future[Report]) -> Report | None:
        try:
            report: Report = future.result(timeout=_REPORT_SECONDS)
        except _LOST:
            return None
        except Exception as error:  # of the worker, while it loaded the task or was killed
            self._say(f"A worker could not run a task: {type(error).__name__}: {error}")
            return None
        if report.trouble:
            self._say(f"A worker cannot work: {report.trouble}")
        return report

    def _say(self, text: str) -> None:
        """Note a state of affairs when it begins, not again while it lasts."""
        if text != self._said:
            note(text)
        self._said = text

    def _drop(self) -> None:
        self._in_flight.clear()
        client, self._client = self._client, None
        if client is not None:
            # Of a broken connection anything may come out, errors of a half-made TLS stream too.
            with suppress(Exception, asyncio.CancelledError):
                client.close(timeout=_REPORT_SECONDS)
