"""Stored slices, read back as they were written: a month of one product, scene by scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_extract.store.signatures import CLASSES, Slice

# Of what the server sends, before it is parsed.
_CHUNK_BYTES = 16_000_000
_HEADER_BYTES = 19
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_PADDING = "\\x" + "00" * 4 * CLASSES

# Absent statistics and classes are padded, so that all rows are equally long.
_QUERY = """
COPY (
  SELECT scene_id, obstime, geometry_id, px_imaged, px_clear, tile_rank,
         coalesce(stats, %(nothing)s::real[]), coalesce(length(class_counts), -1),
         substring(coalesce(class_counts, '') || %(padding)s::bytea FROM 1 FOR %(classes)s)
  FROM cbm.signature
  WHERE dataset_id = %(dataset)s AND product_id = %(product)s
    AND obstime >= %(start)s AND obstime < %(end)s
  ORDER BY scene_id, obstime, geometry_id
) TO STDOUT (FORMAT binary)"""


@dataclass(frozen=True)
class Month:
    """Where a month's rows of one product are; ``start`` is its first moment, UTC."""

    dataset_id: int
    product_id: int
    variables: int
    start: datetime

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return (self.start + timedelta(days=31)).replace(day=1)


def read_month(cursor: Cursor, month: Month, take: Callable[[Slice], None]) -> None:
    """Give every stored slice of a month to ``take``, in the order of scene ids.

    Memory is that of one slice, besides 16 MB.

    Raises:
        CbmError: ``signature_malformed`` when a row has not the length its product gives it.

    """
    query = cursor.mogrify(
        _QUERY,
        {
            "dataset": month.dataset_id, "product": month.product_id,
            "start": month.start, "end": month.end,
            "nothing": [float("nan")] * (8 * month.variables),
            "padding": _PADDING, "classes": 4 * CLASSES,
        },
    )  # fmt: skip
    assembler = _Assembler(month, take)
    stream = _Stream(_layout(month.variables), assembler.add)
    cursor.copy_expert(query, stream, size=1 << 20)
    stream.close()
    assembler.close()


def leaf(cursor: Cursor, month: Month) -> str:
    """Make the partition of a month if need be, and return its name."""
    cursor.execute(
        "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)",
        (month.dataset_id, month.start.date()),
    )
    return str(one_row(cursor)[0])


def months_of(cursor: Cursor, dataset_id: int) -> list[tuple[int, datetime]]:
    """Return the (product id, first moment of a month, UTC) that have rows, in order."""
    cursor.execute(
        """SELECT DISTINCT product_id, date_trunc('month', obstime AT TIME ZONE 'UTC')
           FROM cbm.signature WHERE dataset_id = %s ORDER BY 1, 2""",
        (dataset_id,),
    )
    return [(product, start.replace(tzinfo=UTC)) for product, start in cursor.fetchall()]


def _layout(variables: int) -> np.dtype[np.void]:
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    array = [("ndim", ">i4"), ("has_null", ">i4"), ("oid", ">i4"), ("dim", ">i4"), ("base", ">i4")]
    return np.dtype(
        [
            ("fields", ">i2"),
            ("l_scene", ">i4"), ("scene", ">i4"),
            ("l_obstime", ">i4"), ("obstime", ">i8"),
            ("l_geometry", ">i4"), ("geometry", ">i4"),
            ("l_imaged", ">i4"), ("imaged", ">i4"),
            ("l_clear", ">i4"), ("clear", ">i4"),
            ("l_rank", ">i4"), ("rank", ">i2"),
            ("l_stats", ">i4"), ("stats", [*array, ("elements", element, (8 * variables,))]),
            ("l_bytes", ">i4"), ("bytes", ">i4"),
            ("l_classes", ">i4"), ("classes", "u1", (CLASSES, 4)),
        ]
    )  # fmt: skip


class _Stream:
    """A file that takes COPY's bytes and gives whole rows on."""

    def __init__(self, layout: np.dtype[np.void], take: Callable[[NDArray[np.void]], None]) -> None:
        self._layout, self._take = layout, take
        self._buffer = bytearray()
        self._skip = _HEADER_BYTES

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) > _CHUNK_BYTES:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        rows = (len(self._buffer) - self._skip) // self._layout.itemsize
        end = self._skip + rows * self._layout.itemsize
        parsed = np.frombuffer(bytes(self._buffer[self._skip : end]), self._layout)
        if rows and (parsed["l_stats"] != self._layout["stats"].itemsize).any():
            raise self._malformed()
        del self._buffer[:end]
        self._skip = 0
        if rows:
            self._take(parsed)

    def close(self) -> None:
        self._flush()
        if bytes(self._buffer) != b"\xff\xff":
            raise self._malformed()

    @staticmethod
    def _malformed() -> CbmError:
        return CbmError(
            "signature_malformed",
            "Stored rows have not as many statistics as their product has variables.",
            "Run `cbm db check`; restore the month from a backup or extract it anew.",
        )


@dataclass
class _Assembler:
    """Puts the parts of slices together."""

    month: Month
    take: Callable[[Slice], None]
    parts: list[NDArray[np.void]] = field(default_factory=list)

    def add(self, rows: NDArray[np.void]) -> None:
        scene, time = rows["scene"], rows["obstime"]
        changes = np.flatnonzero((scene[1:] != scene[:-1]) | (time[1:] != time[:-1])) + 1
        for part in np.split(rows, changes):
            if self.parts and self._key(self.parts[0]) != self._key(part):
                self.close()
            self.parts.append(part)

    @staticmethod
    def _key(rows: NDArray[np.void]) -> tuple[int, int]:
        return int(rows["scene"][0]), int(rows["obstime"][0])

    def close(self) -> None:
        if self.parts:
            self.take(_slice(self.month, np.concatenate(self.parts)))
        self.parts = []


def _slice(month: Month, rows: NDArray[np.void]) -> Slice:
    has_classes = rows["bytes"] >= 0
    if has_classes.any() != has_classes.all():
        raise CbmError(
            "signature_malformed",
            f"Only some rows of scene {rows['scene'][0]} have class counts.",
            "Run `cbm db check`; restore the month from a backup or extract it anew.",
        )
    return Slice(
        obstime=_EPOCH + timedelta(microseconds=int(rows["obstime"][0])),
        scene_id=int(rows["scene"][0]),
        dataset_id=month.dataset_id,
        product_id=month.product_id,
        geometry_ids=rows["geometry"].astype(np.int32),
        px_imaged=rows["imaged"].astype(np.int32),
        px_clear=rows["clear"].astype(np.int32),
        tile_rank=rows["rank"].astype(np.int16),
        stats=rows["stats"]["elements"]["value"].astype(np.float32),
        class_counts=_classes(rows) if has_classes.all() else None,
    )


def _classes(rows: NDArray[np.void]) -> NDArray[np.int64]:
    cells = rows["classes"].astype(np.int64)
    values = cells[:, :, 1] << 16 | cells[:, :, 2] << 8 | cells[:, :, 3]
    counts = np.zeros((len(rows), CLASSES), dtype=np.int64)
    row, cell = np.nonzero(np.arange(CLASSES) < (rows["bytes"] // 4)[:, None])
    counts[row, cells[row, cell, 0]] = values[row, cell]
    return counts


def whole_digests(cursor: Cursor, dataset_id: int) -> dict[tuple[int, int], bytes]:
    """Return (product id, scene id) -> digest of slices that one run alone wrote: a full one."""
    cursor.execute(
        """SELECT product_id, scene_id, digest FROM (
             SELECT DISTINCT ON (product_id, scene_id) product_id, scene_id, scope, digest
             FROM cbm.run WHERE dataset_id = %s ORDER BY product_id, scene_id, id DESC) AS last
           WHERE scope = 'full'""",
        (dataset_id,),
    )
    return {(product, scene): bytes(found) for product, scene, found in cursor.fetchall()}
