"""Time series of a parcel as clients of the predecessor ask for them, by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cbm_api.period import Period
from cbm_api.queries import products, signatures
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.legacy_parcels import Columns
from cbm_api.queries.signatures import STATISTICS, Rows
from cbm_api.series.preferred import preferred
from cbm_core import bands as band_names
from cbm_core.datasets.products import Product, of_dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

CARDS = ("s2", "bs", "c6")
_ORDER = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")


@dataclass(frozen=True)
class Asked:
    """What is asked of a series: all bands, or one, in any spelling."""

    band: str = ""
    histograms: bool = True
    references: bool = False


def serving(cursor: Cursor, dataset: Dataset) -> dict[str, Product]:
    """Return the product that answers for each card.

    ``legacy_products`` in the dataset's settings names it; else it is the one named like the card,
    else the card's only one. Its newest revision counts.
    """
    chosen = dataset.settings.get("legacy_products", {})
    found = of_dataset(cursor, dataset.id)
    served = {}
    for card in CARDS:
        try:
            served[card] = products.choose(found, chosen.get(card), card)
        except CbmError:
            continue
    return served


def series(cursor: Cursor, dataset: Dataset, pid: str, product: Product, asked: Asked) -> Columns:
    """Return a row per image and band that have a value, by time.

    ``date_part`` is in seconds since 1970 (UTC), statistics in the stored unit; a band that was
    asked for keeps its spelling. With histograms, images without a scene classification are left
    out, as nobody may take them for cloud-free, unless no image has one.
    """
    wanted = band_names.stored(product.card, asked.band)
    bands = sorted(band for band in product.variables if not asked.band or band == wanted)
    if not bands:
        return {}
    rows, references = _rows(cursor, dataset, pid, product, bands)
    stats = rows.stats.reshape(len(rows), len(bands), len(STATISTICS))
    shown = stats[:, :, 0] > 0
    classified = _classified(rows)
    histograms = asked.histograms and bool(classified.any())
    if histograms:
        shown &= classified[:, None]
    # Row by row, and of each row band by band.
    images, places = np.nonzero(shown)
    names = [asked.band or band_names.legacy(product.card, band) for band in bands]
    found: Columns = {
        "date_part": (rows.obstimes[images].astype(np.int64) / 1e6).tolist(),
        "band": [names[place] for place in places],
    }
    for name in _ORDER:
        found[name] = _numbers(stats[images, places, STATISTICS.index(name)])
    found["count"] = [int(count) for count in found["count"]]
    if histograms:
        of_image = _histograms(rows)
        found["hist"] = [of_image[image] for image in images]
    if asked.references:
        found["reference"] = [references[scene] for scene in rows.scene_ids[images]]
    return found


def histograms(cursor: Cursor, dataset: Dataset, pid: str, product: Product) -> Columns:
    """Return the pixels per scene class of each image: ``obsid`` and ``hist``, by ``obsid``."""
    rows, _ = _rows(cursor, dataset, pid, product, list(product.variables[:1]))
    rows = rows.take(_classified(rows))
    rows = rows.take(np.argsort(rows.scene_ids))
    return {"obsid": rows.scene_ids.tolist(), "hist": _histograms(rows)}


def _rows(
    cursor: Cursor, dataset: Dataset, pid: str, product: Product, bands: list[str]
) -> tuple[Rows, dict[int, str]]:
    """Return a parcel's rows as ``cbm.signature_long`` shows them, by time; names of scenes."""
    periods = signatures.parcel_periods(cursor, dataset, pid)
    width = len(STATISTICS)
    starts = [width * product.variables.index(band) for band in bands]
    wanted = [start + place for start in starts for place in range(width)]
    geometries = sorted({period.geometry_id for period in periods})
    rows = signatures.rows(cursor, dataset.id, product, geometries, Period(), wanted)
    scenes = signatures.scenes(cursor, np.unique(rows.scene_ids).tolist())
    rows = rows.take(np.isin(rows.scene_ids, [scene.id for scene in scenes]))
    rows = rows.take(preferred(rows, scenes))
    valid = np.zeros(len(rows), dtype=bool)
    for period in periods:
        valid |= (
            (rows.geometry_ids == period.geometry_id)
            & (rows.obstimes >= np.datetime64(period.valid_from, "us"))
            & (rows.obstimes < np.datetime64(period.valid_to, "us"))
        )
    rows = rows.take(valid)
    by_time = np.lexsort((rows.scene_ids, rows.obstimes))
    return rows.take(by_time), {scene.id: scene.reference for scene in scenes}


def _classified(rows: Rows) -> NDArray[np.bool_]:
    return np.asarray(rows.classes.sum(axis=1) > 0)


def _numbers(values: NDArray[np.float32]) -> list[float]:
    """Return the shortest numbers that are read back as the same 32-bit ones."""
    return [float(text) for text in pa.array(values).cast(pa.string()).to_pylist()]


def _histograms(rows: Rows) -> list[dict[str, int]]:
    return [
        {str(number): int(row[number]) for number in np.flatnonzero(row)} for row in rows.classes
    ]
