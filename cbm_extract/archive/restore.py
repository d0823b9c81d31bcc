"""An archive back into a database: into the one it came from, or another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cbm_core.db import Connection, Cursor
from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.archive import manifest, parquet
from cbm_extract.archive.export import SLICES
from cbm_extract.archive.manifest import File
from cbm_extract.archive.moving import MovedRun, Moving
from cbm_extract.store import signatures, slices, staging, tables
from cbm_extract.store.signatures import Slice
from cbm_extract.store.slices import Month
from cbm_extract.store.tables import Table

_Key = tuple[int, int, datetime]  # product id, scene id, time


@dataclass
class Ids:
    """New ids by old ones: of the dataset, products, scenes, and geometries as a lookup."""

    dataset: int
    products: dict[int, int]
    scenes: dict[int, int]
    old_geometries: np.ndarray[Any, np.dtype[np.int32]]
    new_geometries: np.ndarray[Any, np.dtype[np.int32]]

    def moved(self, rows: Slice) -> Slice:
        """Return a slice with the ids it has here, in the order of these."""
        at = np.searchsorted(self.old_geometries, rows.geometry_ids)
        at = np.minimum(at, len(self.old_geometries) - 1)
        if (self.old_geometries[at] != rows.geometry_ids).any():
            raise CbmError(
                "archive_damaged",
                f"The rows of scene {rows.scene_id} name geometries the archive does not hold.",
                "Run `cbm db check` where the archive was made.",
            )
        new = self.new_geometries[at]
        order = np.argsort(new, kind="stable")
        return replace(
            rows.rows(order),
            dataset_id=self.dataset,
            product_id=self.products[rows.product_id],
            scene_id=self.scenes[rows.scene_id],
            geometry_ids=new[order],
        )


@dataclass
class Outcome:
    """What was restored: rows by table, slices and their rows; ``digests`` of moved slices."""

    tables: dict[str, int] = field(default_factory=dict)
    slices: int = 0
    rows: int = 0
    moved: list[MovedRun] = field(default_factory=list)
    """What changes of the runs of slices whose ids are others than archived."""

    @property
    def changed(self) -> bool:
        """Whether anything was not there."""
        return bool(self.tables or self.slices)


def run(connection: Connection, folder: Path, *, check: bool) -> Outcome:
    """Restore what is not there, or find out what that would be.

    Every month is one transaction; interrupted, the same command goes on. ``connection`` is the
    owner's.

    Raises:
        CbmError: ``archive_missing``, ``archive_invalid``, ``archive_damaged`` (see
            :mod:`.manifest`); ``archive_does_not_fit`` when the dataset is there with other
            parcels; ``slice_differs`` when stored rows are not the archived ones.

    """
    listed = manifest.read(folder)
    with step("Verifying", len(listed.files), "files") as progress:
        manifest.verify(folder, listed, progress.advance)
    with connection.cursor() as cursor:
        task = _Restore(cursor, folder, check)
        ids = task.ground()
        task.settle()
        with step("Restoring", len(listed.signatures), "files") as progress:
            for file in listed.signatures:
                task.month(file, ids)
                task.settle()
                progress.advance()
        task.evidence()
        task.settle()
        if check:
            connection.rollback()
    return task.outcome


class _Restore:
    """The steps of a restoration; ``settle`` ends each. A check is one transaction, undone."""

    def __init__(self, cursor: Cursor, folder: Path, check: bool) -> None:
        self.outcome = Outcome()
        self._cursor, self._folder, self._check = cursor, folder, check
        columns = pq.read_table(folder / SLICES).to_pydict()
        keys = zip(columns["product_id"], columns["scene_id"], columns["obstime"], strict=True)
        self._recorded: dict[_Key, bytes] = dict(zip(keys, columns["digest"], strict=True))
        archived = pq.read_table(folder / "tables/dataset.parquet", columns=["id"])
        self._dataset_id: int = archived["id"][0].as_py()
        self._moving = Moving(folder)

    def settle(self) -> None:
        if not self._check:
            self._cursor.connection.commit()

    def ground(self) -> Ids:
        """Put everything there that rows refer to."""
        cursor = self._cursor
        names = {table: self._stage(table) for table in tables.GROUND}
        staging.match(cursor, tables.DATASET)
        exists = bool(staging.ids(cursor, tables.DATASET))
        for table in tables.GROUND:
            staging.match(cursor, table)
            if exists and table is tables.GEOMETRY:
                staging.match_parcels_by_hash(cursor)
            if not (exists and table.own):
                self._insert(table, names[table])
        staging.link_superseded(cursor)
        (dataset,) = staging.ids(cursor, tables.DATASET).values()
        geometries = sorted(staging.ids(cursor, tables.GEOMETRY).items())
        return Ids(
            dataset=dataset,
            products=staging.ids(cursor, tables.PRODUCT),
            scenes=staging.ids(cursor, tables.SCENE),
            old_geometries=np.array([old for old, _ in geometries], np.int32),
            new_geometries=np.array([new for _, new in geometries], np.int32),
        )

    def month(self, file: File, ids: Ids) -> None:
        """Restore the slices of a file that are not stored."""
        assert file.product_id is not None and file.start is not None  # noqa: S101
        path = self._folder / file.path
        start = datetime.fromisoformat(file.start)
        width = parquet.variables(path)
        archived = Month(self._dataset_id, file.product_id, width, start)
        here = Month(ids.dataset, ids.products[file.product_id], width, start)
        stored: dict[int, bytes] = {}
        slices.read_month(
            self._cursor, here, lambda rows: stored.update({rows.scene_id: signatures.digest(rows)})
        )
        leaf = "" if self._check else slices.leaf(self._cursor, here)
        for rows in parquet.read_slices(path, archived):
            moved = self._moved(rows, ids)
            if moved.scene_id in stored:
                self._compare(moved, stored[moved.scene_id])
                continue
            if not self._check:
                signatures.insert(self._cursor, leaf, moved)
            self.outcome.slices += 1
            self.outcome.rows += len(moved)

    def _moved(self, rows: Slice, ids: Ids) -> Slice:
        """Verify a slice and return it with the ids it has here."""
        archived = signatures.digest(rows)
        if self._recorded.get((rows.product_id, rows.scene_id, rows.obstime)) != archived:
            raise CbmError(
                "archive_damaged",
                f"The rows of scene {rows.scene_id} are not as they were exported.",
                "Take the archive from another copy.",
            )
        moved = ids.moved(rows)
        if signatures.digest(moved) != archived:
            self.outcome.moved += self._moving.of(rows, ids.moved)
        return moved

    @staticmethod
    def _compare(rows: Slice, stored: bytes) -> None:
        if signatures.digest(rows) != stored:
            raise CbmError(
                "slice_differs",
                f"Scene {rows.scene_id} of {rows.obstime:%Y-%m-%d} is stored with other rows than"
                " the archived; nothing of its month was restored.",
                "Stored rows are never overwritten. Restore into another database to compare.",
            )

    def evidence(self) -> None:
        """Put the runs there, then what is done."""
        for table in tables.EVIDENCE:
            names = self._stage(table)
            if table is tables.RUN:
                staging.move_runs(
                    self._cursor,
                    [(run.id, run.digest, run.geometry_ids) for run in self.outcome.moved],
                )
            if table is tables.WORK_ITEM:
                staging.reopen_items(self._cursor)
            staging.match(self._cursor, table)
            self._insert(table, names)
        if self.outcome.changed:
            staging.audit(self._cursor, {**self.outcome.tables, "signature": self.outcome.rows})

    def _stage(self, table: Table) -> list[str]:
        names, batches = parquet.read_table(self._folder / "tables" / f"{table.name}.parquet")
        staging.stage(self._cursor, table, names, batches)
        return names

    def _insert(self, table: Table, names: list[str]) -> None:
        added = staging.insert_missing(self._cursor, table, names)
        if added:
            self.outcome.tables[table.name] = added
