"""Statistics as rows of ``cbm.signature``, written by binary COPY from arrays.

A row in PostgreSQL's binary format has fields of known width except two: ``stats`` is absent where
no pixel is clear, ``class_counts`` is as long as there are classes. So all rows of a batch are laid
out at full width in one array, and the bytes that are not there are then dropped by a mask: no
Python runs per row, and rows stay in the order of geometry ids.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_core.db import Connection, Cursor, one_row, transaction
from cbm_core.errors import CbmError

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
CLASSES = 12

# About 8 MB of rows of ten bands: large enough for speed, small enough to be no matter.
_BATCH_ROWS = 10_000

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FLOAT4_OID = 700
# In the order in which rows are written, and digested.
COLUMNS = sql.SQL(
    "obstime, geometry_id, scene_id, px_imaged, px_clear, dataset_id, product_id, tile_rank,"
    " stats, class_counts"
)
# Into the leaf itself: COPY refuses tables with row-level security, and nothing has to be routed.
_COPY = sql.SQL("COPY cbm.{leaf} ({columns}) FROM STDIN (FORMAT binary)")


@dataclass(frozen=True)
class Slice:
    """What one scene says about a dataset's geometries under one product.

    Rows are in rising order of ``geometry_ids`` (int32 [n]); ``px_imaged`` (> 0) and ``px_clear``
    are int32 [n], ``tile_rank`` int16 [n]. ``stats`` is float32 [n, variables * 8] in stored units,
    each variable's count, mean, std, min, max, p25, p50, p75, NaN without a value; rows without a
    clear pixel are stored as NULL. ``class_counts`` is an integer array [n, 12] of pixels per scene
    class, or None for cards without classes.
    """

    obstime: datetime
    scene_id: int
    dataset_id: int
    product_id: int
    geometry_ids: NDArray[np.int32]
    px_imaged: NDArray[np.int32]
    px_clear: NDArray[np.int32]
    tile_rank: NDArray[np.int16]
    stats: NDArray[np.float32]
    class_counts: NDArray[np.integer] | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.geometry_ids)

    def rows(self, chosen: NDArray[Any]) -> Slice:
        """Return some of the rows: ``chosen`` is a mask, bool [n], or positions in any order."""
        counts = self.class_counts
        return replace(
            self,
            geometry_ids=self.geometry_ids[chosen],
            px_imaged=self.px_imaged[chosen],
            px_clear=self.px_clear[chosen],
            tile_rank=self.tile_rank[chosen],
            stats=self.stats[chosen],
            class_counts=None if counts is None else counts[chosen],
        )


def ensure_partition(connection: Connection, dataset_id: int, obstime: datetime) -> str:
    """Make the partition that a slice goes to, in a short transaction, and return its name."""
    with transaction(connection) as cursor:
        cursor.execute(
            "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)",
            (dataset_id, obstime.astimezone(UTC).date()),
        )
        return str(one_row(cursor)[0])


def analyze_partition(connection: Connection, dataset_id: int, month: date) -> None:
    """Gather the planner's statistics of a partition; a purged one is passed over.

    Without them queries of the views are slow until the server's own autovacuum comes by.
    """
    with transaction(connection) as cursor:
        # Waiting for another worker that does the same is no stall.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            "SELECT cbm.analyze_signature_partition(%s::smallint, %s::date)", (dataset_id, month)
        )


def insert(cursor: Cursor, leaf: str, rows: Slice) -> bytes:
    """Write a slice to its partition inside the caller's transaction and return its digest.

    The digest is the sha256 of what ``COPY (SELECT <the columns above> ... ORDER BY geometry_id) TO
    STDOUT (FORMAT binary)`` gives back for the slice, without its header and trailer: it depends on
    neither batches nor workers, and the database itself can recompute it.
    """
    copy = _COPY.format(leaf=sql.Identifier(leaf), columns=COLUMNS)
    digest = hashlib.sha256()
    for body in pack(rows):
        digest.update(body)
        cursor.copy_expert(copy, io.BytesIO(b"".join((_HEADER, body, _TRAILER))))
    return digest.digest()


def digest(rows: Slice) -> bytes:
    """Return the digest that :func:`insert` gives a slice."""
    found = hashlib.sha256()
    for body in pack(rows):
        found.update(body)
    return found.digest()


def pack(rows: Slice, batch_rows: int = _BATCH_ROWS) -> Iterator[memoryview]:
    """Yield the rows of a slice in PostgreSQL's binary COPY format, without header and trailer."""
    layout = _layout(rows.stats.shape[1])
    for start in range(0, len(rows), batch_rows):
        yield _pack_batch(rows, slice(start, start + batch_rows), layout)


def _layout(values: int) -> np.dtype[np.void]:
    """Return the layout of a row of full width; every field is led by its length in bytes."""
    array = [("ndim", ">i4"), ("has_null", ">i4"), ("oid", ">i4"), ("dim", ">i4"), ("base", ">i4")]
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    return np.dtype(
        [
            ("fields", ">i2"),
            ("l_obstime", ">i4"), ("obstime", ">i8"),
            ("l_geometry", ">i4"), ("geometry", ">i4"),
            ("l_scene", ">i4"), ("scene", ">i4"),
            ("l_imaged", ">i4"), ("imaged", ">i4"),
            ("l_clear", ">i4"), ("clear", ">i4"),
            ("l_dataset", ">i4"), ("dataset", ">i2"),
            ("l_product", ">i4"), ("product", ">i2"),
            ("l_rank", ">i4"), ("rank", ">i2"),
            ("l_stats", ">i4"), ("stats", [*array, ("elements", element, (values,))]),
            ("l_classes", ">i4"), ("classes", "u1", (CLASSES, 4)),
        ]
    )  # fmt: skip


def _pack_batch(rows: Slice, part: slice, layout: np.dtype[np.void]) -> memoryview:
    ids = rows.geometry_ids[part]
    out = np.zeros(len(ids), dtype=layout)
    out["fields"] = 10
    since = rows.obstime - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    for name, value in (
        ("obstime", micros),
        ("geometry", ids),
        ("scene", rows.scene_id),
        ("imaged", rows.px_imaged[part]),
        ("clear", rows.px_clear[part]),
        ("dataset", rows.dataset_id),
        ("product", rows.product_id),
        ("rank", rows.tile_rank[part]),
    ):
        out[f"l_{name}"] = layout[name].itemsize
        out[name] = value
    without = rows.px_clear[part] == 0
    _put_stats(out, rows.stats[part], without)
    classes = None if rows.class_counts is None else rows.class_counts[part]
    present = _put_classes(out, classes)
    return _drop(out, without, present)


def _put_stats(
    out: NDArray[np.void], stats: NDArray[np.float32], without: NDArray[np.bool_]
) -> None:
    field = out["stats"]
    out["l_stats"] = np.where(without, -1, field.dtype.itemsize)
    field["ndim"], field["oid"], field["base"] = 1, _FLOAT4_OID, 1
    field["dim"] = stats.shape[1]
    field["elements"]["length"] = 4
    # One bit pattern for "no value", whatever processor computed it: digests are of bytes.
    field["elements"]["value"] = np.where(np.isnan(stats), np.float32(np.nan), stats)


def _put_classes(out: NDArray[np.void], counts: NDArray[np.integer] | None) -> NDArray[np.bool_]:
    """Write the counts of the classes present and return which are: bool [n, 12]."""
    if counts is None:
        out["l_classes"] = -1
        return np.zeros((len(out), CLASSES), dtype=bool)
    if counts.size and counts.max() >= 1 << 24:
        raise CbmError(
            "parcel_too_large",
            f"A parcel has {counts.max()} pixels of one class; at most {(1 << 24) - 1} fit.",
            "Split the parcel: it is larger than any field.",
        )
    present = counts > 0
    out["l_classes"] = 4 * present.sum(axis=1)
    cells = out["classes"]
    cells[:, :, 0] = np.arange(CLASSES)
    for byte, shift in ((1, 16), (2, 8), (3, 0)):
        cells[:, :, byte] = (counts >> shift) & 0xFF
    return present


def _drop(
    out: NDArray[np.void], without_stats: NDArray[np.bool_], present: NDArray[np.bool_]
) -> memoryview:
    """Return the bytes of all rows but those of absent statistics and classes."""
    layout = out.dtype
    assert layout.fields is not None  # noqa: S101 - a structured dtype
    keep = np.ones((len(out), layout.itemsize), dtype=bool)
    start = layout.fields["stats"][1]
    keep[without_stats, start : start + layout["stats"].itemsize] = False
    keep[:, layout.fields["classes"][1] :] = np.repeat(present, 4, axis=1)
    return out.view(np.uint8).reshape(keep.shape)[keep].data
