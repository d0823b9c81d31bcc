"""Which of a dataset's products a request means."""

from __future__ import annotations

from cbm_core.datasets.products import Product
from cbm_core.errors import CbmError


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
