"""Stored slices as the bytes that their digests are made of; ``signatures`` writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_core.db import Cursor, one_row
from cbm_extract.store import signatures

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


def stored_slice(cursor: Cursor, scene_id: int, dataset_id: int, product_id: int) -> StoredSlice:
    """Count and digest all rows of a slice."""
    digest = hashlib.sha256()
    rows = 0

    def take(row: bytes) -> None:
        nonlocal rows
        rows += 1
        digest.update(row)

    period = moment(cursor, scene_id)
    copy_rows(cursor, dataset_id, period, take, scene_ids=[scene_id], product_ids=[product_id])
    return StoredSlice(rows, digest.digest())


def moment(cursor: Cursor, scene_id: int) -> tuple[datetime, datetime]:
    """Return the period that holds a scene's rows and hardly any other."""
    cursor.execute("SELECT obstime FROM cbm.scene WHERE id = %s", (scene_id,))
    seen: datetime = one_row(cursor)[0]
    return seen, seen + timedelta(microseconds=1)


_COPY = sql.SQL("""
COPY (SELECT {columns} FROM cbm.signature
      WHERE dataset_id = {dataset} AND obstime >= {start} AND obstime < {end}
        AND ({scenes} IS NULL OR scene_id = ANY({scenes}))
        AND ({products} IS NULL OR product_id = ANY({products}))
      ORDER BY scene_id, product_id, geometry_id)
TO STDOUT (FORMAT binary)""")


def copy_rows(
    cursor: Cursor,
    dataset_id: int,
    period: tuple[datetime, datetime],
    take: Callable[[bytes], object],
    *,
    scene_ids: Sequence[int] | None = None,
    product_ids: Sequence[int] | None = None,
) -> None:
    """Hand on the rows of a period (end exclusive) in the order of scene, product and geometry."""
    query = _COPY.format(
        columns=signatures.COLUMNS,
        dataset=sql.Literal(dataset_id),
        start=sql.Literal(period[0]),
        end=sql.Literal(period[1]),
        scenes=_array(scene_ids, "integer"),
        products=_array(product_ids, "smallint"),
    )
    cursor.copy_expert(query, RowSink(take))


def _array(values: Sequence[int] | None, kind: str) -> sql.Composed:
    literal = sql.Literal(None if values is None else list(values))
    return sql.SQL("{}::{}[]").format(literal, sql.SQL(kind))


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


@dataclass(frozen=True)
class Share:
    """What a run wrote of a slice: geometries of parcel sets ``after`` (exclusive) to ``to``.

    ``filled`` are the geometries of a fill, None for others; they are no other run's.
    """

    after: int
    to: int
    filled: tuple[int, ...] | None


@dataclass(frozen=True)
class StoredRun(Share):
    """A run whose rows are stored now; ``plans`` and ``assets`` as in ``store.runs.Run``."""

    id: int
    rows: int
    digest: bytes
    plans: list[dict[str, Any]]
    assets: dict[str, dict[str, Any]]


AnyShare = TypeVar("AnyShare", bound=Share)


def append_live(runs: list[AnyShare], run: AnyShare, scope: str) -> None:
    """Append a slice's next run to those whose rows are stored: a full one wrote all anew."""
    if scope == "full":
        runs.clear()
    runs.append(run)


class Shares:
    """Which of a slice's runs wrote which rows."""

    def __init__(self, runs: Sequence[Share]) -> None:
        """Take the runs whose rows are stored, in their order."""
        self._runs = runs
        self._filled = {
            number: position for position, run in enumerate(runs) for number in run.filled or ()
        }

    def owner(self, geometry: int, parcel_set: int) -> int | None:
        """Return the position of the run that wrote a geometry which a parcel set introduced."""
        if geometry in self._filled:
            return self._filled[geometry]
        for position, run in enumerate(self._runs):
            if run.filled is None and run.after < parcel_set <= run.to:
                return position
        return None


@dataclass(frozen=True)
class Slot:
    """A scene under a product: what is stored of it is one slice.

    ``state`` is that of its work item (None without one), ``covers`` its newest parcel set.
    """

    scene_id: int
    scene: str
    obstime: datetime
    product_id: int
    product: str
    item_id: int | None
    state: str | None
    covers: int

    @property
    def key(self) -> tuple[int, int]:
        """What its rows have in common."""
        return self.scene_id, self.product_id


_SLOTS = """
SELECT s.id, rtrim(s.reference || ' ' || s.part), s.obstime, p.id,
       p.name || CASE WHEN p.revision > 1 THEN '@' || p.revision ELSE '' END,
       w.id, w.state, coalesce(w.parcel_set_id, 0)
FROM (SELECT scene_id, product_id FROM cbm.work_item
      WHERE dataset_id = %(dataset)s AND parcel_set_id > 0
      UNION SELECT scene_id, product_id FROM cbm.run WHERE dataset_id = %(dataset)s) o
JOIN cbm.scene s ON s.id = o.scene_id
JOIN cbm.product p ON p.id = o.product_id
LEFT JOIN cbm.work_item w ON w.dataset_id = %(dataset)s AND w.scene_id = s.id
  AND w.product_id = p.id
WHERE (%(products)s::smallint[] IS NULL OR p.id = ANY(%(products)s))
  AND (%(reference)s::text IS NULL OR s.reference = %(reference)s)
  AND (%(start)s::date IS NULL OR s.obstime >= %(start)s::timestamp AT TIME ZONE 'UTC')
  AND (%(after)s::date IS NULL OR s.obstime < %(after)s::timestamp AT TIME ZONE 'UTC')
ORDER BY s.obstime, s.id, p.name, p.revision"""


def slots(
    cursor: Cursor,
    dataset_id: int,
    *,
    product_ids: Sequence[int] | None = None,
    reference: str | None = None,
    start: date | None = None,
    end: date | None = None,
) -> list[Slot]:
    """Return what was extracted of a dataset; days are UTC, inclusive."""
    values = {
        "dataset": dataset_id,
        "products": None if product_ids is None else list(product_ids),
        "reference": reference,
        "start": start,
        "after": end + timedelta(days=1) if end else None,
    }
    cursor.execute(_SLOTS, values)
    return [Slot(*row) for row in cursor.fetchall()]


def live_runs(
    cursor: Cursor, dataset_id: int, scene_ids: Sequence[int]
) -> dict[tuple[int, int], list[StoredRun]]:
    """Return (scene, product) -> the runs whose rows are stored: the last full one and later."""
    cursor.execute(
        """SELECT scene_id, product_id, scope, id, parcel_set_from, parcel_set_to, rows, digest,
                  geometry_ids, plans, assets
           FROM cbm.run WHERE dataset_id = %s AND scene_id = ANY(%s) ORDER BY id""",
        (dataset_id, list(scene_ids)),
    )
    found: dict[tuple[int, int], list[StoredRun]] = {}
    for scene, product, scope, number, after, to, rows, digest, filled, *rest in cursor:
        ids = None if filled is None else tuple(filled)
        run = StoredRun(after, to, ids, number, rows, bytes(digest), *rest)
        append_live(found.setdefault((scene, product), []), run, scope)
    return found


def parcel_sets_of(cursor: Cursor, dataset_id: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return all geometries of a dataset, rising, and the parcel sets that introduced them."""
    cursor.execute(
        "SELECT id, parcel_set_id FROM cbm.parcel_geometry WHERE dataset_id = %s ORDER BY id",
        (dataset_id,),
    )
    table = np.array(cursor.fetchall(), dtype=np.int32).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def plan_hashes(cursor: Cursor, dataset_id: int) -> dict[tuple[int, str, float], str]:
    """Return (parcel set, lattice, buffer in m) -> content hash (hexadecimal) of stored plans."""
    cursor.execute(
        """SELECT parcel_set_id, lattice, buffer_m, encode(content_hash, 'hex') FROM cbm.plan
           WHERE dataset_id = %s""",
        (dataset_id,),
    )
    return {(parcels, lattice, buffer): found for parcels, lattice, buffer, found in cursor}
