"""What a dataset's signatures were extracted with."""

from __future__ import annotations

from dataclasses import dataclass

from cbm_core.db import Cursor
from cbm_core.errors import CbmError

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
    """Return the products that extractions of a dataset were asked for, newest revision first."""
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


def choose(found: list[Product], name: str | None, card: str | None) -> Product:
    """Return the product of a name (``s2``, ``s2@1``), or the one that stands for a card.

    A card's is the one named like it, else its only one; without name and card it is ``s2``, else
    the dataset's only one. Without a revision the newest is meant.

    Raises:
        CbmError: ``product_unknown`` with what there is.

    """
    named, _, revision = (name or "").partition("@")
    of_card = [one for one in found if card in (None, one.card)]
    if named:
        fits = [one for one in of_card if one.name == named and revision in ("", str(one.revision))]
    else:
        fits = [one for one in of_card if one.name == (card or "s2")]
        fits = fits or (of_card if len({one.name for one in of_card}) == 1 else [])
    if fits:
        return fits[0]
    names = sorted({one.name for one in of_card})
    raise CbmError(
        "product_unknown",
        f"Expected one of the products {', '.join(names) or '(none yet)'}.",
        "Name one in the parameter product.",
    )
