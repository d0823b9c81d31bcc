"""Which items an extraction needs: those never enqueued, and those that new geometries reopen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError


@dataclass(frozen=True)
class Wanted:
    """A product to be extracted; ``product_id`` is None while it is not registered."""

    name: str
    card: str
    product_id: int | None


@dataclass(frozen=True)
class ProductPlan:
    """What enqueuing one product does: scenes to insert, done items to open again."""

    wanted: Wanted
    insert: tuple[int, ...]
    reopen: tuple[int, ...]
    scenes: int
    """Active scenes of the card in the period over the parcels, enqueued before or not."""


@dataclass(frozen=True)
class EnqueuePlan:
    """What enqueuing does. ``parcel_set_id`` is the newest parcel set with active geometries."""

    dataset_id: int
    parcel_set_id: int
    products: tuple[ProductPlan, ...]

    @property
    def lines(self) -> list[str]:
        """The plan in words, empty when there is nothing to enqueue."""
        lines = []
        for product in self.products:
            if product.insert:
                lines.append(f"enqueue {len(product.insert)} scenes for {product.wanted.name}")
            if product.reopen:
                lines.append(
                    f"reopen {len(product.reopen)} scenes for {product.wanted.name}: new geometries"
                )
        return lines


def plan(
    cursor: Cursor, dataset_id: int, wanted: list[Wanted], start: date, end: date
) -> EnqueuePlan:
    """Find what is to be enqueued for scenes observed from ``start`` to ``end`` (UTC, inclusive).

    A scene is wanted when it is active, of the product's card, and its footprint meets an active
    parcel geometry of the dataset. Changes nothing.

    Raises:
        CbmError: ``no_parcels`` when the dataset has no active geometry.

    """
    cursor.execute(
        "SELECT max(parcel_set_id) FROM cbm.parcel_geometry"
        " WHERE dataset_id = %s AND retired_at IS NULL",
        (dataset_id,),
    )
    newest = one_row(cursor)[0]
    if newest is None:
        cursor.execute("SELECT aoi || ':' || year FROM cbm.dataset WHERE id = %s", (dataset_id,))
        name = one_row(cursor)[0]
        raise CbmError(
            "no_parcels",
            f"The dataset {name} has no parcels, so there is nothing to extract.",
            "Import them with `cbm parcels import`.",
        )
    products = tuple(
        _plan_product(cursor, dataset_id, int(newest), one, start, end) for one in wanted
    )
    return EnqueuePlan(dataset_id, int(newest), products)


def _plan_product(
    cursor: Cursor, dataset_id: int, newest: int, wanted: Wanted, start: date, end: date
) -> ProductPlan:
    cursor.execute(
        """SELECT s.id, w.id, CASE WHEN w.state = 'done' THEN w.parcel_set_id END
           FROM cbm.scene s
           LEFT JOIN cbm.work_item w ON w.scene_id = s.id AND w.dataset_id = %(dataset)s
                                    AND w.product_id = %(product)s
           WHERE s.card = %(card)s AND s.state = 'active'
             AND s.obstime >= %(start)s::timestamp AT TIME ZONE 'UTC'
             AND s.obstime < %(after)s::timestamp AT TIME ZONE 'UTC'
             AND EXISTS (
               SELECT FROM cbm.parcel_geometry g
               WHERE g.dataset_id = %(dataset)s AND g.retired_at IS NULL
                 AND g.geom && s.footprint AND ST_Intersects(g.geom, s.footprint))
           ORDER BY s.obstime, s.id""",
        {
            "dataset": dataset_id,
            "product": wanted.product_id,
            "card": wanted.card,
            "start": start,
            "after": end + timedelta(days=1),
        },
    )
    rows = cursor.fetchall()
    outdated = {
        covered: _with_newer_parcels(
            cursor, dataset_id, covered, [item for _, item, up_to in rows if up_to == covered]
        )
        for covered in {up_to for _, _, up_to in rows if up_to is not None and up_to < newest}
    }
    return ProductPlan(
        wanted,
        insert=tuple(scene for scene, item, _ in rows if item is None),
        reopen=tuple(item for _, item, up_to in rows if item in outdated.get(up_to, ())),
        scenes=len(rows),
    )


def _with_newer_parcels(
    cursor: Cursor, dataset_id: int, covered: int, items: list[int]
) -> set[int]:
    """Return those of ``items`` whose scenes show geometries of parcel sets after ``covered``.

    One number at a time: with it the server knows whether such geometries are few, to be looked at
    one by one, or a country's.
    """
    cursor.execute(
        """SELECT w.id FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
           WHERE w.id = ANY(%(items)s) AND EXISTS (
             SELECT FROM cbm.parcel_geometry n
             WHERE n.dataset_id = %(dataset)s AND n.retired_at IS NULL
               AND n.parcel_set_id > %(covered)s AND n.geom && s.footprint)""",
        {"items": items, "dataset": dataset_id, "covered": covered},
    )
    return {row[0] for row in cursor.fetchall()}


def apply(cursor: Cursor, todo: EnqueuePlan, product_ids: dict[str, int]) -> int:
    """Do what the plan says; return how many items were inserted or reopened.

    ``product_ids`` maps each product's name to its id. What another run has enqueued since the
    plan was made is left as it is.
    """
    changed = 0
    for product in todo.products:
        if product.insert:
            cursor.execute(
                """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id)
                   SELECT scene_id, %s, %s FROM unnest(%s::integer[]) WITH ORDINALITY
                     AS s (scene_id, position)
                   ORDER BY position
                   ON CONFLICT (scene_id, dataset_id, product_id) DO NOTHING""",
                (todo.dataset_id, product_ids[product.wanted.name], list(product.insert)),
            )
            changed += cursor.rowcount
        if product.reopen:
            cursor.execute(
                """UPDATE cbm.work_item SET state = 'pending', attempts = 0
                   WHERE id = ANY(%s) AND state = 'done' AND parcel_set_id < %s""",
                (list(product.reopen), todo.parcel_set_id),
            )
            changed += cursor.rowcount
    return changed
