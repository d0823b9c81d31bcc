"""Plans in the database: parcel sets as rasterised on lattices, made once and used for ever.

A plan holds all geometries that its parcel set introduced, retired since or not, so that its
content depends on nothing but the parcel set, the lattice and the buffer; the retired ones are left
out when it is loaded.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg2 import Binary, sql

from cbm_core import __version__
from cbm_core.db import Cursor, one_row
from cbm_extract.plan.chunk import PlanChunk
from cbm_extract.plan.pipeline import Pipeline

Bounds = tuple[float, float, float, float]

_COPY_HEADER_BYTES = 19


@dataclass(frozen=True)
class ParcelSet:
    """A parcel set with active geometries.

    ``crs`` (anything pyproj reads) is that of ``geom_src``; ``allow_ballpark`` tells that its
    import accepted transformations that ignore the difference of the datums.
    """

    id: int
    crs: str
    allow_ballpark: bool


@dataclass(frozen=True)
class StoredPlan:
    """A plan's row, without its chunks."""

    id: int
    parcel_set_id: int
    lattice: str
    buffer_m: float
    content_hash: bytes


@dataclass(frozen=True)
class PackedChunk:
    """A chunk as it is stored: a third of what it takes in memory."""

    lattice: str
    buffer_m: float
    geometries: int
    bounds: tuple[int, int, int, int]
    content_hash: bytes
    payload: bytes

    @classmethod
    def of(cls, chunk: PlanChunk) -> PackedChunk:
        """Pack a chunk."""
        return cls(
            chunk.lattice.key,
            chunk.buffer_m,
            len(chunk.geometry_ids),
            chunk.bounds,
            chunk.content_hash,
            chunk.to_bytes(),
        )


def parcel_sets(
    cursor: Cursor, dataset_id: int, after: int, *, retired: bool = False
) -> list[ParcelSet]:
    """Return a dataset's parcel sets newer than ``after`` that have active geometries.

    With ``retired`` those as well of whose geometries none is active any more.
    """
    # In the order of an index, so that one entry of it answers for each parcel set.
    some = "true" if retired else "g.dataset_id = p.dataset_id AND g.retired_at IS NULL"
    cursor.execute(
        sql.SQL(
            """SELECT p.id, c.definition, coalesce((p.options ->> 'allow_ballpark')::boolean, false)
               FROM cbm.parcel_set p JOIN cbm.crs c ON c.id = p.crs_id
               CROSS JOIN LATERAL (
                 SELECT g.parcel_set_id FROM cbm.parcel_geometry g
                 WHERE g.parcel_set_id >= p.id AND {} ORDER BY g.parcel_set_id LIMIT 1) AS next
               WHERE p.dataset_id = %s AND p.id > %s AND next.parcel_set_id = p.id
               ORDER BY p.id"""
        ).format(sql.SQL(some)),
        (dataset_id, after),
    )
    return [ParcelSet(*row) for row in cursor.fetchall()]


def area(cursor: Cursor, parcel_set_id: int) -> Bounds:
    """Return (west, south, east, north) in degrees of all geometries of a parcel set.

    West is greater than east where that is the narrower box: parcels on both sides of the
    antimeridian.
    """
    cursor.execute(
        """SELECT min(ST_XMin(geom)), min(ST_YMin(geom)), max(ST_XMax(geom)), max(ST_YMax(geom)),
                  min(ST_XMin(geom)) FILTER (WHERE ST_XMin(geom) >= 0),
                  max(ST_XMax(geom)) FILTER (WHERE ST_XMax(geom) < 0)
           FROM cbm.parcel_geometry WHERE parcel_set_id = %s""",
        (parcel_set_id,),
    )
    west, south, east, north, eastern_west, western_east = one_row(cursor)
    if east - west > 180 and eastern_west is not None and western_east is not None:
        return eastern_west, south, western_east, north
    return west, south, east, north


def geometries(
    cursor: Cursor, parcel_set_id: int, after: int, limit: int
) -> tuple[NDArray[np.int32], list[bytes]]:
    """Return ids (int32, rising, > ``after``) and WKB in the legal CRS of a parcel set."""
    query = cursor.mogrify(
        """COPY (SELECT id, ST_AsBinary(geom_src) FROM cbm.parcel_geometry
                 WHERE parcel_set_id = %s AND id > %s ORDER BY id LIMIT %s)
           TO STDOUT (FORMAT binary)""",
        (parcel_set_id, after, limit),
    )
    out = io.BytesIO()
    cursor.copy_expert(query, out)
    return _parse(out.getbuffer())


def _parse(data: memoryview) -> tuple[NDArray[np.int32], list[bytes]]:
    """Read binary COPY rows of (integer, bytea)."""
    head = struct.Struct(">hiii")  # number of fields, 4, the id, length of the geometry
    ids, shapes = [], []
    at = _COPY_HEADER_BYTES
    while at < len(data) - 2:  # the trailer has two bytes
        _, _, number, length = head.unpack_from(data, at)
        at += head.size
        ids.append(number)
        shapes.append(bytes(data[at : at + length]))
        at += length
    return np.array(ids, dtype=np.int32), shapes


def find(cursor: Cursor, parcel_set_id: int, lattice: str, buffer_m: float) -> StoredPlan | None:
    """Return the stored plan of a parcel set on a lattice, None where there is none yet."""
    cursor.execute(
        """SELECT id, parcel_set_id, lattice, buffer_m, content_hash FROM cbm.plan
           WHERE parcel_set_id = %s AND lattice = %s AND buffer_m = %s::real""",
        (parcel_set_id, lattice, buffer_m),
    )
    row = cursor.fetchone()
    return StoredPlan(row[0], row[1], row[2], row[3], bytes(row[4])) if row else None


def save(
    cursor: Cursor,
    dataset_id: int,
    parcel_set_id: int,
    pipeline: Pipeline,
    chunks: Sequence[PackedChunk],
) -> bool:
    """Store a plan with its chunks and how well each geometry is seen; False if it was there.

    Two workers that made the same plan at once are no trouble: one waits for the other and stores
    nothing.
    """
    lattice, buffer_m = chunks[0].lattice, chunks[0].buffer_m
    cursor.execute(
        """INSERT INTO cbm.plan (dataset_id, parcel_set_id, lattice, buffer_m, pipeline,
             pipeline_accuracy_m, geometries, content_hash, software_version)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (parcel_set_id, lattice, buffer_m) DO NOTHING RETURNING id""",
        (
            dataset_id,
            parcel_set_id,
            lattice,
            buffer_m,
            pipeline.definition,
            pipeline.accuracy_m,
            sum(chunk.geometries for chunk in chunks),
            hashlib.sha256(b"".join(chunk.content_hash for chunk in chunks)).digest(),
            __version__,
        ),
    )
    row = cursor.fetchone()
    if row is None:
        return False
    for number, chunk in enumerate(chunks):
        _save_chunk(cursor, int(row[0]), number, chunk)
        _save_monitorability(cursor, dataset_id, lattice, PlanChunk.from_bytes(chunk.payload))
    return True


def _save_chunk(cursor: Cursor, plan_id: int, number: int, chunk: PackedChunk) -> None:
    row_min, col_min, row_max, col_max = chunk.bounds
    cursor.execute(
        """INSERT INTO cbm.plan_chunk (plan_id, chunk, row_min, row_max, col_min, col_max, payload)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (plan_id, number, row_min, row_max, col_min, col_max, Binary(chunk.payload)),
    )


def _save_monitorability(cursor: Cursor, dataset_id: int, lattice: str, chunk: PlanChunk) -> None:
    cursor.execute(
        """INSERT INTO cbm.monitorability (geometry_id, lattice, buffer_m, dataset_id, pixels,
             whole_pixels, pixels_planned, width_m, code)
           SELECT id, %s, %s, %s, pixels, whole_pixels, pixels_planned, width_m, code
           FROM unnest(%s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::real[],
                       %s::text[])
             AS m (id, pixels, whole_pixels, pixels_planned, width_m, code)""",
        (
            lattice,
            chunk.buffer_m,
            dataset_id,
            chunk.geometry_ids.tolist(),
            chunk.pixels.tolist(),
            chunk.whole_pixels.tolist(),
            chunk.pixels_planned.tolist(),
            chunk.width_m.tolist(),
            chunk.codes(),
        ),
    )


def chunks_in(
    cursor: Cursor, plan_id: int, rows: tuple[int, int], cols: tuple[int, int]
) -> Iterator[PlanChunk]:
    """Yield the chunks of a plan that may have a pixel in a window, one in memory at a time.

    ``rows`` and ``cols`` are (first, one past the last) in absolute indices of the lattice.
    """
    cursor.execute(
        """SELECT chunk FROM cbm.plan_chunk
           WHERE plan_id = %s AND row_max >= %s AND row_min < %s AND col_max >= %s AND col_min < %s
             AND row_max >= row_min
           ORDER BY chunk""",
        (plan_id, *rows, *cols),
    )
    for (number,) in cursor.fetchall():
        cursor.execute(
            "SELECT payload FROM cbm.plan_chunk WHERE plan_id = %s AND chunk = %s",
            (plan_id, number),
        )
        yield PlanChunk.from_bytes(one_row(cursor)[0])


def retired(cursor: Cursor, parcel_set_id: int) -> NDArray[np.int32]:
    """Return the ids of a parcel set's geometries that are no longer active, int32, rising."""
    cursor.execute(
        """SELECT id FROM cbm.parcel_geometry
           WHERE parcel_set_id = %s AND retired_at IS NOT NULL ORDER BY id""",
        (parcel_set_id,),
    )
    return np.array([row[0] for row in cursor.fetchall()], dtype=np.int32)
