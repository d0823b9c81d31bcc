"""Stored statistics for tests, made without the code under test: rows with known numbers."""

from contextlib import closing

import numpy as np

from cbm_core import db as database
from tests.factories import sql

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")

_ROW = """
WITH seen AS (SELECT obstime FROM cbm.scene WHERE id = %(scene)s)
INSERT INTO cbm.signature (obstime, geometry_id, scene_id, px_imaged, px_clear, dataset_id,
  product_id, tile_rank, stats, class_counts)
SELECT obstime, %(geometry)s, %(scene)s, %(imaged)s, %(clear)s, %(dataset)s, %(product)s,
  %(rank)s, %(stats)s::real[], %(classes)s
FROM seen"""
_ITEM = """
INSERT INTO cbm.work_item (scene_id, dataset_id, product_id, state, parcel_set_id)
SELECT %(scene)s, %(dataset)s, %(product)s, %(state)s,
  CASE %(state)s WHEN 'done' THEN max(id) ELSE 0 END
FROM cbm.parcel_set
ON CONFLICT DO NOTHING"""


def numbers(*of_variables: float) -> list[float]:
    """Eight statistics for each variable: its number, plus 0, 1, 2, ..."""
    return [float(first + place) for first in of_variables for place in range(8)]


def _packed(classes: dict[int, int] | None) -> bytes | None:
    if classes is None:
        return None
    return b"".join(bytes([n]) + pixels.to_bytes(3, "big") for n, pixels in sorted(classes.items()))


def add_row(settings, dataset, geometry, scene, product, stats, **given) -> None:
    """Store a row of a scene, with its work item; ``stats`` None means that no pixel is clear."""
    add_rows(settings, dataset, product, [{**given, "geometry": geometry, "scene": scene,
                                           "stats": stats}])  # fmt: skip


def add_rows(settings, dataset, product, rows: list[dict]) -> None:
    """Store rows: geometry, scene, stats, and if need be imaged, rank, classes."""
    with closing(database.connect(settings)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            """SELECT cbm.ensure_signature_partition(%s::smallint, month) FROM (
                 SELECT DISTINCT date_trunc('month', obstime)::date AS month
                 FROM cbm.scene WHERE id = ANY(%s)) months""",
            (dataset, [row["scene"] for row in rows]),
        )
        for row in rows:
            stats, imaged = row["stats"], row.get("imaged", 20)
            values = {
                "dataset": dataset, "product": product, "scene": row["scene"],
                "geometry": row["geometry"], "imaged": imaged,
                "clear": 0 if stats is None else imaged,
                "rank": row.get("rank", 0), "classes": _packed(row.get("classes")),
                "stats": None if stats is None else list(map(float, stats)), "state": "done",
            }  # fmt: skip
            cur.execute(_ROW, values)
            cur.execute(_ITEM, values)


def add_item(settings, dataset: int, scene: int, product: int, state="done") -> None:
    """A work item; one that is done has covered all parcels there are."""
    values = {"scene": scene, "dataset": dataset, "product": product, "state": state}
    with closing(database.connect(settings)) as connection, connection, connection.cursor() as cur:
        cur.execute(_ITEM, values)


def change_scene(settings, scene: int, **columns) -> None:
    """Set columns of a scene."""
    changes = ", ".join(f"{name} = %s" for name in columns)
    sql(settings, f"UPDATE cbm.scene SET {changes} WHERE id = %s", *columns.values(), scene)


def random_rows(settings, dataset, geometries, product, scenes, seed=1) -> None:
    """Rows of most geometries in each scene, with random numbers."""
    random = np.random.default_rng(seed)
    ((variables,),) = sql(
        settings, "SELECT cardinality(variables) FROM cbm.product WHERE id = %s", product
    )
    rows = []
    for scene in scenes:
        for geometry in geometries:
            kind = random.integers(0, 10)
            stats = random.normal(1000, 300, 8 * variables).astype(np.float32)
            stats[::8] = random.integers(1, 99, variables)
            if kind == 2:
                stats[:8] = [0, *[np.nan] * 7]
            row = {
                "geometry": geometry, "scene": scene, "stats": None if kind == 1 else stats,
                "imaged": int(random.integers(10, 14)), "rank": int(random.integers(0, 3)),
                "classes": {4: int(random.integers(1, 9)), 9: int(random.integers(0, 9))},
            }  # fmt: skip
            if kind > 0:
                rows.append(row)
    add_rows(settings, dataset, product, rows)
