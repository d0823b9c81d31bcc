"""From strips of one band to the values of whole parcels.

A band comes as strips of full width, top to bottom. The values of a parcel's pixels are copied out
of each strip; when its last row has come, they are handed on, in the order of its runs. Only parcels
that the boundary of a strip cuts are held meanwhile. The order in which parcels are handed on
depends on the parcels alone, not on the strips, so that several bands can be joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.lattice import Nesting, Placement, nest
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.validity import invalid_values, working_type

# Values handed on at once: small enough to stay in a core's cache.
BATCH_PIXELS = 131_072

_COPY = Nesting(0, 0, 0)


@dataclass(frozen=True)
class Batch:
    """Values of whole parcels.

    They are those at positions [begin, end) of ``runs.schedule.order``; the values of position p are
    ``values[before[p] - before[begin]:before[p + 1] - before[begin]]`` with ``before`` being
    ``runs.schedule.pixels_before``. ``values`` is overwritten by the next batch: copy what is kept.
    """

    begin: int
    end: int
    values: NDArray[Any]


class _Open(NamedTuple):
    """Parcels begun and not complete, and what is held of them.

    slot int32 [n]: place in this list, -1 elsewhere; geometry int32 [m]; cursor int64 [m]: their
    next run; begin int64 [m + 1]: where their values begin in the carry.
    """

    slot: NDArray[np.int32]
    geometry: NDArray[np.int32]
    cursor: NDArray[np.int64]
    begin: NDArray[np.int64]


class Consumer(Protocol):
    """What takes the values of parcels."""

    def take(self, batch: Batch) -> None:
        """Take the next parcels' values; batches come in order and leave none out."""


class Gather:
    """The values of one band at the pixels of one set of runs.

    Where the band's raster is the one the runs are made for, values are handed on raw, in the
    band's type. Otherwise the band's pixels must nest in those of the runs: each value is then the
    mean of the band's pixels under it as float64, NaN unless all of them are valid.
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
        self._next_row = 0  # of the band's raster
        self._handed_on = 0  # positions of the schedule
        self._opened = 0  # positions of schedule.opening
        self._open = _Open(
            np.full(len(runs.geometry_ids), -1, dtype=np.int32),
            np.empty(0, dtype=np.int32),
            np.empty(0, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        )
        self._type: np.dtype[Any] | None = None
        self._buffer: NDArray[Any] = np.empty(0)
        self._carry: NDArray[Any] = np.empty(0)
        self._tail: NDArray[Any] = np.empty((0, placement.width))

    def wanted(self, row0: int, row1: int) -> bool:
        """Say whether the band's rows [row0, row1) are needed; others need not be fed."""
        if self._copies:
            return self._runs.wanted(row0, row1)
        factor, offset = self._nesting.factor, self._nesting.row_offset
        return self._runs.wanted((row0 - offset) // factor, -((offset - row1) // factor))

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
        self._skip(row0)
        self._start(strip.dtype)
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
        self._tail = strip[len(strip) - min(kept, len(strip)) :].copy() if kept else strip[:0]

    def finish(self) -> None:
        """Hand on what is left, after the last strip.

        Raises ValueError where a wanted row was left out.
        """
        self._skip(self._placement.height)
        if self._type is None:
            self._start(np.dtype(np.float64))
        empty = np.empty((0, self._placement.width), dtype=self._strip_type)
        strip = self._tail if len(self._tail) else empty
        self._advance(self._next_row - len(strip), strip, self._runs.placement.height)

    def _skip(self, row0: int) -> None:
        if row0 > self._next_row:
            if self.wanted(self._next_row, row0):
                raise ValueError(f"rows {self._next_row} to {row0 - 1} are wanted and were not fed")
            self._tail = self._tail[:0]

    def _start(self, strip_type: np.dtype[Any]) -> None:
        if self._type is not None:
            if strip_type != self._strip_type:
                raise ValueError(f"strip of {strip_type} after strips of {self._strip_type}")
            return
        self._strip_type = strip_type
        native = working_type(strip_type)
        self._type = native if self._copies else np.dtype(np.float64)
        self._invalid = invalid_values(self._nodata, strip_type)
        self._buffer = np.empty(0, dtype=self._type)
        self._carry = np.empty(0, dtype=self._type)
        self._tail = np.empty((0, self._placement.width), dtype=strip_type)

    def _advance(self, strip_row0: int, strip: NDArray[Any], ready: int) -> None:
        """Hand on the parcels that end above row ``ready`` (of the runs), hold the open ones."""
        schedule = self._runs.schedule
        flat = np.ascontiguousarray(strip).reshape(-1)
        source = (flat, strip.shape[1], strip_row0, *self._how(), self._invalid)
        pixels = (self._runs.indptr, self._runs.row, self._runs.col, self._runs.length)
        end = int(np.searchsorted(schedule.last_row, ready))
        for a, b in self._batches(self._handed_on, end):
            size = int(schedule.pixels_before[b] - schedule.pixels_before[a])
            if size > len(self._buffer):
                self._buffer = np.empty(size, dtype=self._type)
            values = self._buffer[:size]
            _complete(*source, *pixels, schedule.order[a:b], *self._open, self._carry, values)
            batch = Batch(a, b, values)
            for consumer in self._consumers:
                consumer.take(batch)
        self._handed_on = max(end, self._handed_on)
        opened = int(np.searchsorted(schedule.first_row, ready))
        fresh = schedule.opening[self._opened : opened]
        self._opened = max(opened, self._opened)
        self._hold(source, pixels, fresh, ready)

    def _how(self) -> tuple[int, int, int]:
        return self._nesting.factor, self._nesting.row_offset, self._nesting.col_offset

    def _batches(self, begin: int, end: int) -> list[tuple[int, int]]:
        before = self._runs.schedule.pixels_before
        cuts = []
        while begin < end:
            full = int(np.searchsorted(before, before[begin] + BATCH_PIXELS, side="right")) - 1
            stop = min(max(full, begin + 1), end)
            cuts.append((begin, stop))
            begin = stop
        return cuts

    def _hold(self, source: Any, pixels: Any, fresh: NDArray[np.int32], ready: int) -> None:
        candidates = np.concatenate([self._open.geometry, fresh])
        geometry, cursor, begin = _still_open(*pixels, candidates, *self._open, ready)
        carry = np.empty(begin[-1], dtype=self._type)
        _carry_on(*source, *pixels, geometry, cursor, begin, *self._open, self._carry, carry)
        self._open.slot[self._open.geometry] = -1
        self._open.slot[geometry] = np.arange(len(geometry), dtype=np.int32)
        self._open = _Open(self._open.slot, geometry, cursor, begin)
        self._carry = carry


@kernel
def _complete(  # type: ignore[no-untyped-def]  # noqa: ANN202, PLR0913
    flat, width, row0, factor, down, right, invalid,  # noqa: ANN001
    indptr, row, col, length,  # noqa: ANN001
    geometries, slot, geometry, cursor, begin, carry, out,  # noqa: ANN001
):
    """Write all values of parcels whose last row has come: what was held, then the strip's."""
    k = 0
    for g in geometries:
        j = indptr[g]
        if slot[g] >= 0:
            held = slot[g]
            for i in range(begin[held], begin[held + 1]):
                out[k] = carry[i]
                k += 1
            j = cursor[held]
        while j < indptr[g + 1]:
            k = _read(flat, width, row0, factor, down, right, invalid, row[j], col[j], length[j], out, k)
            j += 1


@kernel
def _still_open(indptr, row, col, length, candidates, slot, geometry, cursor, begin, ready):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913
    """Of the candidates those with runs below ``ready``; their next run; room for their values."""
    kept = np.empty(len(candidates), np.int32)
    following = np.empty(len(candidates), np.int64)
    room = np.zeros(len(candidates) + 1, np.int64)
    m = 0
    for g in candidates:
        if row[indptr[g + 1] - 1] < ready:
            continue
        j = indptr[g]
        pixels = 0
        if slot[g] >= 0:
            j = cursor[slot[g]]
            pixels = begin[slot[g] + 1] - begin[slot[g]]
        while row[j] < ready:
            pixels += np.int64(length[j])
            j += 1
        kept[m], following[m] = g, j
        room[m + 1] = room[m] + pixels
        m += 1
    return kept[:m].copy(), following[:m].copy(), room[: m + 1].copy()


@kernel
def _carry_on(  # type: ignore[no-untyped-def]  # noqa: ANN202, PLR0913
    flat, width, row0, factor, down, right, invalid,  # noqa: ANN001
    indptr, row, col, length,  # noqa: ANN001
    kept, following, room, slot, geometry, cursor, begin, carry, out,  # noqa: ANN001
):
    """Write the values of open parcels so far: what was held, then the strip's."""
    for m in range(len(kept)):
        g = kept[m]
        k = room[m]
        j = indptr[g]
        if slot[g] >= 0:
            held = slot[g]
            for i in range(begin[held], begin[held + 1]):
                out[k] = carry[i]
                k += 1
            j = cursor[held]
        while j < following[m]:
            k = _read(flat, width, row0, factor, down, right, invalid, row[j], col[j], length[j], out, k)
            j += 1


@inlined
def _read(flat, width, row0, factor, down, right, invalid, row, col, length, out, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913
    """Write one run's values at ``out[k:]`` and return where the next run's go."""
    n = np.int64(length)
    if factor == 0:
        # Unsigned indices spare the check for negative ones: 4 times as fast.
        source = np.uint64(row - row0) * np.uint64(width) + np.uint64(col)
        target = np.uint64(k)
        for i in range(np.uint64(n)):
            out[target + i] = flat[source + i]
        return k + n
    top = np.int64(row) * factor + down - row0
    for i in range(n):
        left = (np.int64(col) + i) * factor + right
        out[k + i] = _mean(flat, width, top, left, factor, invalid)
    return k + n


@inlined
def _mean(flat, width, top, left, factor, invalid):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The mean of a square of pixels; NaN unless all lie in the strip and are valid."""
    if top < 0 or left < 0 or (top + factor) * width > len(flat) or left + factor > width:
        return np.nan
    total = 0.0
    for r in range(top, top + factor):
        for c in range(left, left + factor):
            value = flat[r * width + c]
            for bad in invalid:
                if value == bad:
                    return np.nan
            total += value
    return total / (factor * factor)
