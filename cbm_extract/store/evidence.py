"""Stored slices as the bytes that their digests are made of; ``signatures`` writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_core.db import Cursor
from cbm_extract.store import signatures
from cbm_extract.store.signatures import Slice

# PostgreSQL sends COPY data a row a message, the header before the first, the trailer as the last.
_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"


class RowSink:
    """A file for ``COPY ... TO STDOUT (FORMAT binary)`` that hands on each row's bytes."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        """``take`` is called with each row."""
        self._take = take
        self._begun = False

    def write(self, data: bytes) -> int:
        """Take a message of the server."""
        row = data
        if not self._begun:
            row, self._begun = data[_HEADER_BYTES:], True
        if row and row != _TRAILER:
            self._take(row)
        return len(data)


@dataclass(frozen=True)
class StoredSlice:
    """A slice in the database: number of rows and digest."""

    rows: int
    digest: bytes


def digest_of(rows: Slice) -> bytes:
    """Return the digest of a slice that is not stored yet."""
    digest = hashlib.sha256()
    for body in signatures.pack(rows):
        digest.update(body)
    return digest.digest()


def stored_slice(cursor: Cursor, scene_id: int, dataset_id: int, product_id: int) -> StoredSlice:
    """Count and digest all rows of a slice."""
    digest = hashlib.sha256()
    rows = 0

    def take(row: bytes) -> None:
        nonlocal rows
        rows += 1
        digest.update(row)

    copy_rows(cursor, dataset_id, [scene_id], [product_id], take)
    return StoredSlice(rows, digest.digest())


_COPY = sql.SQL("""
COPY (SELECT {columns} FROM cbm.signature
      WHERE dataset_id = {dataset} AND obstime = ANY({times}) AND scene_id = ANY({scenes})
        AND product_id = ANY({products})
      ORDER BY scene_id, product_id, geometry_id)
TO STDOUT (FORMAT binary)""")


def copy_rows(
    cursor: Cursor,
    dataset_id: int,
    scene_ids: list[int],
    product_ids: list[int],
    take: Callable[[bytes], object],
) -> None:
    """Hand on the stored rows of scenes, in the order of scene, product and geometry."""
    cursor.execute("SELECT DISTINCT obstime FROM cbm.scene WHERE id = ANY(%s)", (scene_ids,))
    times = [row[0] for row in cursor.fetchall()]
    query = _COPY.format(
        columns=signatures.COLUMNS,
        dataset=sql.Literal(dataset_id),
        times=sql.SQL("{}::timestamptz[]").format(sql.Literal(times)),
        scenes=sql.SQL("{}::integer[]").format(sql.Literal(scene_ids)),
        products=sql.SQL("{}::smallint[]").format(sql.Literal(product_ids)),
    )
    cursor.copy_expert(query, RowSink(take))


def stored_ids(
    cursor: Cursor, scene_id: int, dataset_id: int, product_id: int
) -> NDArray[np.int32]:
    """Return the geometries with a row, int32, rising."""
    cursor.execute(
        """SELECT s.geometry_id FROM cbm.signature s
           WHERE s.dataset_id = %(dataset)s AND s.product_id = %(product)s
             AND s.scene_id = %(scene)s
             AND s.obstime = (SELECT obstime FROM cbm.scene WHERE id = %(scene)s)
           ORDER BY s.geometry_id""",
        {"dataset": dataset_id, "scene": scene_id, "product": product_id},
    )
    return np.array([row[0] for row in cursor.fetchall()], dtype=np.int32)
