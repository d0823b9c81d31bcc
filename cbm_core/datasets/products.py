"""What extractions of a dataset were asked for."""

from __future__ import annotations

from dataclasses import dataclass

from cbm_core.db import Cursor

_UNITS = {
    "s2": "reflectance x 10000",
    "bs": "linear power",
    "c6": "coherence",
    "c12": "coherence",
}


@dataclass(frozen=True)
class Product:
    """A revision of a product; ``variables`` in the order of ``signature.stats``."""

    id: int
    name: str
    revision: int
    card: str
    variables: tuple[str, ...]
    buffer_m: float

    @property
    def unit(self) -> str | None:
        """The unit of the card's bands (indices have their own), None where it is not known."""
        return _UNITS.get(self.card)


def of_dataset(cursor: Cursor, dataset_id: int) -> list[Product]:
    """Return the products that extractions of a dataset were asked for, by name.

    The newest revision of each comes first.
    """
    cursor.execute(
        """SELECT p.id, p.name, p.revision, p.card, p.variables,
             coalesce((p.definition ->> 'buffer_m')::real, 0)
           FROM cbm.product p
           WHERE EXISTS (SELECT FROM cbm.work_item w
                         WHERE w.dataset_id = %s AND w.product_id = p.id)
           ORDER BY p.name, p.revision DESC""",
        (dataset_id,),
    )
    return [
        Product(number, name, revision, card, tuple(variables), float(buffer_m))
        for number, name, revision, card, variables, buffer_m in cursor.fetchall()
    ]


def newest(products: list[Product]) -> list[Product]:
    """Return the newest revision of each name, from what :func:`of_dataset` gave."""
    return list({one.name: one for one in reversed(products)}.values())[::-1]
