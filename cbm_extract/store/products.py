"""Products in the database: immutable; a changed definition is the next revision."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2.extras import Json

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError
from cbm_extract.products.definition import Product

# Serialises the giving of revisions; any constant no other advisory lock uses.
LOCK_KEY = 0x63626D03

_NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,62})(@(?P<revision>[1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class Registered:
    """A product as registered; ``hash`` is what its definition had then, under any release."""

    product: Product
    hash: bytes


def split(named: str) -> tuple[str, int | None]:
    """Take ``name`` or ``name@revision`` apart; the revision is None where none is named.

    Raises:
        CbmError: ``product_name_invalid``.

    """
    match = _NAMED.fullmatch(named)
    if not match:
        raise CbmError(
            "product_name_invalid",
            f"{named!r} names no product; expected a name, or a name and a revision as in s2@2.",
        )
    return match["name"], int(match["revision"]) if match["revision"] else None


def revision(cursor: Cursor, name: str, number: int) -> Product | None:
    """Return one registered revision of a name, None where there is none such."""
    cursor.execute(
        "SELECT definition FROM cbm.product WHERE name = %s AND revision = %s", (name, number)
    )
    row = cursor.fetchone()
    return Product.from_definition(name, row[0]) if row else None


def registered_ids(cursor: Cursor, named: Iterable[str]) -> tuple[int, ...]:
    """Return the ids of products, rising: of a name all revisions, of ``name@revision`` that one.

    Raises:
        CbmError: ``product_unknown`` with what is registered, ``product_name_invalid``.

    """
    cursor.execute("SELECT id, name, revision FROM cbm.product ORDER BY name, revision")
    rows = cursor.fetchall()
    found: set[int] = set()
    unknown = []
    for one in dict.fromkeys(named):
        name, number = split(one)
        ids = {row[0] for row in rows if row[1] == name and number in (None, row[2])}
        found |= ids
        unknown += [] if ids else [one]
    if unknown:
        known = ", ".join(f"{name}@{number}" for _, name, number in rows)
        raise CbmError(
            "product_unknown",
            f"No extraction was ever asked of {', '.join(unknown)}; registered: {known or 'none'}.",
            "Name registered products, with or without a revision.",
        )
    return tuple(sorted(found))


def find(cursor: Cursor, product: Product) -> int | None:
    """Return the id of the revision that has exactly this definition, None without one."""
    cursor.execute(
        "SELECT id FROM cbm.product WHERE name = %s AND hash = %s", (product.name, product.hash)
    )
    row = cursor.fetchone()
    return int(row[0]) if row else None


def newest(cursor: Cursor, name: str) -> Product | None:
    """Return the newest registered revision of a name, None without any."""
    cursor.execute(
        "SELECT definition FROM cbm.product WHERE name = %s ORDER BY revision DESC LIMIT 1",
        (name,),
    )
    row = cursor.fetchone()
    return Product.from_definition(name, row[0]) if row else None


def names(cursor: Cursor) -> list[str]:
    """Return the names of all registered products."""
    cursor.execute("SELECT DISTINCT name FROM cbm.product ORDER BY name")
    return [row[0] for row in cursor.fetchall()]


def variables(cursor: Cursor, product_id: int) -> tuple[str, ...]:
    """Return what a product stores, in the order of ``signature.stats``."""
    cursor.execute("SELECT variables FROM cbm.product WHERE id = %s", (product_id,))
    return tuple(one_row(cursor)[0])


def load(cursor: Cursor, product_ids: list[int]) -> dict[int, Registered]:
    """Return registered products by id."""
    cursor.execute(
        "SELECT id, name, definition, hash FROM cbm.product WHERE id = ANY(%s)", (product_ids,)
    )
    return {
        number: Registered(Product.from_definition(name, definition), bytes(digest))
        for number, name, definition, digest in cursor.fetchall()
    }


def revisions(cursor: Cursor) -> dict[int, int]:
    """Return product id -> revision."""
    cursor.execute("SELECT id, revision FROM cbm.product")
    return dict(cursor.fetchall())


def register(cursor: Cursor, product: Product) -> int:
    """Return the id of a product; a definition not known by its name becomes a new revision."""
    found = find(cursor, product)
    if found is not None:
        return found
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
    found = find(cursor, product)
    if found is not None:
        return found
    cursor.execute(
        """INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
           SELECT %(name)s, coalesce(max(revision), 0) + 1, %(card)s, %(variables)s,
                  %(definition)s, %(hash)s
           FROM cbm.product WHERE name = %(name)s
           RETURNING id""",
        {
            "name": product.name,
            "card": product.card,
            "variables": list(product.variables),
            "definition": Json(product.definition),
            "hash": product.hash,
        },
    )
    return int(one_row(cursor)[0])
