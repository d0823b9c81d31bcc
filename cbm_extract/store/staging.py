"""Rows of archived tables into a database that may hold some of them already.

Ids are kept where they are free. Rows that are there are known again by their natural key, and
what refers to them follows: each table gets a temporary one with the archived rows, and one of old
and new ids.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from psycopg2 import sql
from psycopg2.extras import Json, execute_values

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_extract.store.tables import (
    CRS,
    PRODUCT,
    SCENE,
    Column,
    Rows,
    Table,
    columns,
)


def stage(cursor: Cursor, table: Table, names: list[str], batches: Iterable[Rows]) -> None:
    """Put archived rows (columns ``names``) into a temporary table of the session.

    Raises:
        CbmError: ``archive_newer`` when the database lacks a column.

    """
    known = {column.name: column for column in columns(cursor, table)}
    lacking = [name for name in names if name not in known]
    if lacking:
        raise CbmError(
            "archive_newer",
            f"The archive has columns of {table.name} that the database lacks:"
            f" {', '.join(lacking)}.",
            "Run `cbm schema migrate` with the release that wrote the archive, or a newer one.",
        )
    fields = sql.SQL(", ").join(map(sql.Identifier, names))
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {} FROM cbm.{} WITH NO DATA").format(
            _staged(table), fields, sql.Identifier(table.name)
        )
    )
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(_staged(table), fields)
    found = [known[name] for name in names]
    for rows in batches:
        lines = "".join(
            "\t".join(_text(v, c) for v, c in zip(row, found, strict=True)) + "\n" for row in rows
        )
        cursor.copy_expert(copy, io.StringIO(lines))
    cursor.execute(sql.SQL("ANALYZE {}").format(_staged(table)))


def _text(value: Any, column: Column) -> str:
    """Write a value in COPY's text format."""
    if value is None:
        return "infinity" if column.open_ended else r"\N"
    if isinstance(value, bytes | memoryview):
        # bytea wants its prefix, PostGIS wants none.
        return ("" if column.is_geometry else r"\\x") + bytes(value).hex()
    if isinstance(value, list):
        value = "{" + ",".join(map(_element, value)) + "}"
    elif isinstance(value, date):
        value = value.isoformat()
    text = str(value).replace("\\", r"\\").replace("\t", r"\t")
    return text.replace("\n", r"\n").replace("\r", r"\r")


def _element(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", r"\\").replace('"', r"\"")
        return f'"{escaped}"'
    return "NULL" if value is None else str(value)


def match(cursor: Cursor, table: Table) -> None:
    """Find the rows that are there already: old and new ids."""
    if not table.has_id:
        return
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_ids(table)))
    cursor.execute(
        sql.SQL(
            """CREATE TEMPORARY TABLE {} AS
               SELECT a.id AS old, min(t.id) AS new FROM {} a JOIN cbm.{} t ON {} GROUP BY 1"""
        ).format(_ids(table), _staged(table), sql.Identifier(table.name), _same(table))
    )
    _finish_ids(cursor, table)


def match_parcels_by_hash(cursor: Cursor) -> None:
    """Know geometries of a dataset with other imports again by what they are.

    Raises:
        CbmError: ``archive_does_not_fit`` when the dataset lacks one.

    """
    cursor.execute(
        """INSERT INTO pg_temp.ids_parcel_geometry
           SELECT a.id, min(g.id) FROM pg_temp.archived_parcel_geometry a
           JOIN pg_temp.ids_dataset d ON d.old = a.dataset_id
           JOIN cbm.parcel_geometry g ON g.dataset_id = d.new AND g.hash = a.hash
           WHERE g.retired_at IS NULL
           GROUP BY 1
           ON CONFLICT DO NOTHING"""
    )
    cursor.execute(
        """SELECT count(*) FROM pg_temp.archived_parcel_geometry a
           WHERE NOT EXISTS (SELECT FROM pg_temp.ids_parcel_geometry m WHERE m.old = a.id)"""
    )
    lacking = one_row(cursor)[0]
    if lacking:
        raise CbmError(
            "archive_does_not_fit",
            f"The dataset is there with other parcels: it lacks {lacking} of the archived"
            " geometries.",
            "Restore into a database without the dataset, or import the archived parcels first.",
        )
    # A set that is not there counts as the newest whose geometries it or an older one brought.
    cursor.execute(
        """INSERT INTO pg_temp.ids_parcel_set
           SELECT s.id, max(g.parcel_set_id) FROM pg_temp.archived_parcel_set s
           JOIN pg_temp.archived_parcel_geometry a ON a.parcel_set_id <= s.id
           JOIN pg_temp.ids_parcel_geometry m ON m.old = a.id
           JOIN cbm.parcel_geometry g ON g.id = m.new
           GROUP BY 1
           ON CONFLICT DO NOTHING"""
    )


def insert_missing(cursor: Cursor, table: Table, names: list[str]) -> int:
    """Insert the archived rows that are not there, with their ids where all of these are free.

    Raises:
        CbmError: ``archive_does_not_fit`` when a number of a reference system means another.

    """
    absent = sql.SQL("FROM {} a WHERE {}").format(_staged(table), _absent(table))
    keep = True
    if table.has_id:
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT {} AND a.id IN (SELECT id FROM cbm.{}))").format(
                absent, sql.Identifier(table.name)
            )
        )
        keep = not one_row(cursor)[0]
    if not keep and table is CRS:
        raise CbmError(
            "archive_does_not_fit",
            "A coordinate reference system of the archive has a number that means another here.",
            "Restore into a fresh database.",
        )
    used = [name for name in names if keep or name != "id"]
    cursor.execute(
        sql.SQL("INSERT INTO cbm.{} ({}) {} SELECT {} {} {}").format(
            sql.Identifier(table.name),
            sql.SQL(", ").join(map(sql.Identifier, used)),
            sql.SQL("OVERRIDING SYSTEM VALUE" if table.has_id and keep else ""),
            sql.SQL(", ").join(_inserted(table, name) for name in used),
            absent,
            sql.SQL("ORDER BY a.id" if table.has_id else ""),
        )
    )
    count = cursor.rowcount
    if count and table.has_id and table is not CRS:
        cursor.execute(
            sql.SQL(
                "SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT max(id) FROM cbm.{}))"
            ).format(sql.Identifier(table.name)),
            (f"cbm.{table.name}",),
        )
    match(cursor, table)
    return count


def link_superseded(cursor: Cursor) -> None:
    """Let restored scenes name what superseded them, as far as it is archived."""
    cursor.execute(
        """UPDATE cbm.scene s SET superseded_by = by.new
           FROM pg_temp.archived_scene a
           JOIN pg_temp.ids_scene own ON own.old = a.id
           JOIN pg_temp.ids_scene by ON by.old = a.superseded_by
           WHERE s.id = own.new AND s.state = 'superseded' AND s.superseded_by IS NULL"""
    )


def move_runs(cursor: Cursor, runs: Iterable[tuple[int, bytes, Sequence[int] | None]]) -> None:
    """Let archived runs (id, digest, geometries) say what they wrote under the ids it has here.

    Where geometries (archived ids, rising) are given, the run wrote these, as one that fills a gap.
    Plans are not mentioned any more: their contents are of ids.
    """
    execute_values(
        cursor,
        """UPDATE pg_temp.archived_run a SET digest = v.digest, plans = '[]',
             geometry_ids = coalesce(v.ids::integer[], a.geometry_ids),
             scope = CASE WHEN v.ids IS NULL THEN a.scope ELSE 'fill' END
           FROM (VALUES %s) AS v (id, digest, ids) WHERE a.id = v.id""",
        [
            (number, digest, None if ids is None else _text_array(ids))
            for number, digest, ids in runs
        ],
    )


def _text_array(ids: Sequence[int]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


def reopen_items(cursor: Cursor) -> None:
    """Let archived items that were not done start anew: no worker holds them here."""
    cursor.execute(
        """UPDATE pg_temp.archived_work_item
           SET state = 'pending', token = NULL, worker = NULL, lease_until = NULL, attempts = 0,
               next_scope = NULL, finished_at = NULL
           WHERE state <> 'done'"""
    )


def audit(cursor: Cursor, rows: dict[str, int]) -> None:
    """Write down what was restored: rows by table."""
    cursor.execute(
        """INSERT INTO cbm.audit (action, detail)
           SELECT 'signatures restore',
                  %s::jsonb || jsonb_build_object('dataset', aoi || ':' || year)
           FROM pg_temp.archived_dataset""",
        (Json(rows),),
    )


def ids(cursor: Cursor, table: Table) -> dict[int, int]:
    """Return old -> new ids of a table's archived rows."""
    cursor.execute(sql.SQL("SELECT old, new FROM {}").format(_ids(table)))
    return dict(cursor.fetchall())


def _staged(table: Table) -> sql.Composable:
    return sql.Identifier("pg_temp", f"archived_{table.name}")


def _ids(table: Table) -> sql.Composable:
    return sql.Identifier("pg_temp", f"ids_{table.name}")


def _finish_ids(cursor: Cursor, table: Table) -> None:
    cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (old)").format(_ids(table)))
    cursor.execute(sql.SQL("ANALYZE {}").format(_ids(table)))


def _value(table: Table, name: str) -> sql.Composable:
    """Return a column's value as it is to be here: references by their new ids."""
    column = sql.SQL("a.{}").format(sql.Identifier(name))
    referred = table.references.get(name)
    if referred is None:
        return column
    # 0 stands for no parcel set.
    return sql.SQL("coalesce((SELECT m.new FROM {} m WHERE m.old = {}), {})").format(
        sql.Identifier("pg_temp", f"ids_{referred}"), column, column
    )


def _inserted(table: Table, name: str) -> sql.Composable:
    if table is SCENE and name == "superseded_by":
        return sql.SQL("NULL")
    if table is PRODUCT and name == "revision":
        # The revision may be another definition's here.
        return sql.SQL(
            """(CASE WHEN EXISTS (SELECT FROM cbm.product o
                                  WHERE o.name = a.name AND o.revision = a.revision)
                THEN (SELECT max(o.revision) FROM cbm.product o WHERE o.name = a.name) + a.revision
                ELSE a.revision END)"""
        )
    if name == "geometry_ids":
        return sql.SQL(
            """(CASE WHEN a.geometry_ids IS NOT NULL THEN array(
                  SELECT m.new FROM pg_temp.ids_parcel_geometry m
                  WHERE m.old = ANY (a.geometry_ids) ORDER BY 1) END)"""
        )
    return _value(table, name)


def _same(table: Table) -> sql.Composable:
    """Return the condition that t is the row a; only purged_at may be absent."""
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} IS NULL" if name == "purged_at" else "t.{} = {}").format(
            *(
                [sql.Identifier(name)]
                if name == "purged_at"
                else [sql.Identifier(name), _value(table, name)]
            )
        )
        for name in table.key
    )


def _absent(table: Table) -> sql.Composable:
    if table.has_id:
        return sql.SQL("NOT EXISTS (SELECT FROM {} m WHERE m.old = a.id)").format(_ids(table))
    return sql.SQL("NOT EXISTS (SELECT FROM cbm.{} t WHERE {})").format(
        sql.Identifier(table.name), _same(table)
    )
