"""Binary COPY: whole columns as bytes in PostgreSQL's own wire format.

Format: https://www.postgresql.org/docs/current/sql-copy.html, section "Binary Format". A field is
its length in four bytes and its value; all numbers are big-endian. The functions for columns of n
rows return lists of n pieces each, which stand side by side in every row.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_core.db import Cursor

Pieces = list[list[bytes]]

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = -1
_JSONB_VERSION = 1
# The head of a little-endian 2D MultiPolygon's WKB, and what follows it in PostGIS's extended WKB.
_WKB_HEAD = 5
_MULTIPOLYGON_WITH_SRID = 6 | 0x20000000


def int4(values: NDArray[np.integer]) -> Pieces:
    """Encode integers."""
    return [_items(len(values), length=(">i4", 4), value=(">i4", values))]


def boolean(values: NDArray[np.bool_]) -> Pieces:
    """Encode truth values."""
    return [_items(len(values), length=(">i4", 1), value=("u1", values))]


def float8(values: NDArray[np.float64]) -> Pieces:
    """Encode double precision numbers."""
    return [_items(len(values), length=(">i4", 8), value=(">f8", values))]


def raw(values: NDArray[np.void]) -> Pieces:
    """Encode byte strings of one length (dtype V) as bytea."""
    size = values.dtype.itemsize
    return [_items(len(values), length=(">i4", size), value=(f"V{size}", values))]


def text(values: pa.Array) -> Pieces:
    """Encode strings, null as NULL."""
    found = values.cast(pa.binary()).to_pylist()
    lengths = [_NULL if value is None else len(value) for value in found]
    return [_items(len(found), length=(">i4", lengths)), [value or b"" for value in found]]


def jsonb(values: pa.Array) -> Pieces:
    """Encode JSON texts, none of them null."""
    found = values.cast(pa.binary()).to_pylist()
    lengths = [len(value) + 1 for value in found]
    heads = _items(len(found), length=(">i4", lengths), version=("u1", _JSONB_VERSION))
    return [heads, found]


def multipolygons(wkb: Sequence[bytes], srid: int) -> Pieces:
    """Encode little-endian 2D MultiPolygons in WKB as geometries with an SRID."""
    heads = _items(
        len(wkb),
        length=(">i4", [len(value) + 4 for value in wkb]),
        order=("u1", 1),
        kind=("<u4", _MULTIPOLYGON_WITH_SRID),
        srid=("<u4", srid),
    )
    return [heads, [value[_WKB_HEAD:] for value in wkb]]


def _items(rows: int, **parts: tuple[str, object]) -> list[bytes]:
    """Return ``rows`` byte strings of one length, each of packed parts: (dtype, values)."""
    packed = np.empty(rows, dtype=[(name, dtype) for name, (dtype, _) in parts.items()])
    for name, (_, values) in parts.items():
        packed[name] = values
    items: list[bytes] = packed.view(f"V{packed.dtype.itemsize}").tolist()
    return items


def copy_columns(cursor: Cursor, table: sql.Identifier, columns: dict[str, Pieces]) -> None:
    """Copy rows given as columns of encoded fields into a table."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT binary)").format(
        table, sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    )
    prefix = repeat(struct.pack(">h", len(columns)))
    pieces = (piece for column in columns.values() for piece in column)
    rows = chain.from_iterable(zip(prefix, *pieces, strict=False))
    body = b"".join(chain((_HEADER,), rows, (_TRAILER,)))
    cursor.copy_expert(statement, io.BytesIO(body), 2**20)
