"""Count, mean, standard deviation, minimum, maximum and quartiles of each parcel's values.

Integers are exact: sums and centred squares are whole numbers, quartiles come from a histogram.
Floats take two passes (never the one-pass variance, which float32 data can turn into 0).
Quartiles follow numpy's default (linear; Hyndman and Fan 1996, type 7) to the last bit; the
standard deviation is the population's.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import inlined, kernel
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Batch
from cbm_extract.reduce.validity import invalid_values

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")

# Integers of a wider range take the way of floats.
HISTOGRAM_RANGE = 16_384
# Up to this many pixels counts fit in 16 bits, which halves the memory that is searched.
NARROW_LIMIT = 65_535
BLOCK = 32
SORT_BELOW = 12
# Sums that fit in 32 bits go twice as many at a time: so many values of 16 bits, or of squares of
# differences below the range.
SUM_BLOCK = 2**15
SQUARE_RANGE = 2**11
SQUARE_BLOCK = 2**9
FLOAT_BINS = 512


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
        self._bins = np.zeros(HISTOGRAM_RANGE + 2 * BLOCK, dtype=np.uint32)
        self._narrow = np.zeros(len(self._bins), dtype=np.uint16)
        self._scratch: NDArray[Any] | None = None
        self._invalid: NDArray[Any] | None = None

    def take(self, batch: Batch) -> None:
        """Reduce the next parcels."""
        dtype = batch.values.dtype
        if self._invalid is None:
            self._invalid = invalid_values(self._nodata, dtype)
        if self._scratch is None or len(self._scratch) < len(batch.values):
            self._scratch = np.empty(len(batch.values), dtype=dtype)
        reduce = _reduce_integers if dtype.kind in "iu" else _reduce_floats
        reduce(
            batch.values,
            self._schedule.pixels_before[batch.begin : batch.end + 1],
            self._schedule.order[batch.begin : batch.end],
            self._invalid,
            self._bins,
            self._narrow,
            self._scratch,
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
        _count_valid(batch.values, before, order, invalid, self.counts)


@kernel
def _count_valid(values, before, order, invalid, counts):
    for p in range(len(order)):
        total = 0
        for value in values[before[p] - before[0] : before[p + 1] - before[0]]:
            valid = np.isfinite(value)
            for bad in invalid:
                valid &= value != bad
            total += valid
        counts[order[p]] = total


@kernel
def _reduce_integers(values, before, order, invalid, bins, narrow, scratch, result):
    for p in range(len(order)):
        mine = values[before[p] - before[0] : before[p + 1] - before[0]]
        if len(mine) == 0:
            continue
        low, high, total = _span(mine)
        for bad in invalid:
            if low <= bad <= high:
                mine = _without(mine, invalid, scratch)
                if len(mine) > 0:
                    low, high, total = _span(mine)
                break
        n = len(mine)
        if n == 0:
            continue
        centre = np.int64(np.round(total / n))
        squares = _squares(mine, centre, high - low)
        rest = np.float64(total - n * centre)
        out = result[order[p]]
        out[0] = n
        out[1] = total / n
        out[2] = np.sqrt((squares - rest * rest / n) / n)
        out[3] = low
        out[4] = high
        if n < SORT_BELOW:
            _quartiles_by_sorting(mine, out)
        elif high - low > HISTOGRAM_RANGE:
            _quartiles_by_bins(mine, low, high, bins, out)
        elif n <= NARROW_LIMIT:
            _quartiles_by_counting(mine, low, high, narrow, out)
        else:
            _quartiles_by_counting(mine, low, high, bins, out)


@kernel
def _reduce_floats(values, before, order, invalid, bins, narrow, scratch, result):
    for p in range(len(order)):
        mine = values[before[p] - before[0] : before[p + 1] - before[0]]
        mine = _without_float(mine, invalid, scratch)
        n = len(mine)
        if n == 0:
            continue
        low = high = np.float64(mine[0])
        total = 0.0
        for value in mine:
            total += value
            low = min(low, np.float64(value))
            high = max(high, np.float64(value))
        # Corrected two-pass (Chan, Golub and LeVeque 1983): `rest` undoes the rounding of `centre`.
        centre = total / n
        rest, squares = 0.0, 0.0
        for value in mine:
            off = value - centre
            rest += off
            squares += off * off
        out = result[order[p]]
        out[0] = n
        out[1] = min(max(centre + rest / n, low), high)
        out[2] = np.sqrt(max(squares - rest * rest / n, 0.0) / n) if low < high else 0.0
        out[3] = low
        out[4] = high
        if n < SORT_BELOW:
            _quartiles_by_sorting(mine, out)
        elif n <= NARROW_LIMIT:
            _quartiles_by_bins(mine, low, high, narrow, out)
        else:
            _quartiles_by_bins(mine, low, high, bins, out)


@inlined
def _span(values):
    low = high = values[0]
    total = np.int64(0)
    count = np.uint64(len(values))
    for begin in range(np.uint64(0), count, np.uint64(SUM_BLOCK)):
        part = np.int32(0)
        for i in range(begin, min(begin + np.uint64(SUM_BLOCK), count)):
            value = values[i]
            low = min(low, value)
            high = max(high, value)
            part = np.int32(part + np.int32(value))
        total += np.int64(part)
    return np.int64(low), np.int64(high), total


@inlined
def _squares(values, centre, spread):
    """Sum the squared distances from ``centre``, of which none exceeds ``spread``."""
    total = np.int64(0)
    if spread >= SQUARE_RANGE:
        for value in values:
            off = np.int64(value) - centre
            total += off * off
        return total
    count = np.uint64(len(values))
    for begin in range(np.uint64(0), count, np.uint64(SQUARE_BLOCK)):
        part = np.int32(0)
        for i in range(begin, min(begin + np.uint64(SQUARE_BLOCK), count)):
            off = np.int32(np.int32(values[i]) - np.int32(centre))
            part = np.int32(part + np.int32(off * off))
        total += np.int64(part)
    return total


@inlined
def _without(values, invalid, scratch):
    n = 0
    for value in values:
        valid = True
        for bad in invalid:
            valid &= value != bad
        scratch[n] = value
        n += valid
    return scratch[:n]


@inlined
def _without_float(values, invalid, scratch):
    n = 0
    for value in values:
        valid = np.isfinite(value)
        for bad in invalid:
            valid &= value != bad
        scratch[n] = value
        n += valid
    return scratch[:n]


@inlined
def _between(a, b, t):
    """Numpy's interpolation (lib._function_base_impl._lerp), branch included."""
    step = b - a
    if t >= 0.5:
        return b - step * (1.0 - t)
    return a + step * t


@inlined
def _quartiles_by_sorting(values, out):
    """Sort a copy: for a dozen pixels nothing is quicker."""
    n = len(values)
    ordered = np.empty(SORT_BELOW)
    for i in range(n):
        value = np.float64(values[i])
        j = i
        while j > 0 and ordered[j - 1] > value:
            ordered[j] = ordered[j - 1]
            j -= 1
        ordered[j] = value
    _quartiles_of_sorted(ordered[:n], out)


@inlined
def _quartiles_by_counting(values, low, high, bins, out):
    """Use a bin for each integer between low and high; ``bins`` comes and goes with zeros."""
    one = bins.dtype.type(1)
    for value in values:
        bins[np.uint64(np.int64(value) - low)] += one
    n = len(values)
    b, below = np.int64(0), np.int64(0)
    for q in range(3):
        k, above = _rank(n, q)
        b, below = _seek(bins, b, below, k)
        c, under = b, below
        while under + bins[c] <= k:
            under += bins[c]
            c += 1
        first = c
        if k + 1 < n and under + bins[c] <= k + 1:
            c += 1
            while bins[c] == 0:
                c += 1
        out[5 + q] = _between(np.float64(first + low), np.float64(c + low), above)
    bins[: high - low + 1] = 0


@inlined
def _seek(bins, b, below, k):
    """Skip whole blocks of bins that end before rank k."""
    while True:
        block = np.uint32(0)
        for i in range(np.uint64(BLOCK)):
            block += bins[np.uint64(b) + i]
        if below + block > k:
            return b, below
        below += np.int64(block)
        b += BLOCK


@kernel
def _quartiles_by_bins(values, low, high, bins, out):
    """Use equal bins between low and high, then sorting within those that hold a quartile.

    The bin rises with the value (subtraction, multiplication and truncation are monotone), so that
    ranks carry over. ``bins`` comes and goes with zeros.
    """
    n = len(values)
    scale = FLOAT_BINS / (np.float64(high) - np.float64(low))
    if not np.isfinite(scale) or scale == 0.0:  # all equal, or a range float64 cannot hold
        _quartiles_of_sorted(np.sort(values), out)
        return
    one = bins.dtype.type(1)
    for value in values:
        bins[_bin(value, low, scale)] += one
    # Ranks k and k + 1 of the three quartiles rise: one walk finds and marks the bins they are in.
    mark = np.zeros(FLOAT_BINS + 1, np.uint8)
    begin = np.zeros(7, np.int64)  # where the values of the marked bins go in `picked`
    place = np.empty(6, np.int64)  # where the six ranks will stand in it
    marked, b, below = 0, np.int64(0), np.int64(0)
    for step in range(6):
        rank = _rank(n, step // 2)[0] + step % 2
        while below + bins[b] <= rank:
            below += np.int64(bins[b])
            b += 1
        if mark[b] == 0:
            marked += 1
            mark[b] = marked
            begin[marked] = begin[marked - 1] + np.int64(bins[b])
        place[step] = begin[marked - 1] + rank - below
    picked = np.empty(begin[marked])
    at = begin.copy()
    for value in values:
        slot = mark[_bin(value, low, scale)]
        if slot > 0:
            picked[at[slot - 1]] = value
            at[slot - 1] += 1
    for m in range(marked):
        picked[begin[m] : begin[m + 1]].sort()
    for q in range(3):
        out[5 + q] = _between(picked[place[2 * q]], picked[place[2 * q + 1]], _rank(n, q)[1])
    bins[: FLOAT_BINS + 1] = 0


@inlined
def _bin(value, low, scale):
    return np.uint64(np.int64((np.float64(value) - low) * scale))


@inlined
def _rank(n, q):
    """Return the rank below quartile q (0, 1, 2) of n values, and the way from it to the next."""
    position = (n - 1) * (0.25 * (q + 1))
    k = np.int64(position)
    return k, position - k


@inlined
def _quartiles_of_sorted(values, out):
    n = len(values)
    for q in range(3):
        k, above = _rank(n, q)
        a, b = np.float64(values[k]), np.float64(values[min(k + 1, n - 1)])
        out[5 + q] = _between(a, b, above)
