"""What must hold in the database though no constraint says so, each with what to do where not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from cbm_core.database.partitions import Month
from cbm_core.db import Cursor, one_row


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be."""

    code: str
    text: str
    hint: str

    @property
    def line(self) -> str:
        """All of it in a line."""
        return f"{self.text}. {self.hint}"


@dataclass(frozen=True)
class _Check:
    """A query for the names of what is wrong; ``text`` says it of them."""

    code: str
    query: str
    text: str
    hint: str


_SIGNATURES = """
SELECT count(*) FILTER (WHERE g.id IS NULL),
       count(*) FILTER (WHERE sc.id IS NULL),
       count(*) FILTER (WHERE sc.obstime <> s.obstime),
       count(*) FILTER (WHERE p.id IS NULL),
       count(*) FILTER (WHERE r.scene_id IS NULL)
FROM cbm.signature s
LEFT JOIN cbm.parcel_geometry g ON g.id = s.geometry_id AND g.dataset_id = s.dataset_id
LEFT JOIN cbm.scene sc ON sc.id = s.scene_id
LEFT JOIN cbm.product p ON p.id = s.product_id
LEFT JOIN (SELECT DISTINCT scene_id, product_id FROM cbm.run WHERE dataset_id = %(dataset)s) r
  ON r.scene_id = s.scene_id AND r.product_id = s.product_id
WHERE s.dataset_id = %(dataset)s AND s.obstime >= %(start)s AND s.obstime < %(end)s"""

_ORPHANS = (
    ("without_geometry", "whose geometry is missing", "Restore the dataset from its archive"),
    ("without_scene", "whose scene is missing", "Restore the scene catalogue from a backup"),
    ("other_time", "at another time than their scene", "Extract the month anew"),
    ("without_product", "whose product is missing", "Restore the products from a backup"),
    ("without_run", "without the evidence of a run", "Restore the runs from a backup or archive"),
)

_CHECKS = (
    _Check(
        "item_without_run",
        """SELECT format('item %s (scene %s)', w.id, w.scene_id) FROM cbm.work_item w
           WHERE w.state = 'done' AND NOT EXISTS (
             SELECT FROM cbm.run r WHERE r.dataset_id = w.dataset_id
               AND r.scene_id = w.scene_id AND r.product_id = w.product_id)
           ORDER BY w.id""",
        "done without the evidence of a run",
        "Restore the runs from a backup; the rows cannot be defended without them.",
    ),
    _Check(
        "parcel_geometry",
        """SELECT format('parcel %s', p.pid) FROM cbm.parcel p
           LEFT JOIN cbm.parcel_geometry g
             ON g.id = p.geometry_id AND g.dataset_id = p.dataset_id AND g.retired_at IS NULL
           WHERE p.known_to = 'infinity' AND p.valid_to = 'infinity' AND g.id IS NULL
           ORDER BY p.dataset_id, p.pid""",
        "whose geometry is missing, retired or another dataset's",
        "Import the parcels again.",
    ),
    _Check(
        "plan_without_chunks",
        """SELECT format('plan %s', l.id) FROM cbm.plan l
           WHERE NOT EXISTS (SELECT FROM cbm.plan_chunk c WHERE c.plan_id = l.id)
             AND EXISTS (SELECT FROM cbm.monitorability m
                         JOIN cbm.parcel_geometry g ON g.id = m.geometry_id
                         WHERE g.parcel_set_id = l.parcel_set_id AND m.lattice = l.lattice
                           AND m.buffer_m = l.buffer_m AND m.pixels_planned > 0)
           ORDER BY l.id""",
        "without its runs though geometries have pixels",
        "Delete the plan as cbm_owner; the next extraction makes it anew.",
    ),
    _Check(
        "constraint_not_validated",
        """SELECT format('constraint %s of %s', conname, conrelid::regclass) FROM pg_constraint
           WHERE connamespace = 'cbm'::regnamespace AND NOT convalidated ORDER BY 1""",
        "not validated",
        "ALTER TABLE ... VALIDATE CONSTRAINT as cbm_owner.",
    ),
    _Check(
        "index_invalid",
        """SELECT format('index %s', x.indexrelid::regclass) FROM pg_index x
           JOIN pg_class c ON c.oid = x.indexrelid
           WHERE c.relnamespace = 'cbm'::regnamespace
             AND NOT (x.indisvalid AND x.indisready AND x.indislive) ORDER BY 1""",
        "not usable",
        "REINDEX INDEX ... as cbm_owner.",
    ),
    _Check(
        "not_attached",
        r"""SELECT format('table %s', relname) FROM pg_class
           WHERE relnamespace = 'cbm'::regnamespace AND relkind IN ('r', 'p')
             AND relname ~ '^signature_d\d' AND NOT relispartition ORDER BY 1""",
        "no partition of signature",
        "See what it holds; attach it or drop it as cbm_owner.",
    ),
    _Check(
        "leaf_key",
        r"""SELECT format('partition %s', c.relname) FROM pg_class c
           WHERE c.relnamespace = 'cbm'::regnamespace AND c.relkind = 'r'
             AND c.relname ~ '^signature_d\d+_\d{6}$' AND NOT EXISTS (
               SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisunique
                 AND x.indkey::text = (SELECT string_agg(a.attnum::text, ' ' ORDER BY k.place)
                   FROM unnest(ARRAY['geometry_id', 'scene_id', 'product_id'])
                        WITH ORDINALITY AS k (name, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name))
           ORDER BY 1""",
        "without its unique key",
        "CREATE UNIQUE INDEX on (geometry_id, scene_id, product_id) as cbm_owner.",
    ),
    _Check(
        "row_security",
        """SELECT format('table %s', c.relname) FROM pg_class c
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'dataset_id'
           WHERE c.relnamespace = 'cbm'::regnamespace AND c.relkind IN ('r', 'p')
             AND NOT c.relispartition AND NOT c.relrowsecurity
             AND (has_table_privilege('cbm_read', c.oid, 'SELECT')
                  OR has_table_privilege('cbm_api', c.oid, 'SELECT'))
           ORDER BY 1""",
        "open to every reader: row-level security is off",
        "ALTER TABLE ... ENABLE ROW LEVEL SECURITY as cbm_owner.",
    ),
    _Check(
        "leaf_grants",
        r"""SELECT format('partition %s', c.relname) FROM pg_class c
           WHERE c.relnamespace = 'cbm'::regnamespace AND c.relkind IN ('r', 'p')
             AND c.relispartition AND (
               has_table_privilege('cbm_read', c.oid, 'SELECT')
               OR has_table_privilege('cbm_api', c.oid, 'SELECT')
               OR (c.relkind = 'r' AND NOT has_table_privilege('cbm_ingest', c.oid, 'INSERT')))
           ORDER BY 1""",
        "readable past the permission per dataset, or closed to extraction",
        "REVOKE SELECT from readers, GRANT INSERT to cbm_ingest, as cbm_owner.",
    ),
)
CATALOGUE_CHECKS = len(_CHECKS)


def of_schema(cursor: Cursor) -> list[Finding]:
    """Return what is wrong with tables, indexes, rights and the small tables."""
    found = []
    for check in _CHECKS:
        cursor.execute(check.query)
        names = [row[0] for row in cursor.fetchall()]
        if names:
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            found.append(Finding(check.code, f"{listed}: {check.text}", check.hint))
    return found


def of_month(cursor: Cursor, month: Month) -> list[Finding]:
    """Return what is wrong with a month's rows."""
    start = month.month
    end = (start + timedelta(days=31)).replace(day=1)
    cursor.execute(
        _SIGNATURES, {"dataset": month.dataset_id, "start": _utc(start), "end": _utc(end)}
    )
    return [
        Finding(code, f"{month.name}: {count} rows {text}", f"{hint}.")
        for count, (code, text, hint) in zip(one_row(cursor), _ORPHANS, strict=True)
        if count
    ]


def _utc(day: date) -> str:
    return f"{day.isoformat()} 00:00:00+00"
