"""What a report says, read from the database in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cbm_core.datasets.products import Product, newest, of_dataset
from cbm_core.datasets.store import Dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_extract.report import series
from cbm_extract.report.series import Point
from cbm_extract.store import report_queries as queries
from cbm_extract.store.report_queries import CropCount, Parcel, SceneState

LISTED_PARCELS = 500
LISTED_SCENES = 1000
_CROPS, _PER_CROP = 6, 2


@dataclass(frozen=True)
class Report:
    """The content of a report; ``charted`` are the parcels drawn, ``listed`` those in the table."""

    dataset: Dataset
    product: Product
    ndvi_from: tuple[str, ...]
    cloud_limit: float
    layers: dict[str, tuple[int, float]]
    crops: list[CropCount]
    monitorability: dict[str, int]
    scenes: list[SceneState]
    progress: dict[tuple[str, int], dict[str, int]]
    last_extraction: datetime | None
    charted: list[Parcel]
    listed: list[Parcel]
    points: dict[tuple[str, str], list[Point]]

    @property
    def parcels(self) -> int:
        """Number of parcels of all layers."""
        return sum(count for count, _ in self.layers.values())

    @property
    def classified(self) -> bool:
        """Whether the product counts scene classes, so that clouded dates can be told."""
        return any(p.clouded is not None for points in self.points.values() for p in points)

    def of(self, parcel: Parcel) -> list[Point]:
        """Return a parcel's points."""
        return self.points.get((parcel.layer, parcel.pid), [])

    def clear(self, parcel: Parcel) -> list[Point]:
        """Return a parcel's points that have a value and count as clear."""
        known = self.classified
        return [
            point
            for point in self.of(parcel)
            if point.value is not None
            and series.is_clear(point, self.cloud_limit, classified=known)
        ]


def find_product(found: Sequence[Product], name: str | None, dataset: str) -> Product:
    """Return the product so named; without a name ``s2``, or else the first.

    Raises:
        CbmError: ``nothing_extracted`` when the dataset has none, ``product_unknown``.

    """
    if not found:
        raise CbmError(
            "nothing_extracted",
            f"No extraction was asked of dataset {dataset} yet.",
            f"Run `cbm extract {dataset}` first.",
        )
    by_name = {product.name: product for product in found}
    if name is None:
        return by_name.get("s2", found[0])
    if name not in by_name:
        raise CbmError(
            "product_unknown",
            f"Dataset {dataset} has no product {name}; it has: {', '.join(by_name)}.",
            "Name one of these.",
            existing=list(by_name),
        )
    return by_name[name]


def find_parcels(
    cursor: Cursor, dataset: Dataset, product: Product, pids: Sequence[str], layer: str | None
) -> list[Parcel]:
    """Return the parcels with the given ids, in the order given.

    Raises:
        CbmError: ``layer_unknown``, ``parcel_unknown``, or ``parcel_ambiguous`` when an id stands
            in several layers and no layer is named.

    """
    layers = queries.layers(cursor, dataset.id)
    if layer is not None and layer not in layers:
        names = ", ".join(repr(name) for name in layers) or "none"
        raise CbmError(
            "layer_unknown",
            f"Dataset {dataset.name} has no layer {layer!r}; it has: {names}.",
            "Name one of these.",
            existing=list(layers),
        )
    found = queries.parcels(cursor, dataset.id, product.buffer_m, layer=layer, pids=pids)
    by_pid: dict[str, list[Parcel]] = {}
    for parcel in found:
        by_pid.setdefault(parcel.pid, []).append(parcel)
    unknown = [pid for pid in pids if pid not in by_pid]
    if unknown:
        some = ", ".join(queries.some_pids(cursor, dataset.id, 5)) or "none at all"
        raise CbmError(
            "parcel_unknown",
            f"Dataset {dataset.name} has no parcel {', '.join(unknown)}; it has "
            f"{sum(count for count, _ in layers.values())} parcels, the first are: {some}.",
            "Ids are case-sensitive text, leading zeros included.",
            unknown=unknown,
        )
    for pid, parcels in by_pid.items():
        if len(parcels) > 1:
            names = ", ".join(repr(parcel.layer) for parcel in parcels)
            raise CbmError(
                "parcel_ambiguous",
                f"Parcel {pid} stands in several layers of {dataset.name}: {names}.",
                "Name the layer.",
            )
    return [by_pid[pid][0] for pid in dict.fromkeys(pids)]


def collect(
    cursor: Cursor,
    dataset: Dataset,
    *,
    product_name: str | None,
    pids: Sequence[str] | None,
    layer: str | None,
    cloud_limit: float,
) -> Report:
    """Read all that a report says.

    Raises:
        CbmError: ``nothing_extracted``, ``product_unknown``, ``product_without_ndvi``,
            ``layer_unknown``, ``parcel_unknown``, ``parcel_ambiguous``.

    """
    product = find_product(newest(of_dataset(cursor, dataset.id)), product_name, dataset.name)
    ndvi_from = _require_ndvi(product)
    charted = _charted(cursor, dataset, product, pids or [], layer)
    first = queries.parcels(cursor, dataset.id, product.buffer_m, layer=layer, limit=LISTED_PARCELS)
    listed = charted + [parcel for parcel in first if parcel not in charted]
    rows = queries.values(cursor, dataset.id, product, listed, bands=ndvi_from)
    period = dataset.imagery_start, dataset.imagery_end
    return Report(
        dataset=dataset,
        product=product,
        ndvi_from=ndvi_from,
        cloud_limit=cloud_limit,
        layers=queries.layers(cursor, dataset.id),
        crops=queries.crop_counts(cursor, dataset.id, product.buffer_m),
        monitorability=queries.monitorability_counts(cursor, dataset.id, product.buffer_m),
        scenes=queries.scenes(cursor, dataset.id, product, *period),
        progress=queries.progress(cursor, dataset.id),
        last_extraction=queries.last_extraction(cursor, dataset.id),
        charted=charted,
        listed=listed[:LISTED_PARCELS],
        points=series.ndvi_series(rows, ndvi_from),
    )


def _charted(
    cursor: Cursor, dataset: Dataset, product: Product, pids: Sequence[str], layer: str | None
) -> list[Parcel]:
    """Return the parcels that are asked for, or typical ones of the most frequent crops."""
    if pids or layer is not None:
        charted = find_parcels(cursor, dataset, product, pids, layer)
    if not pids:
        charted = queries.representative(
            cursor, dataset.id, product, crops=_CROPS, per_crop=_PER_CROP, layer=layer
        )
    if not charted:
        raise CbmError(
            "nothing_extracted",
            f"No parcel of dataset {dataset.name} has statistics of product {product.name} yet.",
            f"Run `cbm extract {dataset.name}`; `cbm ledger status` says what is open or failed.",
        )
    return charted


def _require_ndvi(product: Product) -> tuple[str, ...]:
    variables = series.ndvi_variables(product)
    if variables is None:
        raise CbmError(
            "product_without_ndvi",
            f"Product {product.name} has neither NDVI nor red and near infrared; it has: "
            f"{', '.join(product.variables)}.",
            "Name a product with NDVI, or with B04 and B08 or B8A.",
        )
    return variables
