"""Time series of a parcel as clients of the predecessor ask for them, by column."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql

from cbm_api.queries import products
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.legacy_parcels import Columns
from cbm_api.queries.products import Product
from cbm_core import bands as band_names
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

CARDS = ("s2", "bs", "c6")
STATISTICS = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")

# A histogram is the image's, not the band's: it is unpacked once.
_SERIES = """
SELECT extract(epoch FROM l.obstime)::double precision AS date_part, l.band, {statistics},
  CASE WHEN l.band = %(first)s THEN l.classes END AS hist, l.reference, l.scene_id AS obsid
FROM cbm.signature_long l
WHERE l.dataset_id = %(dataset)s AND l.layer = %(layer)s AND l.pid = %(pid)s
  AND l.product_id = %(product)s AND l.band = ANY(%(bands)s)
ORDER BY l.obstime, l.scene_id, l.band COLLATE "C\""""


def serving(cursor: Cursor, dataset: Dataset) -> dict[str, Product]:
    """Return the product that answers for each card.

    ``legacy_products`` in the dataset's settings names it; else it is the one named like the card,
    else the card's only one. Its newest revision counts.
    """
    chosen = dataset.settings.get("legacy_products", {})
    found = products.of_dataset(cursor, dataset.id)
    served = {}
    for card in CARDS:
        try:
            served[card] = products.choose(found, chosen.get(card), card)
        except CbmError:
            continue
    return served


def series(
    cursor: Cursor,
    dataset: Dataset,
    pid: str,
    product: Product,
    *,
    band: str = "",
    histograms: bool,
    references: bool,
) -> Columns:
    """Return a row per image and band that have a value, by time.

    ``date_part`` is in seconds since 1970 (UTC), statistics in the stored unit. A ``band`` may be
    asked for in any spelling, and keeps it. With ``histograms`` images without a scene
    classification are left out, as nobody may take them for cloud-free, unless no image has one.
    """
    asked = [band_names.stored(product.card, band)] if band else list(product.variables)
    rows = _rows(cursor, dataset, pid, product, asked)
    histograms = histograms and any(row["hist"] for row in rows)
    names = ["date_part", "band", *STATISTICS]
    names += ["hist"] * histograms + ["reference"] * references
    found: Columns = {name: [] for name in names}
    for row in rows:
        if row["count"] == 0 or (histograms and row["hist"] is None):
            continue
        row["band"] = band or band_names.legacy(product.card, row["band"])
        for name in names:
            found[name].append(row[name])
    return found


def histograms(cursor: Cursor, dataset: Dataset, pid: str, product: Product) -> Columns:
    """Return the pixels per scene class of each image: ``obsid`` and ``hist``, by ``obsid``."""
    rows = _rows(cursor, dataset, pid, product, list(product.variables[:1]))
    rows = sorted((row for row in rows if row["hist"]), key=lambda row: row["obsid"])
    return {name: [row[name] for row in rows] for name in ("obsid", "hist")}


def _rows(
    cursor: Cursor, dataset: Dataset, pid: str, product: Product, bands: list[str]
) -> list[dict[str, Any]]:
    """Return the rows of ``cbm.signature_long``, each with its image's histogram, None without."""
    statistics = sql.SQL(", ").join(sql.Identifier("l", name) for name in STATISTICS)
    cursor.execute(
        sql.SQL(_SERIES).format(statistics=statistics),
        {
            "dataset": dataset.id,
            "layer": dataset.layer,
            "pid": pid,
            "product": product.id,
            "bands": bands,
            "first": min(bands),
        },
    )
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    first: dict[str, Any] = {}
    for row in rows:
        if row["band"] == min(bands):
            first = row
        row["hist"] = first["hist"]
    return rows
