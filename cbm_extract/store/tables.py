"""The tables a dataset consists of beside its signatures, and their rows as an archive keeps them.

Columns are taken from the database itself, so that one of a later release is not forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from cbm_core.db import Connection, Cursor

Rows = list[tuple[Any, ...]]

_BATCH = 5_000


@dataclass(frozen=True, eq=False)
class Table:
    """A table of an archive.

    ``rows`` is the condition for the rows of the dataset ``%(dataset)s``. ``key`` are the columns
    by which a row is known again; ``references`` maps columns to the tables whose ids they hold.
    ``own`` rows come with the dataset alone: they are not added to one that exists.
    """

    name: str
    rows: str
    key: tuple[str, ...]
    references: dict[str, str] = field(default_factory=dict)
    has_id: bool = True
    own: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its name, PostgreSQL's name of its type, and whether NULL is refused."""

    name: str
    type: str
    not_null: bool

    @property
    def is_geometry(self) -> bool:
        """Whether it holds geometries."""
        return self.type.startswith("geometry")

    @property
    def geographic(self) -> bool:
        """Whether all its geometries are in EPSG:4326."""
        return self.is_geometry and self.type.endswith(",4326)")

    @property
    def open_ended(self) -> bool:
        """Whether an absent value stands for infinity."""
        return self.not_null and self.type in {"date", "timestamp with time zone"}


_MINE = "dataset_id = %(dataset)s"
_USED = """id IN (SELECT {0} FROM cbm.run WHERE dataset_id = %(dataset)s
                  UNION SELECT {0} FROM cbm.work_item WHERE dataset_id = %(dataset)s)"""
_SETS = "id IN (SELECT crs_id FROM cbm.parcel_set WHERE dataset_id = %(dataset)s)"
_DATASET = {"dataset_id": "dataset"}
_GEOMETRY = {**_DATASET, "geometry_id": "parcel_geometry"}
_SLICE = {**_DATASET, "scene_id": "scene", "product_id": "product"}
_SLICE_KEY = ("scene_id", "dataset_id", "product_id")

DATASET = Table("dataset", "id = %(dataset)s", ("aoi", "year", "purged_at"))
CRS = Table("crs", _SETS, ("definition",))
PARCEL_SET = Table(
    "parcel_set", _MINE, ("dataset_id", "layer", "checksum", "imported_at"),
    {**_DATASET, "crs_id": "crs"}, own=True,
)  # fmt: skip
GEOMETRY = Table(
    "parcel_geometry", _MINE, ("dataset_id", "parcel_set_id", "hash"),
    {**_DATASET, "parcel_set_id": "parcel_set"}, own=True,
)  # fmt: skip
PARCEL = Table(
    "parcel", _MINE, ("dataset_id", "layer", "pid", "valid_from", "known_from"),
    {**_GEOMETRY, "parcel_set_id": "parcel_set"}, own=True,
)  # fmt: skip
PRODUCT = Table("product", _USED.format("product_id"), ("name", "hash"))
SCENE = Table(
    "scene", _USED.format("scene_id"), ("card", "reference", "part"), {"superseded_by": "scene"}
)
MONITORABILITY = Table(
    "monitorability", _MINE, ("geometry_id", "lattice", "buffer_m"), _GEOMETRY,
    has_id=False, own=True,
)  # fmt: skip
_RUN_REFERENCES = {**_SLICE, "parcel_set_from": "parcel_set", "parcel_set_to": "parcel_set"}
RUN = Table("run", _MINE, (*_SLICE_KEY, "token", "finished_at"), _RUN_REFERENCES)
ARCHIVED = Table(
    "signature_archived", _MINE, ("run_id", "geometry_id"),
    {**_GEOMETRY, **_SLICE, "run_id": "run"}, has_id=False,
)  # fmt: skip
WORK_ITEM = Table("work_item", _MINE, _SLICE_KEY, {**_SLICE, "parcel_set_id": "parcel_set"})

# What must be there before rows are stored, in this order; then what vouches for them.
GROUND = (DATASET, CRS, PARCEL_SET, GEOMETRY, PARCEL, PRODUCT, SCENE, MONITORABILITY)
EVIDENCE = (RUN, ARCHIVED, WORK_ITEM)
TABLES = (*GROUND, *EVIDENCE)


def columns(cursor: Cursor, table: Table) -> list[Column]:
    """Return a table's columns in order, without those the server computes."""
    cursor.execute(
        """SELECT attname, format_type(atttypid, atttypmod), attnotnull
           FROM pg_attribute
           WHERE attrelid = format('cbm.%%I', %s::text)::regclass AND attnum > 0
             AND NOT attisdropped AND attgenerated = ''
           ORDER BY attnum""",
        (table.name,),
    )
    return [Column(*row) for row in cursor.fetchall()]


def read(connection: Connection, table: Table, dataset_id: int) -> Iterator[Rows]:
    """Yield the dataset's rows in batches, in the order of their ids or keys.

    Geometries in degrees come as WKB, others as EWKB, JSON as text, infinite dates as None.
    """
    with connection.cursor() as cursor:
        found = columns(cursor, table)
    query = sql.SQL("SELECT {} FROM cbm.{} WHERE {} ORDER BY {}").format(
        sql.SQL(", ").join(map(_readable, found)),
        sql.Identifier(table.name),
        sql.SQL(table.rows),
        sql.SQL(", ").join(map(sql.Identifier, ("id",) if table.has_id else table.key)),
    )
    with connection.cursor(f"read_{table.name}") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(query, {"dataset": dataset_id})
        while rows := cursor.fetchmany(_BATCH):
            yield rows


def _readable(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    if column.geographic:
        return sql.SQL("ST_AsBinary({})").format(name)
    if column.is_geometry:
        return sql.SQL("ST_AsEWKB({})").format(name)
    if column.type == "jsonb":
        return sql.SQL("{}::text").format(name)
    if column.type in {"date", "timestamp with time zone"}:
        return sql.SQL("CASE WHEN isfinite({0}) THEN {0} END").format(name)
    return name
