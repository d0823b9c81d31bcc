"""Product definitions from YAML: the presets, and files of an agency."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cbm_core.errors import CbmError
from cbm_extract.products.definition import Product

_FORM = "Give a list `products:` of entries such as `{name: my_s2, card: s2, bands: [B04, B08]}`."


@lru_cache(maxsize=1)
def presets() -> dict[str, Product]:
    """Return the products that come with the release, by name."""
    text = resources.files("cbm_extract.products").joinpath("presets.yml").read_text("utf-8")
    return parse(text, "presets.yml")


def load(file: Path) -> dict[str, Product]:
    """Read the products of a YAML file, by name.

    Raises CbmError: ``products_unreadable``, ``products_invalid``.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CbmError(
            "products_unreadable",
            f"Expected a YAML file of products at {file}, found none that can be read: {error}.",
            _FORM,
        ) from None
    return parse(text, str(file))


def choose(names: list[str], file: Path | None = None) -> list[Product]:
    """Return products by name, from a file or else the presets, in the order named.

    Raises CbmError ``product_unknown``, and those of ``load``.
    """
    known = presets() | (load(file) if file else {})
    missing = [name for name in names if name not in known]
    if missing:
        raise CbmError(
            "product_unknown",
            f"Expected products among {', '.join(known)}, found {', '.join(missing)}.",
            "Name one of these, or give a file that defines it.",
        )
    return [known[name] for name in names]


def parse(text: str, source: str) -> dict[str, Product]:
    """Read the products of a YAML text; ``source`` is what messages call it.

    Raises CbmError ``products_invalid``, naming all products that are wrong.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _invalid(source, [f"it is not YAML ({' '.join(str(error).split())})"]) from None
    if not isinstance(document, dict) or set(document) != {"products"}:
        raise _invalid(source, ["its one key is not `products`"])
    entries = document["products"]
    if not isinstance(entries, list) or not entries:
        raise _invalid(source, ["`products` is not a list with at least one entry"])
    found: dict[str, Product] = {}
    problems: list[str] = []
    for number, entry in enumerate(entries, start=1):
        product = _product(entry, number, problems)
        if product and product.name in found:
            problems.append(f"product {product.name} is defined twice")
        elif product:
            found[product.name] = product
    if problems:
        raise _invalid(source, problems)
    return found


def _product(entry: Any, number: int, problems: list[str]) -> Product | None:
    label = f"product {number}"
    if not isinstance(entry, dict):
        problems.append(f"{label} is no mapping")
        return None
    if isinstance(entry.get("name"), str):
        label = f"product {entry['name']}"
    try:
        return Product.model_validate(entry)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            where = ".".join(str(part) for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{label}: {where}: {message}" if where else f"{label}: {message}")
        return None


def _invalid(source: str, problems: list[str]) -> CbmError:
    return CbmError(
        "products_invalid",
        f"Expected definitions of products in {source}, found: {'; '.join(problems)}.",
        _FORM,
        problems=problems,
    )
