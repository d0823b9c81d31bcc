"""From strips of one band to the values of whole parcels.

A band comes as strips of full width, top to bottom. The values of a parcel's pixels are copied out
of each strip; when its last row has come, they are handed on, in the order of its runs. Only
parcels that the boundary of a strip cuts are held meanwhile. The order in which parcels are handed
on depends on the parcels alone, not on the strips, so that several bands can be joined.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.lattice import Nesting, Placement, nest
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.expand import expand
from cbm_extract.reduce.validity import invalid_values, working_type

# Values handed on at once: small enough to stay in a core's cache.
BATCH_PIXELS = 131_072

# Stands for "the raster of the runs itself".
_COPY = Nesting(0, 0, 0)


@dataclass(frozen=True)
class Batch:
    """Values of whole parcels.

    They stand at positions [begin, end) of ``runs.schedule.order``; the values of position p are
    ``values[before[p] - before[begin]:before[p + 1] - before[begin]]`` with ``before`` being
    ``runs.schedule.pixels_before``. The next batch overwrites ``values``: copy what is kept.
    """

    begin: int
    end: int
    values: NDArray[Any]


class Consumer(Protocol):
    """What takes the values of parcels."""

    def take(self, batch: Batch) -> None:
        """Take the next parcels' values; batches come in order and leave none out."""


class _Source(NamedTuple):
    """A strip as kernels read it: flat values, its width and first row, and the nesting."""

    flat: NDArray[Any]
    width: int
    row0: int
    factor: int
    down: int
    right: int
    invalid: NDArray[Any]


class _Pixels(NamedTuple):
    """The arrays of the runs."""

    indptr: NDArray[np.int64]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    length: NDArray[np.uint16]


class _Held(NamedTuple):
    """What is held of the parcels that are begun and not complete.

    slot int32 [n]: place of a geometry in this list, -1 elsewhere; cursor int64 [m]: their next
    run; begin int64 [m + 1]: where their values begin in ``values``.
    """

    slot: NDArray[np.int32]
    cursor: NDArray[np.int64]
    begin: NDArray[np.int64]
    values: NDArray[Any]


class Gather:
    """The values of one band at the pixels of one set of runs.

    Where the band's raster is the one the runs are made for, values are handed on raw, in the
    band's type. Otherwise the band's pixels must nest in those of the runs: each value is then the
    mean of the band's raw pixels under it as float64, NaN unless all of them are valid.
    """

    def __init__(
        self,
        runs: Runs,
        placement: Placement,
        nodata: tuple[float, ...],
        consumers: Sequence[Consumer],
    ) -> None:
        """``placement`` is that of the band's raster; ``nodata`` its raw values to leave out.

        Raises CbmError ``grids_not_nested``.
        """
        self._runs, self._placement, self._nodata = runs, placement, nodata
        self._consumers = consumers
        self._copies = placement == runs.placement
        self._nesting = _COPY if self._copies else nest(placement, runs.placement)
        self._pixels = _Pixels(runs.indptr, runs.row, runs.col, runs.length)
        self._strip_type: np.dtype[Any] | None = None
        self._next_row = 0  # of the band's raster
        self._handed_on = 0  # positions of schedule.order
        self._opened = 0  # positions of schedule.opening
        self._open = np.empty(0, dtype=np.int32)
        self._tail: NDArray[Any] = np.empty((0, placement.width))

    def wanted(self, row0: int, row1: int) -> bool:
        """Say whether the band's rows [row0, row1) are needed; others need not be fed."""
        if self._copies:
            return self._runs.wanted(row0, row1)
        factor, offset = self._nesting.factor, self._nesting.row_offset
        return self._runs.wanted((row0 - offset) // factor, -((offset - row1) // factor))

    def wanted_runs(self) -> Runs:
        """Return the pixels that are looked at, as runs of the band's own raster."""
        return self._runs if self._copies else expand(self._runs, self._placement, self._nesting)

    def feed(self, row0: int, strip: NDArray[Any]) -> None:
        """Take the band's rows from ``row0``: [rows, width]. Rows ascend; unwanted ones may lack.

        Raises CbmError ``dtype_unsupported``; ValueError where a wanted row was left out.
        """
        row1 = row0 + strip.shape[0]
        fits = strip.shape[1:] == (self._placement.width,) and row1 <= self._placement.height
        if row0 < self._next_row or not fits:
            raise ValueError(
                f"strip of {strip.shape} at row {row0}; next row is {self._next_row} of "
                f"{self._placement.height} x {self._placement.width}"
            )
        self._start(strip.dtype)
        self._skip(row0)
        self._next_row = row1
        if self._copies:
            self._advance(row0, strip, row1)
            return
        if len(self._tail):
            strip = np.concatenate([self._tail, strip])
        ready = (row1 - self._nesting.row_offset) // self._nesting.factor
        self._advance(row1 - len(strip), strip, min(ready, self._runs.placement.height))
        # Rows of a coarse pixel that the strip cuts wait for the next strip.
        kept = row1 - (ready * self._nesting.factor + self._nesting.row_offset)
        self._tail = strip[len(strip) - min(kept, len(strip)) :].copy()

    def finish(self) -> None:
        """Hand on what is left, after the last strip.

        Raises ValueError where a wanted row was left out.
        """
        if self._strip_type is None:
            self._start(np.dtype(np.float64))
        self._skip(self._placement.height)
        self._advance(self._next_row - len(self._tail), self._tail, self._runs.placement.height)

    def _start(self, strip_type: np.dtype[Any]) -> None:
        if self._strip_type is not None:
            if strip_type != self._strip_type:
                raise ValueError(f"strip of {strip_type} after strips of {self._strip_type}")
            return
        native = working_type(strip_type)
        handed_on = native if self._copies else np.dtype(np.float64)
        self._strip_type = strip_type
        self._invalid = invalid_values(self._nodata, strip_type)
        self._buffer = np.empty(0, dtype=handed_on)
        self._tail = np.empty((0, self._placement.width), dtype=strip_type)
        self._held = _Held(
            np.full(len(self._runs.geometry_ids), -1, dtype=np.int32),
            np.empty(0, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.empty(0, dtype=handed_on),
        )

    def _skip(self, row0: int) -> None:
        if row0 > self._next_row:
            if self.wanted(self._next_row, row0):
                raise ValueError(f"rows {self._next_row} to {row0 - 1} are wanted and were not fed")
            self._next_row = row0
            self._tail = self._tail[:0]

    def _advance(self, row0: int, strip: NDArray[Any], ready: int) -> None:
        """Hand on the parcels that end above row ``ready`` (of the runs), hold the open ones."""
        schedule = self._runs.schedule
        flat = np.ascontiguousarray(strip).reshape(-1)
        nesting = self._nesting.factor, self._nesting.row_offset, self._nesting.col_offset
        source = _Source(flat, self._placement.width, row0, *nesting, self._invalid)
        end = int(np.searchsorted(schedule.last_row, np.int32(ready)))
        for a, b in self._batches(self._handed_on, end):
            size = int(schedule.pixels_before[b] - schedule.pixels_before[a])
            if size > len(self._buffer):
                self._buffer = np.empty(size, dtype=self._buffer.dtype)
            values = self._buffer[:size]
            geometries = schedule.order[a:b]
            stops = self._pixels.indptr[geometries + 1]
            begin = schedule.pixels_before[a:b] - schedule.pixels_before[a]
            _write(source, self._pixels, geometries, stops, begin, self._held, values)
            batch = Batch(a, b, values)
            for consumer in self._consumers:
                consumer.take(batch)
        self._handed_on = max(end, self._handed_on)
        opened = int(np.searchsorted(schedule.first_row, np.int32(ready)))
        self._hold(source, schedule.opening[self._opened : opened], ready)
        self._opened = max(opened, self._opened)

    def _batches(self, begin: int, end: int) -> list[tuple[int, int]]:
        before = self._runs.schedule.pixels_before
        cuts = []
        while begin < end:
            full = int(np.searchsorted(before, before[begin] + BATCH_PIXELS, side="right")) - 1
            stop = min(max(full, begin + 1), end)
            cuts.append((begin, stop))
            begin = stop
        return cuts

    def _hold(self, source: _Source, opened: NDArray[np.int32], ready: int) -> None:
        candidates = np.concatenate([self._open, opened])
        still, cursor, begin = _still_open(self._pixels, candidates, *self._held[:3], ready)
        values = np.empty(begin[-1], dtype=self._buffer.dtype)
        _write(source, self._pixels, still, cursor, begin, self._held, values)
        slot = self._held.slot
        slot[self._open] = -1
        slot[still] = np.arange(len(still), dtype=np.int32)
        self._held = _Held(slot, cursor, begin, values)
        self._open = still


@kernel
def _write(source, pixels, geometries, stops, begin, held, out):
    """Write parcels' values up to the run ``stops``, from ``begin`` on: first what is held."""
    for m in range(len(geometries)):
        k, j = begin[m], pixels.indptr[geometries[m]]
        slot = held.slot[geometries[m]]
        if slot >= 0:
            j = held.cursor[slot]
            for i in range(held.begin[slot], held.begin[slot + 1]):
                out[k] = held.values[i]
                k += 1
        while j < stops[m]:
            n = np.int64(pixels.length[j])
            if source.factor == 0:
                _copy(source, pixels.row[j], pixels.col[j], n, out, k)
            else:
                _average(source, pixels.row[j], pixels.col[j], n, out, k)
            k += n
            j += 1


@kernel
def _still_open(pixels, candidates, slots, cursor, begin, ready):
    """Find those with runs at or below row ``ready``, their next run, and room for their values."""
    kept = np.empty(len(candidates), np.int32)
    following = np.empty(len(candidates), np.int64)
    room = np.zeros(len(candidates) + 1, np.int64)
    m = 0
    for g in candidates:
        if pixels.row[pixels.indptr[g + 1] - 1] < ready:
            continue
        j, size = pixels.indptr[g], np.int64(0)
        slot = slots[g]
        if slot >= 0:
            j, size = cursor[slot], begin[slot + 1] - begin[slot]
        while pixels.row[j] < ready:
            size += np.int64(pixels.length[j])
            j += 1
        kept[m], following[m] = g, j
        room[m + 1] = room[m] + size
        m += 1
    return kept[:m].copy(), following[:m].copy(), room[: m + 1].copy()


@inlined
def _copy(source, row, col, n, out, k):
    # Unsigned indices spare the check for negative ones: several times as fast.
    start = np.uint64(row - source.row0) * np.uint64(source.width) + np.uint64(col)
    target = np.uint64(k)
    for i in range(np.uint64(n)):
        out[target + i] = source.flat[start + i]


@kernel
def _average(source, row, col, n, out, k):
    """Write the means of squares of pixels; NaN unless all lie in the strip and are valid."""
    factor, width = source.factor, source.width
    top = np.int64(row) * factor + source.down - source.row0
    for i in range(n):
        left = (np.int64(col) + i) * factor + source.right
        out[k + i] = np.nan
        if top < 0 or left < 0 or (top + factor) * width > len(source.flat):
            continue
        if left + factor > width:
            continue
        total = 0.0
        for r in range(top, top + factor):
            for c in range(left, left + factor):
                total += _valid_or_nan(source.flat[r * width + c], source.invalid)
        out[k + i] = total / (factor * factor)


@inlined
def _valid_or_nan(value, invalid):
    for bad in invalid:
        if value == bad:
            return np.nan
    return np.float64(value)
