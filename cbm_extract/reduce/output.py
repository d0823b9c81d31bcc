"""What the reduction of a scene gives for one product of one dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.statistics import STATISTICS


@dataclass(frozen=True)
class ProductResult:
    """What one scene says about a dataset's geometries under one product.

    geometry_ids int32 [n], rising: those with ``px_imaged`` > 0. ``stats`` float32 [n, variables *
    8] in stored units (indices in their own), variables in the order of bands, then indices:
    count 0 and NaN where a variable has no value. Of the bands that the product reads, px_clear
    int32 [n] is the largest number of valid pixels that the mask leaves, px_imaged int32 [n] the
    largest sum of that and of the pixels with data in the class raster that the mask hides.
    """

    geometry_ids: NDArray[np.int32]
    stats: NDArray[np.float32]
    px_imaged: NDArray[np.int32]
    px_clear: NDArray[np.int32]


class Output:
    """Takes the variables of a product one by one, as they are complete."""

    def __init__(self, runs: Iterable[Runs], variables: int) -> None:
        """Take the runs of all grids that the product reads."""
        ids = [np.empty(0, dtype=np.int32), *(one.geometry_ids for one in runs)]
        self._ids = _rising(np.concatenate(ids))
        shape = len(self._ids), variables, len(STATISTICS)
        self._stats = np.full(shape, np.nan, dtype=np.float32)
        self._stats[:, :, 0] = 0.0
        self._imaged = np.zeros(len(self._ids), dtype=np.int32)
        self._clear = np.zeros(len(self._ids), dtype=np.int32)

    def put(self, variable: int, runs: Runs, stored: NDArray[np.float64]) -> None:
        """Take the statistics [n, 8], in stored units, of a variable on its runs."""
        self._stats[self._places(runs), variable] = stored

    def count(self, runs: Runs, valid: NDArray[np.int64], hidden: NDArray[np.int64] | int) -> None:
        """Take a band's numbers of valid pixels [n], and those that the mask hides in its grid."""
        places = self._places(runs)
        self._clear[places] = np.maximum(self._clear[places], valid)
        self._imaged[places] = np.maximum(self._imaged[places], valid + hidden)

    def result(self) -> ProductResult:
        """Return the rows of the geometries that were imaged."""
        flat = self._stats.reshape(len(self._ids), self._stats.shape[1] * len(STATISTICS))
        keep = self._imaged > 0
        if keep.all():
            return ProductResult(self._ids, flat, self._imaged, self._clear)
        return ProductResult(self._ids[keep], flat[keep], self._imaged[keep], self._clear[keep])

    def _places(self, runs: Runs) -> NDArray[np.intp]:
        return np.searchsorted(self._ids, runs.geometry_ids)


def _rising(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sort ids, each once: quick where they are nearly sorted, as those of plans are."""
    ids = np.sort(ids, kind="stable")
    return ids[np.diff(ids, prepend=ids[:1] - 1) > 0]
