"""One scene, once: all open items of a claim, each committed on its own."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date
from pathlib import Path
from typing import Any

from cbm_core import db
from cbm_core.db import Connection
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_extract.engine.areas import Areas
from cbm_extract.engine.jobs import Job
from cbm_extract.engine.pouring import BandError, blamed
from cbm_extract.engine.scene_reading import SceneReading, SuspectOffsetError
from cbm_extract.engine.slices import JobResult
from cbm_extract.ledger import claims
from cbm_extract.ledger.heartbeat import Heartbeat
from cbm_extract.ledger.states import Claim
from cbm_extract.read import staging
from cbm_extract.read.fingerprint import fingerprint
from cbm_extract.store import products, runs, scenes, signatures, work
from cbm_extract.store.runs import Run
from cbm_extract.store.signatures import Slice
from cbm_extract.store.work import SceneRow


@dataclass
class Outcome:
    """What became of a scene: items by their new state, and rows written.

    Besides the ledger's states there are ``held`` (the scene was found unfit), ``lost`` (to another
    worker) and, of those done, ``replaced`` (other numbers than were stored). ``partitions`` are
    (dataset id, first day of the month, UTC) written to.
    """

    items: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    partitions: set[tuple[int, date]] = field(default_factory=set)


def run(settings: Settings, connection: Connection, claim: Claim) -> Outcome:
    """Do a claimed scene: read its bands once, commit each item with its evidence.

    What cannot be done is recorded in the ledger; only what concerns the worker itself is raised.
    The caller gives the claim back where this raises.

    Raises:
        CbmError: ``database_lost``, or as :func:`cbm_extract.read.staging.prepare`.

    """
    staging.prepare(settings.storage)
    with db.readable_errors(), Heartbeat(settings, claim) as heartbeat:
        return _SceneTask(connection, claim, heartbeat, settings.engine.threads).run()


class _SceneTask:
    def __init__(
        self, connection: Connection, claim: Claim, heartbeat: Heartbeat, threads: int
    ) -> None:
        self._connection, self._claim, self._heartbeat = connection, claim, heartbeat
        self._threads = threads
        self._outcome = Outcome()
        self._versions: dict[str, dict[str, Any]] = {}

    def run(self) -> Outcome:
        with db.transaction(self._connection) as cursor:
            scene = work.scene(cursor, self._claim.scene_id)
            known = products.load(cursor, [item.product_id for item in self._claim.items])
        jobs = [Job.of(item, known[item.product_id]) for item in self._claim.items]
        areas = Areas(self._connection, scene.id)
        try:
            results = read_jobs(
                scene,
                areas,
                jobs,
                self._heartbeat.require,
                self._threads,
                lambda left: self._identify(scene, left),
            )
        except SuspectOffsetError as found:
            self._hold(found.error)
            return self._outcome
        except CbmError as error:
            if error.code != "lease_lost":
                raise
            self._outcome.items["lost"] = len(jobs)
            return self._outcome
        for job in jobs:
            if job.error is None:
                self._commit(scene, areas, job, results[job.item.id])
            if job.error is not None:
                self._record(job, job.error)
        return self._outcome

    def _identify(self, scene: SceneRow, jobs: list[Job]) -> None:
        """Ask which versions of the files are about to be read."""
        for band in dict.fromkeys(band for job in jobs for band in job.reads(scene)):
            href = scene.assets[band].href
            if href not in self._versions:
                with blamed(band):
                    self._versions[href] = fingerprint(href).as_json()

    def _commit(self, scene: SceneRow, areas: Areas, job: Job, found: JobResult) -> None:
        """Write rows, evidence and the item's state in one transaction, or set ``job.error``."""
        try:
            with db.readable_errors():
                self._heartbeat.require()
                rows = slice_of(scene, job, found)
                item = job.item
                run = self._evidence(scene, areas, job, rows)
                leaf = signatures.ensure_partition(self._connection, item.dataset_id, scene.obstime)
                with db.transaction(self._connection) as cursor:
                    if job.area.again:
                        replaced = runs.replace_slice(cursor, leaf, rows, run, item.id)
                    else:
                        replaced = None
                        runs.add_slice(cursor, leaf, rows, run)
                    claims.finish(cursor, self._claim, item, run.parcel_set_to)
        except CbmError as error:
            job.error = error
        except Exception as error:  # one item must not stop the others
            job.error = _internal(error)
        else:
            self._outcome.items["done"] += 1
            if replaced:
                self._outcome.items["replaced"] += 1
            self._outcome.rows += len(rows) if replaced != 0 else 0
            if len(rows):
                month = scene.obstime.astimezone(UTC).date().replace(day=1)
                self._outcome.partitions.add((item.dataset_id, month))

    def _evidence(self, scene: SceneRow, areas: Areas, job: Job, rows: Slice) -> Run:
        return Run(
            scene_id=scene.id,
            dataset_id=job.item.dataset_id,
            product_id=job.item.product_id,
            scope=job.scope,
            parcel_set_from=job.area.after,
            parcel_set_to=max(job.item.parcel_set_id, areas.newest_set(job.area)),
            token=self._claim.token,
            worker=self._claim.worker,
            product_hash=job.product_hash,
            plans=areas.plans_used(job.area),
            assets={
                band: scene.assets[band].as_json() | self._versions[scene.assets[band].href]
                for band in job.reads(scene)
            },
            started_at=self._claim.started_at,
            missing_bands=job.missing_bands(scene),
        )

    def _record(self, job: Job, error: CbmError) -> None:
        """Write down why an item was not done."""
        if error.code != "lease_lost":
            try:
                with db.transaction(self._connection) as cursor:
                    state = claims.fail(cursor, self._claim, job.item, error)
                self._outcome.items[state] += 1
            except CbmError as lost:
                error = lost
        if error.code == "lease_lost":
            self._outcome.items["lost"] += 1

    def _hold(self, error: CbmError) -> None:
        """Set the scene aside; an older product that it had superseded serves again."""
        try:
            with db.transaction(self._connection) as cursor:
                scenes.lock(cursor)
                claims.hold(cursor, self._claim, error)
                scenes.settle(cursor, self._claim.scene_id)
            state = "held"
        except CbmError:
            state = "lost"
        self._outcome.items[state] = len(self._claim.items)


def read_jobs(
    scene: SceneRow,
    areas: Areas,
    jobs: list[Job],
    beat: Callable[[], None],
    threads: int,
    before: Callable[[list[Job]], None] = lambda _: None,
) -> dict[int, JobResult]:
    """Read for all jobs; a band that fails takes its jobs with it, the others are read for.

    What is wrong with a job is put into its ``error``. ``before`` is told the jobs of each attempt;
    ``beat`` and ``threads`` as for :class:`cbm_extract.engine.scene_reading.SceneReading`.

    Raises:
        CbmError: as ``beat`` does.
        SuspectOffsetError: when the pixels contradict the declared offset.

    """
    for job in jobs:
        try:
            job.check(scene)
        except CbmError as error:
            job.error = error
    while left := [job for job in jobs if job.error is None]:
        try:
            before(left)
            return SceneReading(scene, areas, beat, threads).read(left)
        except BandError as failed:
            concerned = [job for job in left if failed.band in job.reads(scene)]
            for job in concerned or left:
                job.error = failed.error
        except (CbmError, SuspectOffsetError):
            raise
        except Exception as error:  # one scene must not stop the others
            for job in left:
                job.error = _internal(error)
    return {}


def slice_of(scene: SceneRow, job: Job, found: JobResult) -> Slice:
    """Return the rows that a job's results are stored as."""
    return Slice(
        obstime=scene.obstime,
        scene_id=scene.id,
        dataset_id=job.item.dataset_id,
        product_id=job.item.product_id,
        geometry_ids=found.result.geometry_ids,
        px_imaged=found.result.px_imaged,
        px_clear=found.result.px_clear,
        tile_rank=found.tile_rank,
        stats=found.result.stats,
        class_counts=found.classes,
    )


def _internal(error: Exception) -> CbmError:
    """Describe a fault of the software, with the place where it happened."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return CbmError(
        "internal_error",
        f"The extraction failed unexpectedly: {type(error).__name__} at {where}:"
        f" {' '.join(str(error).split())}.",
        "This is a fault of the software: please report it with this message.",
    )
