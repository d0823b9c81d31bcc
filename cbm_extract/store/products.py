"""Products in the database: immutable; a changed definition is the next revision."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.extras import Json

from cbm_core.db import Cursor, one_row
from cbm_extract.products.definition import Product

# Serialises the giving of revisions; any constant no other advisory lock uses.
LOCK_KEY = 0x63626D03


@dataclass(frozen=True)
class Registered:
    """A product as registered; ``hash`` is what its definition had then, under any release."""

    product: Product
    hash: bytes


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


def load(cursor: Cursor, product_ids: list[int]) -> dict[int, Registered]:
    """Return registered products by id."""
    cursor.execute(
        "SELECT id, name, definition, hash FROM cbm.product WHERE id = ANY(%s)", (product_ids,)
    )
    return {
        number: Registered(Product.from_definition(name, definition), bytes(digest))
        for number, name, definition, digest in cursor.fetchall()
    }


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
