"""What takes how much space."""

from __future__ import annotations

from dataclasses import dataclass

from cbm_core.db import Cursor, one_row


@dataclass(frozen=True)
class Table:
    """A table beside the signatures: rows as the server last counted, bytes with its indexes."""

    name: str
    rows: int
    bytes: int


def tables(cursor: Cursor) -> list[Table]:
    """Return the tables of the schema that are no partitions, the largest first."""
    cursor.execute(
        """SELECT relname, greatest(reltuples, 0)::bigint, pg_total_relation_size(oid)
           FROM pg_class
           WHERE relnamespace = 'cbm'::regnamespace AND relkind = 'r' AND NOT relispartition
           ORDER BY 3 DESC, 1"""
    )
    return [Table(*row) for row in cursor.fetchall()]


def database_bytes(cursor: Cursor) -> int:
    """Return the size of the whole database."""
    cursor.execute("SELECT pg_database_size(current_database())")
    return int(one_row(cursor)[0])


def human(size: float) -> str:
    """Write bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
