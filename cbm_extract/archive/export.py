"""A dataset into a folder of Parquet files, all of it as of one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from cbm_core import db
from cbm_core.datasets.store import Dataset, require_dataset
from cbm_core.db import Connection, Cursor
from cbm_core.errors import CbmError, folder_unusable
from cbm_core.progress import step
from cbm_core.settings import Settings
from cbm_extract.archive import manifest, parquet
from cbm_extract.archive.manifest import File, Manifest
from cbm_extract.store import products, signatures, slices, tables
from cbm_extract.store.products import Registered
from cbm_extract.store.signatures import Slice
from cbm_extract.store.slices import Month

SLICES = "tables/slice.parquet"
_SLICE_SCHEMA = pa.schema(
    [
        ("product_id", pa.int16()),
        ("scene_id", pa.int32()),
        ("obstime", pa.timestamp("us", tz="UTC")),
        ("rows", pa.int32()),
        ("digest", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Part:
    """A file of signatures to be: one month of one product."""

    month: Month
    product: Registered
    revision: int

    @property
    def path(self) -> str:
        """Where it lies in the archive."""
        return (
            f"signatures/product={self.product.product.name}/revision={self.revision}"
            f"/month={self.month.start:%Y-%m}/rows.parquet"
        )


@dataclass(frozen=True)
class Plan:
    """What an export writes."""

    dataset: Dataset
    parts: list[Part]


@dataclass
class Result:
    """What an export wrote; ``unlike_evidence`` names slices whose digest is not their run's."""

    manifest: Manifest
    rows: int = 0
    bytes: int = 0
    unlike_evidence: list[str] = field(default_factory=list)


def plan(
    cursor: Cursor, name: str, start: date | None, end: date | None, wanted: list[str] | None
) -> Plan:
    """Return the months of the products wanted (default all) that have rows in the period.

    Months are whole: those that ``start`` and ``end`` (inclusive) fall in are exported entirely.

    Raises:
        CbmError: ``dataset_unknown``, and ``product_unknown`` when the dataset has no rows of one.

    """
    dataset = require_dataset(cursor, name)
    found = slices.months_of(cursor, dataset.id)
    known = products.load(cursor, sorted({product for product, _ in found}))
    revisions = products.revisions(cursor)
    names = {registered.product.name for registered in known.values()}
    lacking = sorted(set(wanted or []) - names)
    if lacking:
        raise CbmError(
            "product_unknown",
            f"{name} has no signatures of {', '.join(lacking)}; it has those of"
            f" {', '.join(sorted(names)) or 'no product'}.",
        )
    parts = []
    for product_id, first in found:
        registered = known[product_id]
        month = Month(dataset.id, product_id, len(registered.product.variables), first)
        if wanted is not None and registered.product.name not in wanted:
            continue
        if (start is None or _utc(start) < month.end) and (end is None or _utc(end) >= first):
            parts.append(Part(month, registered, revisions[product_id]))
    return Plan(dataset, parts)


def _utc(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def prepare(folder: Path, dataset: str) -> None:
    """See that the folder is new, empty or an archive of the same dataset.

    Raises:
        CbmError: ``folder_occupied`` when it holds something else, ``cannot_read`` when it is none.

    """
    try:
        held = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise folder_unusable(folder, error) from error
    ours = {manifest.NAME, "signatures", "tables"}
    strange = sorted(name for name in held if name not in ours and name[0] != ".")
    known = manifest.read(folder).dataset if (folder / manifest.NAME).exists() else dataset
    if strange or known != dataset:
        what = f"an archive of {known}" if known != dataset else ", ".join(strange[:5])
        raise CbmError(
            "folder_occupied",
            f"{folder} holds {what}; expected a new folder, or an earlier export of {dataset}.",
            "Name another folder.",
        )


def run(connection: Connection, plan: Plan, folder: Path) -> Result:
    """Write tables and signatures; the manifest comes last, and old files go.

    Raises:
        CbmError: ``cannot_write`` when the folder cannot be written to, or its disk is full.

    """
    try:
        return _run(connection, plan, folder)
    except OSError as error:
        raise CbmError(
            "cannot_write",
            f"{folder} could not be written: {error.strerror or error}.",
            "Name a folder that you may write, or make room; then run the same command again.",
        ) from error


def _run(connection: Connection, plan: Plan, folder: Path) -> Result:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.NAME).unlink(missing_ok=True)
    files, digests = [], []
    with step("Exporting", len(plan.parts) + len(tables.TABLES), "files") as progress:
        for table in tables.TABLES:
            files.append(_table(connection, plan.dataset, table, folder))
            progress.advance()
        for part in plan.parts:
            file, found = _signatures(connection, part, folder)
            files.append(file)
            digests += found
            progress.advance()
    files.append(_digests(digests, folder))
    written = Manifest(plan.dataset.name, tuple(files))
    _clear(folder, {file.path for file in files})
    manifest.write(folder, written)
    return Result(
        written,
        rows=sum(file.rows for file in written.signatures),
        bytes=sum(file.bytes for file in files),
        unlike_evidence=_unlike(connection, plan.dataset, digests),
    )


def snapshot(settings: Settings) -> Connection:
    """Open a session all of whose reading sees one moment."""
    connection = db.connect(settings)
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    return connection


_Digest = tuple[int, int, datetime, int, bytes]


def _table(connection: Connection, dataset: Dataset, table: tables.Table, folder: Path) -> File:
    path = folder / "tables" / f"{table.name}.parquet"
    with connection.cursor() as cursor:
        columns = tables.columns(cursor, table)
    rows = parquet.write_table(path, columns, tables.read(connection, table, dataset.id))
    return manifest.describe(folder, path, rows)


def _signatures(connection: Connection, part: Part, folder: Path) -> tuple[File, list[_Digest]]:
    path, month = folder / part.path, part.month
    product = part.product.product
    schema, plain = parquet.slice_schema(
        list(product.variables), classes=product.class_band is not None
    )
    digests: list[_Digest] = []
    with parquet.writing(path, schema, plain) as writer:

        def take(rows: Slice) -> None:
            writer.write_table(parquet.slice_table(rows, schema), row_group_size=len(rows))
            digests.append(
                (month.product_id, rows.scene_id, rows.obstime, len(rows), signatures.digest(rows))
            )

        with connection.cursor() as cursor:
            slices.read_month(cursor, month, take)
    count = sum(digest[3] for digest in digests)
    file = manifest.describe(
        folder, path, count, product_id=month.product_id, start=month.start.isoformat()
    )
    return file, digests


def _digests(digests: list[_Digest], folder: Path) -> File:
    path = folder / SLICES
    columns = list(zip(*digests, strict=True)) or [()] * len(_SLICE_SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, _SLICE_SCHEMA, strict=True)]
    with parquet.writing(path, _SLICE_SCHEMA, _SLICE_SCHEMA.names) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=_SLICE_SCHEMA))
    return manifest.describe(folder, path, len(digests))


def _unlike(connection: Connection, dataset: Dataset, digests: Iterable[_Digest]) -> list[str]:
    """Return the slices written by one run whose digest is not what that run wrote."""
    with connection.cursor() as cursor:
        evidence = slices.whole_digests(cursor, dataset.id)
    return [
        f"scene {scene} of product {product}"
        for product, scene, _, _, found in digests
        if evidence.get((product, scene), found) != found
    ]


def _clear(folder: Path, keep: set[str]) -> None:
    """Remove files of an earlier export that are not part of this one."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(folder).as_posix() not in keep:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
