"""The scene classification (SCL) of parcels.

Classes of Sentinel-2 Level-2A: 0 no data, 1 saturated or defective, 2 dark, 3 cloud shadow,
4 vegetation, 5 bare soil, 6 water, 7 unclassified, 8 cloud (medium probability), 9 cloud (high
probability), 10 thin cirrus, 11 snow.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.runs import Runs

CLASS_COUNT = 12


def as_classes(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a class raster (or strip) as uint8; what is no class from 0 to 11 becomes 0."""
    if raw.dtype == np.uint8:
        classes = raw if raw.max(initial=0) < CLASS_COUNT else np.where(raw < CLASS_COUNT, raw, 0)
        return np.ascontiguousarray(classes, dtype=np.uint8)
    with np.errstate(invalid="ignore"):
        known = (raw >= 0) & (raw < CLASS_COUNT)
    return np.where(known, raw, 0).astype(np.uint8)


def class_counts(runs: Runs, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of each class in each geometry: int64 [n, 12].

    ``runs`` are those of the class raster's own grid; ``classes`` is the whole raster, from
    ``as_classes``.
    """
    if classes.shape != (runs.placement.height, runs.placement.width):
        raise ValueError(f"classes {classes.shape} for runs of {runs.placement}")
    counts = np.zeros((len(runs.geometry_ids), CLASS_COUNT), dtype=np.int64)
    _count(classes, runs.indptr, runs.row, runs.col, runs.length, counts)
    return counts


@kernel
def _count(classes, indptr, row, col, length, counts):
    for g in range(len(indptr) - 1):
        mine = counts[g]
        for j in range(indptr[g], indptr[g + 1]):
            line = classes[row[j]]
            for c in range(col[j], col[j] + np.int64(length[j])):
                mine[line[c]] += 1
