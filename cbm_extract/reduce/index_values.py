"""From the values of several bands to the statistics of an index."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Batch, Consumer
from cbm_extract.reduce.indices import REFLECTANCE_SCALE, Index
from cbm_extract.reduce.statistics import Statistics
from cbm_extract.reduce.validity import invalid_values

FloatArray = NDArray[np.float64]

# Pixels computed at once: the scratch of four bands then stays in a core's cache.
BLOCK_PIXELS = 32_768


@dataclass(frozen=True)
class Calibration:
    """How a band's raw values become the stored unit: ``raw * scale + offset``.

    ``nodata`` are the raw values that are no observation.
    """

    nodata: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0


def reflectance(values: NDArray[Any], calibration: Calibration) -> FloatArray:
    """Return reflectance (0-1) as float64 [n], NaN where a raw value is no observation."""
    out = np.empty(len(values))
    _to_reflectance(values, calibration, out)
    return out


def _to_reflectance(values: NDArray[Any], calibration: Calibration, out: FloatArray) -> None:
    invalid = invalid_values(calibration.nodata, values.dtype)
    _reflectance(values, invalid, calibration.scale, calibration.offset, REFLECTANCE_SCALE, out)


def index_values(index: Index, bands: FloatArray) -> FloatArray:
    """Compute an index of reflectances float64 [len(index.bands), n]; float64 [n].

    NaN where a band is NaN, or the denominator is 0 or less or not finite. Nothing is clipped.
    """
    out = np.empty(bands.shape[1])
    _combine(
        bands,
        np.array(index.numerator),
        np.array(index.denominator),
        index.numerator_constant,
        index.denominator_constant,
        index.factor,
        out,
    )
    return out


class IndexReducer:
    """Joins the values of an index's bands, parcel by parcel, and reduces the index.

    ``inputs`` are the consumers to attach to a ``Gather`` of each band, in the order of
    ``index.bands``, all made for the same ``runs``. Bands may come in any order and from several
    threads. What one band is ahead of the others is held (in its own type): nothing where
    bands are fed strip by strip in turn, all of the parcels' pixels where band follows band.
    """

    def __init__(self, index: Index, runs: Runs, calibrations: Sequence[Calibration]) -> None:
        """``calibrations`` are in the order of ``index.bands``."""
        self._index, self._calibrations = index, calibrations
        self._before = runs.schedule.pixels_before
        self._statistics = Statistics(runs)
        self._queues: list[deque[Batch]] = [deque() for _ in index.bands]
        self._done = 0
        self._lock = Lock()
        self.inputs: list[Consumer] = [_Input(self, k) for k in range(len(index.bands))]

    def result(self) -> FloatArray:
        """Return float64 [n, 8], after all bands; ValueError where one is not complete."""
        if self._done != len(self._before) - 1:
            raise ValueError(f"{self._index.name}: bands {self._index.bands} were not all fed")
        return self._statistics.result

    def take(self, band: int, batch: Batch) -> None:
        """Take the next parcels of one band."""
        with self._lock:
            self._queues[band].append(batch)
            while all(self._queues):
                self._reduce(min(queue[0].end for queue in self._queues))
            if self._queues[band] and self._queues[band][-1] is batch:
                self._queues[band][-1] = replace(batch, values=batch.values.copy())

    def _reduce(self, end: int) -> None:
        """Reduce the parcels up to position ``end``, which all bands have."""
        while self._done < end:
            limit = self._before[self._done] + BLOCK_PIXELS
            stop = int(np.searchsorted(self._before, limit, side="right")) - 1
            stop = min(max(stop, self._done + 1), end)
            pixels = int(self._before[stop] - self._before[self._done])
            bands = np.empty((len(self._queues), pixels))
            for k, band in enumerate(bands):
                self._write(k, stop, band)
            values = index_values(self._index, bands)
            self._statistics.take(Batch(self._done, stop, values))
            self._done = stop
        for queue in self._queues:
            if queue[0].end == end:
                queue.popleft()

    def _write(self, band: int, stop: int, out: FloatArray) -> None:
        """Write a band's reflectance of the parcels from those done up to ``stop``."""
        batch = self._queues[band][0]
        first = self._before[batch.begin]
        part = slice(self._before[self._done] - first, self._before[stop] - first)
        _to_reflectance(batch.values[part], self._calibrations[band], out)


@dataclass(frozen=True)
class _Input:
    reducer: IndexReducer
    band: int

    def take(self, batch: Batch) -> None:
        self.reducer.take(self.band, batch)


@kernel
def _reflectance(values, invalid, scale, offset, divisor, out):
    # One loop for each condition: each is done several values at a time.
    count = np.uint64(len(values))
    for i in range(count):
        value = np.float64(values[i])
        out[i] = (value * scale + offset) / divisor if abs(value) < np.inf else np.nan
    for bad in invalid:
        for i in range(count):
            out[i] = np.nan if values[i] == bad else out[i]


@kernel
def _combine(bands, numerator, denominator, over, under, factor, out):
    bottom = np.full(len(out), under)
    out[:] = over
    count = np.uint64(len(out))
    for b in range(len(bands)):
        band, above, below = bands[b], numerator[b], denominator[b]
        for i in range(count):
            out[i] += above * band[i]
            bottom[i] += below * band[i]
    # What is not finite in a band is not finite here either: 0 x NaN and 0 x infinity are NaN.
    for i in range(count):
        out[i] = factor * out[i] / bottom[i] if 0.0 < bottom[i] < np.inf else np.nan
