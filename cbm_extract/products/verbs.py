"""The command ``cbm product list``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cbm_core.verbs import Answer, Arguments, Context, Verb
from cbm_extract.products import catalogue
from cbm_extract.products.definition import Product


class ListArguments(Arguments):
    """Which products to show."""

    file: Path | None = Field(default=None, description="A YAML file of products to show as well.")


def _list(arguments: ListArguments, _context: Context) -> Answer:
    shown = [(one, "preset") for one in catalogue.presets().values()]
    if arguments.file:
        mine = catalogue.load(arguments.file)
        shown = [(one, source) for one, source in shown if one.name not in mine]
        shown += [(one, str(arguments.file)) for one in mine.values()]
    return Answer(
        result={"products": [_entry(one, source) for one, source in shown]},
        text="\n".join(_line(one, source) for one, source in shown),
    )


def _entry(product: Product, source: str) -> dict[str, Any]:
    return {
        "name": product.name,
        "source": source,
        "variables": list(product.variables),
        "hash": product.hash.hex(),
        **product.definition,
    }


def _line(product: Product, source: str) -> str:
    parts = [f"card {product.card}", " ".join(product.variables)]
    if product.mask_classes:
        spread = f" + {product.mask_dilation_m:g} m" if product.mask_dilation_m else ""
        parts.append(f"masks classes {' '.join(map(str, product.mask_classes))}{spread}")
    if product.min_clear_share:
        parts.append(f"parcels at least {product.min_clear_share:.0%} clear")
    if product.buffer_m:
        parts.append(f"{product.buffer_m:g} m inwards")
    parts.append(f"tiles {product.tiles}")
    return f"{product.name} ({source}): {'; '.join(parts)}"


LIST = Verb(
    summary="Show the products that can be extracted.",
    arguments=ListArguments,
    run=_list,
)
