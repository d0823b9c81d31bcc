"""Binary COPY: rows as bytes in PostgreSQL's own wire format, in batches of bounded size.

Format: https://www.postgresql.org/docs/current/sql-copy.html, section "Binary Format".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from psycopg2 import sql

from cbm_core.db import Cursor

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_JSONB_VERSION = b"\x01"
_ROWS = 8192

_pack_int = struct.Struct(">ii").pack
_pack_double = struct.Struct(">id").pack
_pack_length = struct.Struct(">i").pack


def int4(value: int) -> bytes:
    """Encode an integer field."""
    return _pack_int(4, value)


def float8(value: float) -> bytes:
    """Encode a double precision field."""
    return _pack_double(8, value)


def raw(value: bytes) -> bytes:
    """Encode a bytea field, or a geometry as (extended) WKB."""
    return _pack_length(len(value)) + value


def text(value: str | None) -> bytes:
    """Encode a text field, None as NULL."""
    return _NULL if value is None else raw(value.encode())


def jsonb(value: str) -> bytes:
    """Encode a jsonb field from JSON text."""
    return raw(_JSONB_VERSION + value.encode())


def copy_rows(
    cursor: Cursor,
    table: sql.Identifier,
    columns: Sequence[str],
    rows: Iterable[Sequence[bytes]],
    done: Callable[[int], None],
) -> int:
    """Copy rows of encoded fields; return how many. ``done`` hears of each batch."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT binary)").format(
        table, sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    )
    prefix = struct.pack(">h", len(columns))
    source = iter(rows)
    total = 0
    while batch := list(islice(source, _ROWS)):
        body = b"".join(prefix + b"".join(fields) for fields in batch)
        cursor.copy_expert(statement, io.BytesIO(_HEADER + body + _TRAILER))
        total += len(batch)
        done(len(batch))
    return total
