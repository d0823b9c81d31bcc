"""The catalogue of scenes in the database: read in bulk, changed as a plan says, listed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from psycopg2 import sql
from psycopg2.extras import Json, execute_values

from cbm_core.db import Cursor
from cbm_extract.catalogue import identity, register
from cbm_extract.catalogue.register import Key, Known, RegisterPlan, StateChange, key_of
from cbm_extract.scene import BandAsset, Extent, Scene

_PAGE = 500  # rows per statement

_FIELDS = (
    "reference, part, card, platform, obstime, datatake_start, tile, datastrip, orbit_direction,"
    " relative_orbit, absolute_orbit, incidence_angle, baseline, generation_time, cloud_percent,"
    " reference_time, perpendicular_baseline, extent_crs, extent_bounds, assets, source"
)
_SELECT = sql.SQL(
    "SELECT id, state, superseded_by, ST_AsBinary(footprint, 'NDR'), {fields} FROM cbm.scene "
).format(fields=sql.SQL(_FIELDS))
_BY_NAME = sql.SQL(
    "WHERE (card, reference, part) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))"
)
_BY_ID = sql.SQL("WHERE id = ANY(%s)")
_BY_ACQUISITION = sql.SQL(
    "WHERE (card, platform, datatake_start, tile, part) IN (SELECT * FROM"
    " unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::text[]))"
)
_INSERT = (
    f"INSERT INTO cbm.scene ({_FIELDS}, footprint) VALUES %s"  # noqa: S608 constant
    " RETURNING card, reference, part, id"
)
_ROW = f"({', '.join(['%s'] * len(_FIELDS.split(',')))}, ST_GeomFromWKB(%s, 4326))"
_UPDATE = f"UPDATE cbm.scene SET ({_FIELDS}, footprint) = {_ROW} WHERE id = %s"  # noqa: S608 constant


def lock(cursor: Cursor) -> None:
    """Keep others from changing scenes until the transaction ends; reading goes on."""
    cursor.execute("LOCK TABLE cbm.scene IN SHARE ROW EXCLUSIVE MODE")


def concerned(cursor: Cursor, scenes: Sequence[Scene]) -> list[Known]:
    """Return the catalogued scenes of the same names, and all of the acquisitions concerned."""
    keys = [key_of(scene) for scene in scenes]
    named = _load(cursor, _BY_NAME, keys, width=3)
    looks = {identity.acquisition(scene) for scene in scenes}
    # A scene that moves to another acquisition may free a place in the one it leaves.
    looks |= {identity.acquisition(entry.scene) for entry in named}
    found = {entry.id: entry for entry in named}
    found |= {entry.id: entry for entry in _load(cursor, _BY_ACQUISITION, sorted(looks), width=5)}
    return list(found.values())


def named(cursor: Cursor, reference: str, part: str | None) -> list[Known]:
    """Return the scenes of a reference, of any card; all its parts where none is named."""
    where = sql.SQL("WHERE reference = %s AND (%s::text IS NULL OR part = %s) ORDER BY card, part")
    cursor.execute(_SELECT + where, (reference, part, part))
    return [_known(row) for row in cursor.fetchall()]


def _load(
    cursor: Cursor, where: sql.SQL, keys: Sequence[tuple[Any, ...]], width: int
) -> list[Known]:
    columns = [[key[i] for key in keys] for i in range(width)]
    cursor.execute(_SELECT + where, columns)
    return [_known(row) for row in cursor.fetchall()]


def _known(row: tuple[Any, ...]) -> Known:
    identifier, state, superseded_by, footprint, *rest = row
    *facts, crs, bounds, assets, source = rest
    names = [name.strip() for name in _FIELDS.split(",")]
    scene = Scene(
        **dict(zip(names, facts, strict=False)),
        footprint=bytes(footprint),
        extent=Extent(crs, tuple(bounds)),
        assets={band: BandAsset.from_json(asset) for band, asset in assets.items()},
        source=source,
    )
    return Known(identifier, scene, state, superseded_by)


def _values(scene: Scene) -> tuple[Any, ...]:
    return (
        scene.reference,
        scene.part,
        scene.card,
        scene.platform,
        scene.obstime,
        scene.datatake_start,
        scene.tile,
        scene.datastrip,
        scene.orbit_direction,
        scene.relative_orbit,
        scene.absolute_orbit,
        scene.incidence_angle,
        scene.baseline,
        scene.generation_time,
        scene.cloud_percent,
        scene.reference_time,
        scene.perpendicular_baseline,
        scene.extent.crs,
        list(scene.extent.bounds),
        Json({band: asset.as_json() for band, asset in scene.assets.items()}),
        scene.source,
        scene.footprint,
    )


def apply(cursor: Cursor, plan: RegisterPlan) -> None:
    """Do what the plan says, in the caller's transaction."""
    ids = dict(plan.ids)
    if plan.inserts:
        rows = [_values(scene) for scene in plan.inserts]
        inserted = execute_values(cursor, _INSERT, rows, _ROW, page_size=_PAGE, fetch=True)
        ids |= {Key(card, reference, part): new for card, reference, part, new in inserted}
    for update in plan.updates:
        cursor.execute(_UPDATE, (*_values(update.after), update.id))
    _set_states(cursor, plan.states, ids)


def settle(cursor: Cursor, scene_id: int) -> None:
    """Decide anew which products of a scene's acquisition are in use, as it was set aside.

    What it had superseded may come back. The caller has locked the catalogue.
    """
    aside = [entry.scene for entry in _load(cursor, _BY_ID, [(scene_id,)], width=1)]
    apply(cursor, register.plan(concerned(cursor, aside), []))


def extracted(cursor: Cursor, scene_ids: Sequence[int]) -> list[str]:
    """Return the references of those scenes of which statistics are stored."""
    cursor.execute(
        """SELECT reference FROM cbm.scene s WHERE id = ANY(%s) AND EXISTS (
             SELECT FROM cbm.work_item w WHERE w.scene_id = s.id AND w.parcel_set_id > 0)
           ORDER BY obstime, reference, part""",
        (list(scene_ids),),
    )
    return [row[0] for row in cursor.fetchall()]


def _set_states(cursor: Cursor, changes: Iterable[StateChange], ids: dict[Key, int]) -> None:
    rows = []
    for change in changes:
        by = change.after.superseded_by
        reason = f"superseded by {by.reference}" if by else None
        rows.append((ids[change.key], change.after.state, reason, ids[by] if by else None))
    if rows:
        execute_values(
            cursor,
            """UPDATE cbm.scene s SET state = v.state, state_reason = v.reason,
                 superseded_by = v.by, state_since = now()
               FROM (VALUES %s) v (id, state, reason, by) WHERE s.id = v.id""",
            rows,
            "(%s::integer, %s, %s::text, %s::integer)",
            page_size=_PAGE,
        )


def listing(
    cursor: Cursor,
    *,
    card: str | None = None,
    tile: str | None = None,
    state: str | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    limit: int,
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many scenes match, and the first of them by time; days are UTC, inclusive."""
    where, values = _chosen({"card": card, "tile": tile, "state": state}, first_day, last_day)
    cursor.execute(
        sql.SQL(
            """SELECT s.id, reference, part, card, platform, tile, obstime, baseline, state,
                 state_reason, cloud_percent, orbit_direction, relative_orbit, absolute_orbit,
                 incidence_angle, reference_time, temporal_baseline_days, perpendicular_baseline,
                 source,
                 ARRAY(SELECT jsonb_object_keys(assets) ORDER BY 1) AS bands,
                 count(*) OVER () AS total
               FROM cbm.scene s WHERE {where} ORDER BY obstime, reference, part LIMIT %s"""
        ).format(where=where),
        [*values, limit],
    )
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    total = int(rows[0]["total"]) if rows else 0
    for row in rows:
        del row["total"]
    return total, rows


def _chosen(
    equal: dict[str, str | None], first_day: date | None, last_day: date | None
) -> tuple[sql.Composable, list[Any]]:
    """Return a condition on scenes, and the values that it is bound to."""
    conditions: list[sql.Composable] = [sql.SQL("true")]
    values: list[Any] = []
    for column, value in equal.items():
        if value is not None:
            conditions.append(sql.SQL("{} = %s").format(sql.Identifier(column)))
            values.append(value)
    if first_day:
        conditions.append(sql.SQL("obstime >= %s::timestamptz"))
        values.append(f"{first_day}T00:00:00Z")
    if last_day:
        conditions.append(sql.SQL("obstime < %s::timestamptz"))
        values.append(f"{last_day + timedelta(days=1)}T00:00:00Z")
    return sql.SQL(" AND ").join(conditions), values
