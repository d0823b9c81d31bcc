"""Months of signatures: how large they are, which are due to be put in parcel order, doing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg2.errors

from cbm_core.db import Connection, Cursor, one_row, transaction

QUIET = timedelta(days=30)
DISORDER = 0.2

_MONTHS = r"""
SELECT d.id, d.aoi || ':' || d.year, to_date(right(leaf.relname, 6), 'YYYYMM'),
       greatest(leaf.reltuples, 0)::bigint, pg_table_size(leaf.oid), pg_indexes_size(leaf.oid),
       s.compacted_at, r.last_run, coalesce(r.variables, 1)::double precision
FROM pg_inherits root
JOIN pg_class parent ON parent.oid = root.inhrelid
JOIN pg_inherits months ON months.inhparent = parent.oid
JOIN pg_inherits leaves ON leaves.inhparent = months.inhrelid
JOIN pg_class leaf ON leaf.oid = leaves.inhrelid
JOIN cbm.dataset d ON parent.relname = 'signature_d' || d.id
LEFT JOIN cbm.signature_partition_state s
  ON s.dataset_id = d.id AND s.month = to_date(right(leaf.relname, 6), 'YYYYMM')
LEFT JOIN (
  SELECT r.dataset_id, date_trunc('month', sc.obstime AT TIME ZONE 'UTC')::date AS month,
         max(r.finished_at) AS last_run,
         sum(r.rows * cardinality(p.variables)::numeric) / sum(r.rows) AS variables
  FROM cbm.run r
  JOIN cbm.scene sc ON sc.id = r.scene_id
  JOIN cbm.product p ON p.id = r.product_id
  WHERE r.rows > 0
  GROUP BY 1, 2
) r ON r.dataset_id = d.id AND r.month = to_date(right(leaf.relname, 6), 'YYYYMM')
WHERE root.inhparent = 'cbm.signature'::regclass
  AND (%(dataset)s::integer IS NULL OR d.id = %(dataset)s)
ORDER BY d.aoi, d.year, leaf.relname"""


@dataclass(frozen=True)
class Month:
    """A month (UTC) of a dataset's signatures.

    ``rows`` as the server last counted; sizes in bytes. ``variables`` is the mean number of bands
    and indices in a row, so that ``rows * variables`` are band-rows.
    """

    dataset_id: int
    dataset: str
    month: date
    rows: int
    heap_bytes: int
    index_bytes: int
    compacted_at: datetime | None
    last_run: datetime | None
    variables: float

    @property
    def name(self) -> str:
        """The month as people call it."""
        return f"{self.dataset} {self.month:%Y-%m}"

    @property
    def changed(self) -> bool:
        """Whether rows came since it was last put in order."""
        if self.compacted_at is None:
            return True
        return self.last_run is not None and self.last_run > self.compacted_at

    @property
    def bytes_per_band_row(self) -> float | None:
        """Heap and index over band-rows, None without rows."""
        band_rows = self.rows * self.variables
        return (self.heap_bytes + self.index_bytes) / band_rows if band_rows else None


@dataclass(frozen=True)
class Due:
    """A month to be put in parcel order, and why."""

    month: Month
    reason: str


def months(cursor: Cursor, dataset_id: int | None = None) -> list[Month]:
    """Return the months of one dataset, or of all, by dataset and month."""
    cursor.execute(_MONTHS, {"dataset": dataset_id})
    return [Month(*row) for row in cursor.fetchall()]


def disorder(cursor: Cursor, month: Month) -> float | None:
    """Return the share (0-1) of a month's heap that is out of parcel order, None without rows.

    Of up to a thousand blocks, as they lie on disk, the share that stands outside the longest
    series of rising geometry ids.
    """
    cursor.execute(
        "SELECT cbm.signature_disorder(%s::smallint, %s)", (month.dataset_id, month.month)
    )
    value = one_row(cursor)[0]
    return None if value is None else float(value)


def plan(cursor: Cursor, dataset_id: int | None, now: datetime | None = None) -> list[Due]:
    """Return the months that are due, and why; changes nothing.

    A month is due when rows came since it was last put in order, they lie out of order, and either
    no run has written to it for 30 days or a fifth of it is out of order.
    """
    found = []
    moment = now or datetime.now(UTC)
    for month in months(cursor, dataset_id):
        share = disorder(cursor, month) if month.changed else None
        if not share:
            continue
        if share >= DISORDER:
            found.append(Due(month, f"{share:.0%} out of order"))
        elif month.last_run is None or moment - month.last_run >= QUIET:
            found.append(Due(month, f"quiet for {QUIET.days} days"))
    return found


def compact(connection: Connection, dataset_id: int, month: date) -> bool:
    """Put a month in parcel order in a transaction of its own; False when it is busy.

    Busy means that somebody compacts it already, has it open for long, or changed it meanwhile;
    then nothing was done. Readers wait at most for the moment of the exchange.
    """
    try:
        with transaction(connection) as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute(
                "SELECT cbm.compact_signature_partition(%s::smallint, %s)", (dataset_id, month)
            )
    except psycopg2.errors.LockNotAvailable:
        return False
    return True


def compact_due(
    connection: Connection, due: list[Due], done: Callable[[], None]
) -> tuple[list[Due], list[Due]]:
    """Compact what is due, calling ``done`` after each; return the compacted and the busy."""
    compacted: list[Due] = []
    busy: list[Due] = []
    for one in due:
        free = compact(connection, one.month.dataset_id, one.month.month)
        (compacted if free else busy).append(one)
        done()
    return compacted, busy
