"""Views with the names and columns of the JRC's earlier Checks-by-Monitoring database.

Clients that spoke SQL with it find what they ask for: parcels, one signature row per (parcel,
image, band), histograms of scene classes, the catalogue. The views read the product that serves a
card, and show each reader what row-level security lets them see.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extras import Json

from cbm_core.datasets.store import Dataset
from cbm_core.db import OWNER_ROLE, SCHEMA, Cursor, one_row
from cbm_core.errors import CbmError

CARDS = ("s2", "bs", "c6")
_READERS = ("cbm_ingest", "cbm_api", "cbm_read")
# PostgreSQL cuts longer names.
_NAME_BYTES = 63

# Of a parcel with several periods the latest stands for it.
_PARCELS = """
SELECT {pid} AS ogc_fid, {pid} AS pid, p.crop_code, p.crop_name, p.attributes,
  {geometry} AS wkb_geometry
FROM cbm.parcel p
JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE p.dataset_id = {dataset} AND p.layer = {layer} AND p.known_to = 'infinity'
  AND NOT EXISTS (SELECT FROM cbm.parcel n
                  WHERE n.dataset_id = p.dataset_id AND n.layer = p.layer AND n.pid = p.pid
                    AND n.known_to = 'infinity' AND n.valid_from > p.valid_from)"""
_SIGNATURES = """
SELECT {pid} AS pid, p.scene_id AS obsid, cbm.legacy_band({card}, p.band)::varchar(24) AS band,
  p.count::real AS count, p.mean, p.std, p.min, p.max, p.p25, p.p50, p.p75
FROM cbm.signature_long p
WHERE p.dataset_id = {dataset} AND p.product_id = {product} AND p.count > 0"""
_HISTOGRAMS = """
SELECT {pid} AS pid, p.scene_id AS obsid, p.classes::json AS hist
FROM cbm.signature_long p
WHERE p.dataset_id = {dataset} AND p.product_id = {product} AND p.band = {band}
  AND p.classes IS NOT NULL"""
_CATALOGUE = """
SELECT s.id, s.obstime AT TIME ZONE 'UTC' AS obstime, s.reference,
  upper(right(s.platform, 2)) AS sensor, s.card,
  CASE
    WHEN s.state = 'held' THEN 'held'
    WHEN s.state <> 'active' THEN 'Obsolete'
    ELSE coalesce(w.status, 'ingested')
  END AS status,
  CASE WHEN ST_NumGeometries(s.footprint) = 1 THEN ST_GeometryN(s.footprint, 1)
       ELSE s.footprint END AS footprint
FROM cbm.scene s
LEFT JOIN LATERAL (
  SELECT CASE
      WHEN bool_or(i.state = 'running') THEN 'inprogress'
      WHEN bool_or(i.state = 'pending') THEN 'ingested'
      WHEN bool_or(i.state = 'failed') THEN left(max(i.error_code), 24)
      WHEN bool_or(i.state = 'done') THEN 'extracted'
    END AS status
  FROM cbm.work_item i JOIN cbm.dataset d ON d.id = i.dataset_id
  WHERE i.scene_id = s.id AND d.aoi = {aoi} AND d.purged_at IS NULL
) w ON true"""


@dataclass(frozen=True)
class View:
    """A view as it is to be."""

    name: str
    query: str

    @property
    def mark(self) -> str:
        """What its comment says: that it is ours, and of which definition."""
        digest = hashlib.sha256(self.query.encode()).hexdigest()[:16]
        return f"cbm dataset legacy-views {digest}"


@dataclass
class Plan:
    """What makes a schema's views as they are to be."""

    schema: str
    create: list[View] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    serving: dict[str, str] = field(default_factory=dict)
    """Card -> the product whose signatures the views show, with its revision."""

    @property
    def lines(self) -> list[str]:
        """The changes in words."""
        gone = [name for name in self.drop if name not in {view.name for view in self.create}]
        return [
            *(f"create view {self.schema}.{view.name}" for view in self.create),
            *(f"drop view {self.schema}.{name}" for name in gone),
        ]


def plan(cursor: Cursor, dataset: Dataset, schema: str, *, absent: bool) -> Plan:
    """Compare the views that are to be with those that are there; changes nothing.

    In a schema of its own an AOI's views also have the names without the AOI.

    Raises:
        CbmError: ``schema_not_writable`` when there is no such schema for us,
            ``view_name_taken`` when something else has a view's name, ``view_name_invalid`` when
            two views would have one name, or a name is too long.

    """
    _require_schema(cursor, schema)
    made = Plan(schema)
    wanted = {} if absent else _wanted(cursor, dataset, schema, made.serving)
    own = _names(cursor, dataset, schema, absent=absent)
    for name, comment in _present(cursor, schema).items():
        view = wanted.get(name)
        ours = (comment or "").startswith("cbm dataset legacy-views")
        if view and not ours:
            raise CbmError(
                "view_name_taken",
                f"{schema}.{name} is there already and no view of this command.",
                "Name another schema with --schema-name, or rename what is there.",
            )
        if view and comment == view.mark:
            del wanted[name]
        elif ours and (view or any(name == one or name.startswith(f"{one}_") for one in own)):
            made.drop.append(name)
    made.create = list(wanted.values())
    return made


def apply(cursor: Cursor, todo: Plan) -> None:
    """Do what the plan says, as the owner."""
    cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER_ROLE)))
    for name in todo.drop:
        cursor.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(todo.schema, name)))
    for view in todo.create:
        target = sql.Identifier(todo.schema, view.name)
        cursor.execute(
            sql.SQL("CREATE VIEW {} WITH (security_invoker = true) AS {}").format(
                target, sql.SQL(view.query)
            )
        )
        cursor.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(target, sql.Literal(view.mark)))
        cursor.execute(
            sql.SQL("GRANT SELECT ON {} TO {}").format(
                target, sql.SQL(", ").join(map(sql.Identifier, _READERS))
            )
        )


def keep_products(cursor: Cursor, dataset: Dataset, products: list[str]) -> Dataset:
    """Write down which products serve, and return the dataset with it.

    Raises:
        CbmError: ``product_unknown`` when the dataset is not extracted with one.

    """
    cursor.execute(
        """SELECT DISTINCT p.name, p.card FROM cbm.product p
           JOIN cbm.work_item w ON w.product_id = p.id WHERE w.dataset_id = %s""",
        (dataset.id,),
    )
    cards = dict(cursor.fetchall())
    unknown = [name for name in products if name not in cards]
    if unknown:
        raise CbmError(
            "product_unknown",
            f"{dataset.name} is not extracted with {', '.join(unknown)};"
            f" products: {', '.join(sorted(cards)) or 'none'}.",
        )
    chosen = {"legacy_products": {cards[name]: name for name in products}}
    cursor.execute(
        "UPDATE cbm.dataset SET settings = settings || %s WHERE id = %s RETURNING settings",
        (Json(chosen), dataset.id),
    )
    dataset.settings.update(one_row(cursor)[0])
    return dataset


def _require_schema(cursor: Cursor, schema: str) -> None:
    cursor.execute(
        """SELECT coalesce(has_schema_privilege(%s, oid, 'CREATE'), false)
           FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = %s) AS oid) s""",
        (OWNER_ROLE, schema),
    )
    if not one_row(cursor)[0]:
        name = sql.Identifier(schema).as_string(cursor)
        raise CbmError(
            "schema_not_writable",
            f"The schema {schema} is not there, or {OWNER_ROLE} may not create views in it.",
            f"As a superuser: CREATE SCHEMA {name} AUTHORIZATION {OWNER_ROLE};"
            f" GRANT USAGE ON SCHEMA {name} TO {', '.join(_READERS)};",
        )


def _present(cursor: Cursor, schema: str) -> dict[str, str | None]:
    cursor.execute(
        """SELECT relname, obj_description(oid, 'pg_class') FROM pg_class
           WHERE relnamespace = %s::regnamespace AND relkind NOT IN ('i', 'I', 't')""",
        (sql.Identifier(schema).as_string(cursor),),
    )
    return dict(cursor.fetchall())


def _names(cursor: Cursor, dataset: Dataset, schema: str, *, absent: bool) -> list[str]:
    """Return what the dataset's views are called, up to an underscore."""
    year = dataset.year
    names = [f"{dataset.aoi}{year}"]
    if schema != SCHEMA:
        names += [f"parcels_{year}", f"sigs_{year}", f"hists_{year}"]
    cursor.execute(
        """SELECT EXISTS (SELECT FROM cbm.dataset
                          WHERE aoi = %s AND id <> %s AND purged_at IS NULL)""",
        (dataset.aoi, dataset.id),
    )
    if absent and not one_row(cursor)[0]:
        # The catalogue goes with the AOI's last dataset.
        names += [f"{dataset.aoi}_dias_catalogue", "dias_catalogue"][: 1 if schema == SCHEMA else 2]
    return names


def _wanted(
    cursor: Cursor, dataset: Dataset, schema: str, serving: dict[str, str]
) -> dict[str, View]:
    """Return the views of a dataset by name."""
    stem, year, alone = f"{dataset.aoi}{dataset.year}", dataset.year, schema != SCHEMA
    pid = _pid(cursor, dataset)
    found: list[tuple[list[str], str]] = []
    for layer, query in _parcel_views(cursor, dataset, pid):
        suffix = f"_{layer}" if layer else ""
        found.append(([f"{stem}{suffix}", f"parcels_{year}{suffix}"], query))
    signatures = []
    for card, (product, name, variables) in _products(cursor, dataset).items():
        serving[card] = name
        parts: dict[str, sql.Composable | str | int] = {
            "pid": pid,
            "dataset": dataset.id,
            "product": product,
            "card": card,
        }
        signatures.append(_compose(cursor, _SIGNATURES, **parts))
        found.append(([f"{stem}_{card}_signatures"], signatures[-1]))
        if card == "s2":
            histograms = _compose(cursor, _HISTOGRAMS, band=variables[0], **parts)
            found.append(([f"{stem}_hists", f"hists_{year}"], histograms))
    if signatures:
        found.append((["", f"sigs_{year}"], "\nUNION ALL".join(signatures)))
    catalogue = _compose(cursor, _CATALOGUE, aoi=dataset.aoi)
    found.append(([f"{dataset.aoi}_dias_catalogue", "dias_catalogue"], catalogue))
    names = [(name, query) for both, query in found for name in both[: 2 if alone else 1] if name]
    _require_names([name for name, _ in names])
    return {name: View(name, query) for name, query in names}


def _require_names(names: list[str]) -> None:
    wrong = [name for name in names if len(name) > _NAME_BYTES or names.count(name) > 1]
    if wrong:
        raise CbmError(
            "view_name_invalid",
            f"A layer of the parcels makes view names that are too long or occur twice:"
            f" {', '.join(sorted(set(wrong)))}.",
            "Import the layer under another name.",
        )


def _pid(cursor: Cursor, dataset: Dataset) -> sql.Composable:
    """Return a parcel's id as the views show it: a number where all ids are numbers."""
    cursor.execute(
        """SELECT NOT EXISTS (SELECT FROM cbm.parcel WHERE dataset_id = %s
                              AND known_to = 'infinity' AND cbm.whole_number(pid) IS NULL)""",
        (dataset.id,),
    )
    return sql.SQL("cbm.whole_number(p.pid)" if one_row(cursor)[0] else "p.pid")


def _parcel_views(cursor: Cursor, dataset: Dataset, pid: sql.Composable) -> list[tuple[str, str]]:
    """Return (layer, query) of each layer, and of the default one in any case."""
    cursor.execute(
        """SELECT layer, array_agg(DISTINCT crs_id) FROM cbm.parcel_set
           WHERE dataset_id = %s GROUP BY 1 ORDER BY 1""",
        (dataset.id,),
    )
    layers: dict[str, list[int]] = {"": [], **dict(cursor.fetchall())}
    views = []
    for layer, srids in layers.items():
        # Clients look the reference system up by the column.
        geometry: sql.Composable = sql.SQL("g.geom_src")
        if len(srids) == 1:
            geometry = sql.SQL("g.geom_src::geometry(MultiPolygon, {})").format(
                sql.Literal(srids[0])
            )
        query = _compose(
            cursor, _PARCELS, pid=pid, geometry=geometry, dataset=dataset.id, layer=layer
        )
        views.append((layer, query))
    return views


def _products(cursor: Cursor, dataset: Dataset) -> dict[str, tuple[int, str, list[str]]]:
    """Return card -> (id, name and revision, variables) of the product that serves it."""
    chosen = dataset.settings.get("legacy_products", {})
    found = {}
    for card in CARDS:
        cursor.execute(
            """SELECT id, name || ' ' || revision, variables FROM cbm.product p
               WHERE name = %s AND card = %s AND EXISTS (
                 SELECT FROM cbm.work_item w WHERE w.product_id = p.id AND w.dataset_id = %s)
               ORDER BY revision DESC LIMIT 1""",
            (chosen.get(card, card), card, dataset.id),
        )
        row = cursor.fetchone()
        if row:
            found[card] = row
    return found


def _compose(cursor: Cursor, query: str, **parts: sql.Composable | str | int) -> str:
    """Fill a query in: values as literals, SQL as it is."""
    filled = {
        name: part if isinstance(part, sql.Composable) else sql.Literal(part)
        for name, part in parts.items()
    }
    return sql.SQL(query).format(**filled).as_string(cursor)
