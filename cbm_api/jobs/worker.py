"""Works on jobs, one after the other, each on behalf of its user.

A process that is killed leaves its job leased; when the lease has run out, the next claim takes it
and starts again. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cbm_api.database import Database
from cbm_api.jobs import files
from cbm_api.queries import datasets, jobs, signatures
from cbm_api.queries.jobs import Claim
from cbm_api.queries.selection import Selection
from cbm_api.series import table
from cbm_api.series.formats import parquet_writer
from cbm_api.series.request import BulkBody, Chosen, understand
from cbm_core.errors import CbmError
from cbm_core.settings import Settings

_log = logging.getLogger("cbm_api.jobs")

# Parcels of a row group, read at a time.
CHUNK = 200
# What passes by itself: the job is tried again when its lease has run out.
_PASSING = {"busy", "database_lost", "database_timeout", "database_unreachable", "lease_lost"}
_SECONDS_BETWEEN = 2.0
# A job's file, or the half of one: <id>.parquet, <id>.parquet.<token>. The folder may hold others.
_OURS = re.compile(
    rf"([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}){re.escape(files.SUFFIX)}(?:\.\d+)?"
)
# What jobs leave free of the disk.
_FREE_SHARE = 0.1


def work(settings: Settings, stop: threading.Event) -> None:
    """Do jobs as they come, until told to stop; a job that was begun is done first."""
    database = Database(settings)
    while not stop.is_set():
        try:
            # Also between jobs: what users may not have any more does not wait for a long line.
            tidy(settings, database)
            if do_next(settings, database):
                continue
        except CbmError as error:
            _log.warning("%s: %s", error.code, error)
        stop.wait(_SECONDS_BETWEEN)
    database.close()


def do_next(settings: Settings, database: Database) -> bool:
    """Do the next job; False when there is none.

    Raises:
        CbmError: ``database_unreachable`` and the like; the job is tried again later.

    """
    with database.transaction(None) as cursor:
        held = jobs.claim(cursor)
    if held is None:
        return False
    try:
        _do(settings, database, held)
    except CbmError as error:
        if error.code in _PASSING:
            raise
        _fail(database, held, error)
    except OSError as error:
        reason = error.strerror or error
        _fail(database, held, CbmError("cannot_write", f"The file cannot be written: {reason}."))
    except Exception:
        _log.exception("job %s failed", held.id)
        _fail(database, held, CbmError("internal_error", "The server failed."))
    return True


def tidy(settings: Settings, database: Database) -> None:
    """Forget the jobs that have expired or whose users are shut out; delete files of gone ones.

    Raises:
        CbmError: ``database_unreachable`` and the like.

    """
    # Files first: a job that begins meanwhile is then among those that live.
    found = list(files.folder(settings).glob(f"*{files.SUFFIX}*"))
    with database.transaction(None) as cursor:
        living = jobs.living(cursor)
    for file in found:
        ours = _OURS.fullmatch(file.name)
        if ours and ours[1] not in living:
            with suppress(OSError):
                file.unlink()


def _do(settings: Settings, database: Database, held: Claim) -> None:
    with database.transaction(held.user) as cursor:
        try:
            job = jobs.get(cursor, held.id)
            dataset = datasets.find(cursor, job.collection)
        except CbmError:
            # Deleted, or not granted any more since the claim.
            raise CbmError("lease_lost", f"The job {held.id} is gone.") from None
        body = BulkBody.model_validate(job.request)
        chosen = understand(cursor, dataset, body)
        ids = Selection(dataset, body.pids, body.area).all(cursor)
        jobs.begin(cursor, held, len(ids))
    target = files.file_of(settings, held.id)
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    for left in target.parent.glob(f"{target.name}.*"):
        left.unlink(missing_ok=True)
    half = target.with_name(f"{target.name}.{held.token}")
    try:
        _write(database, held, chosen, ids, half)
        with database.transaction(held.user) as cursor:
            jobs.finish(cursor, held, half.stat().st_size)
            half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def _write(database: Database, held: Claim, chosen: Chosen, ids: Sequence[int], file: Path) -> None:
    rows = 0
    with parquet_writer(file, table.schema(chosen)) as writer:
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            with database.transaction(held.user) as cursor:
                found = table.read(cursor, chosen, signatures.parcels(cursor, part))
                rows += found.num_rows
                jobs.advance(cursor, held, start + len(part), rows)
            writer.write_table(found)
            _leave_room(file.parent)


def _leave_room(folder: Path) -> None:
    usage = shutil.disk_usage(folder)
    if usage.free < _FREE_SHARE * usage.total:
        raise CbmError(
            "disk_full",
            "There is no room for the file.",
            "Ask for fewer parcels, bands, statistics or dates, or delete jobs of yours.",
        )


def _fail(database: Database, held: Claim, error: CbmError) -> None:
    with database.transaction(held.user) as cursor:
        jobs.fail(cursor, held, error)
