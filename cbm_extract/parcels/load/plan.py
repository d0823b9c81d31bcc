"""Imports a source into a layer: one plan serves check mode and the real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cbm_core import __version__, db
from cbm_core.datasets.store import Dataset
from cbm_core.db import Connection
from cbm_extract.parcels import scan as scanning
from cbm_extract.parcels.load import apply, changes
from cbm_extract.parcels.load.apply import SetRecord
from cbm_extract.parcels.load.changes import Changes, LatestSet
from cbm_extract.parcels.scan import Options, Scan
from cbm_extract.parcels.source import Given, identify


@dataclass(frozen=True)
class ImportPlan:
    """What an import changes: parcels, or only the record of which file was read.

    ``before`` is the layer's latest import, None before the first. ``report`` is of this source.
    ``set_id`` is the new parcel set, None when nothing was (yet) written.
    """

    dataset: Dataset
    record: SetRecord
    before: LatestSet | None
    changes: Changes
    parcels: int
    report: dict[str, Any]
    report_text: str
    unchanged: bool
    set_id: int | None = None

    @property
    def lines(self) -> list[str]:
        """The changes in words, empty when there is nothing to do."""
        if self.unchanged:
            return []
        where = f"{self.dataset.name} layer '{self.record.layer}'"
        found = self.changes
        parts = [
            (found.added, f"add {found.added} parcels to {where}"),
            (found.geometry, f"change the geometry of {found.geometry} parcels of {where}"),
            (found.attributes, f"change attributes of {found.attributes} parcels of {where}"),
            (
                found.earlier,
                f"let {found.earlier} parcels of {where} begin on {self.record.valid_from}",
            ),
            (found.removed, f"remove {found.removed} parcels from {where}"),
        ]
        lines = [line for count, line in parts if count]
        return lines or [
            f"record the import of {self.record.source} (no parcel of {where} differs)"
        ]


def import_source(
    connection: Connection,
    require: Callable[[db.Cursor], Dataset],
    record: Callable[[Dataset, Given], tuple[SetRecord, Options]],
    source: Path,
    check: bool,
) -> ImportPlan:
    """Import a source, or with ``check`` only say what would be done.

    Args:
        connection: A session of a member of cbm_ingest, outside of a transaction.
        require: Finds the dataset.
        record: Gives what is kept about the import, and how the source is read.
        source: The file, archive or FileGDB.
        check: Change nothing.

    A source, options and software as in the layer's latest import are not read again, nor is a
    source that an import valid from a later day has followed: what it says is known.

    """
    given = identify(source)
    with db.transaction(connection) as cursor:
        dataset = require(cursor)
        wanted, options = record(dataset, given)
        known = changes.overtaken_set(
            cursor, dataset, wanted.layer, wanted.checksum, wanted.options
        )
        if known:
            return _nothing_to_do(dataset, wanted, known)
        changes.require_valid_from(cursor, dataset, wanted.layer, wanted.valid_from)
        latest = changes.latest_set(cursor, dataset, wanted.layer)
    if latest and _is_same(latest, wanted):
        return _nothing_to_do(dataset, wanted, latest)
    with scanning.scanned(given, options) as scan, db.transaction(connection) as cursor:
        if check:
            return _plan(cursor, dataset, wanted, scan)
        now = apply.lock(cursor, dataset)
        plan = _plan(cursor, dataset, wanted, scan)
        if plan.unchanged:
            return plan
        set_id = apply.apply(cursor, dataset, scan, plan.changes, wanted, now)
        return replace(plan, set_id=set_id)


def _plan(cursor: db.Cursor, dataset: Dataset, wanted: SetRecord, scan: Scan) -> ImportPlan:
    """Compare with the layer as it is; leaves temporary tables for ``apply``, nothing else."""
    changes.require_valid_from(cursor, dataset, wanted.layer, wanted.valid_from)
    latest = changes.latest_set(cursor, dataset, wanted.layer)
    found = changes.find(cursor, scan, dataset, wanted.layer, wanted.valid_from)
    same = latest is not None and _is_same(latest, wanted)
    return ImportPlan(
        dataset=dataset,
        record=wanted,
        before=latest,
        changes=found,
        parcels=scan.report.parcels,
        report=scan.report.as_json(),
        report_text=scan.report.text(),
        unchanged=same and not found.any,
    )


def _is_same(latest: LatestSet, wanted: SetRecord) -> bool:
    return (
        latest.checksum == wanted.checksum
        and latest.options == json.loads(json.dumps(wanted.options))
        and latest.software_version == __version__
    )


def _nothing_to_do(dataset: Dataset, wanted: SetRecord, latest: LatestSet) -> ImportPlan:
    return ImportPlan(
        dataset=dataset,
        record=wanted,
        before=latest,
        changes=Changes(),
        parcels=latest.parcels,
        report=latest.report,
        report_text="",
        unchanged=True,
    )
