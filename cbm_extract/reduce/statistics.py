"""Count, mean, standard deviation, minimum, maximum and quartiles of each parcel's values.

Integers are exact: sums and centred squares are whole numbers, quartiles come from a histogram.
Floats take two passes (never the one-pass variance, which float32 data can turn into 0).
Quartiles follow numpy's default (linear; Hyndman and Fan 1996, type 7) to the last bit; the
standard deviation is the population's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Batch
from cbm_extract.reduce.statistics_kernels import (
    Work,
    count_valid,
    reduce_floats,
    reduce_integers,
)
from cbm_extract.reduce.validity import invalid_values

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")


class Statistics:
    """Consumes the values of parcels, keeps their statistics of raw values.

    ``result`` is float64 [n, 8] in the order of ``runs.geometry_ids`` and ``STATISTICS``: count 0
    and NaN elsewhere where a parcel has no valid value.
    """

    def __init__(self, runs: Runs, nodata: tuple[float, ...] = ()) -> None:
        """``nodata`` are raw values that are no observation; NaN and infinities never are one."""
        self._schedule = runs.schedule
        self._nodata = nodata
        self.result = np.full((len(runs.geometry_ids), len(STATISTICS)), np.nan)
        self.result[:, 0] = 0.0
        self._work: Work | None = None
        self._invalid: NDArray[Any] | None = None

    def take(self, batch: Batch) -> None:
        """Reduce the next parcels."""
        dtype, size = batch.values.dtype, len(batch.values)
        if self._invalid is None:
            self._invalid = invalid_values(self._nodata, dtype)
        if self._work is None or len(self._work.floats) < size:
            self._work = Work.of(size)
        reduce = reduce_integers if dtype.kind in "iu" else reduce_floats
        reduce(
            batch.values,
            self._schedule.pixels_before[batch.begin : batch.end + 1],
            self._schedule.order[batch.begin : batch.end],
            self._invalid,
            self._work,
            self.result,
        )


class ValidCounter:
    """Consumes the values of parcels, counts the valid ones: ``counts`` int64 [n]."""

    def __init__(self, runs: Runs, nodata: tuple[float, ...] = ()) -> None:
        """``nodata`` are raw values that are no observation; NaN and infinities never are one."""
        self._schedule = runs.schedule
        self._nodata = nodata
        self.counts = np.zeros(len(runs.geometry_ids), dtype=np.int64)

    def take(self, batch: Batch) -> None:
        """Count the next parcels."""
        before = self._schedule.pixels_before[batch.begin : batch.end + 1]
        order = self._schedule.order[batch.begin : batch.end]
        invalid = invalid_values(self._nodata, batch.values.dtype)
        count_valid(batch.values, before, order, invalid, self.counts)
