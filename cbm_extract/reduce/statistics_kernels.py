"""The kernels behind the statistics: see ``statistics`` for what they compute.

``values`` are those of a batch of parcels: parcel p has
``values[before[p] - before[0]:before[p + 1] - before[0]]`` and row ``order[p]`` of the result.
"""
# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import inlined, kernel

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


class Work(NamedTuple):
    """Memory that the kernels use over and over; the same for all types of values."""

    bins: NDArray[np.uint32]
    narrow: NDArray[np.uint16]
    mark: NDArray[np.uint8]
    begin: NDArray[np.int64]
    at: NDArray[np.int64]
    place: NDArray[np.int64]
    floats: NDArray[np.float64]
    picked: NDArray[np.float64]

    @classmethod
    def of(cls, size: int) -> Work:
        """Make room for ``size`` values."""
        bins = HISTOGRAM_RANGE + 2 * BLOCK
        return cls(
            np.zeros(bins, dtype=np.uint32),
            np.zeros(bins, dtype=np.uint16),
            np.zeros(FLOAT_BINS + 1, dtype=np.uint8),
            np.zeros(7, dtype=np.int64),  # where the values of marked bins go in `picked`
            np.zeros(7, dtype=np.int64),  # where the next value of each goes
            np.zeros(6, dtype=np.int64),  # where the six ranks will stand
            np.empty(size, dtype=np.float64),
            np.empty(size, dtype=np.float64),
        )


@kernel
def count_valid(values, before, order, invalid, counts):
    """Count the values that are observations."""
    for p in range(len(order)):
        total = 0
        for value in values[before[p] - before[0] : before[p + 1] - before[0]]:
            valid = np.isfinite(value)
            for bad in invalid:
                valid &= value != bad
            total += valid
        counts[order[p]] = total


@kernel
def reduce_integers(values, before, order, invalid, work, result):
    """Reduce integers of up to 16 bits."""
    room = np.empty(0, values.dtype)
    for p in range(len(order)):
        mine = values[before[p] - before[0] : before[p + 1] - before[0]]
        if len(mine) == 0:
            continue
        low, high, total = _span(mine)
        for bad in invalid:
            if low <= bad <= high:
                if len(mine) > len(room):
                    room = np.empty(len(values), values.dtype)
                mine = _without(mine, invalid, room)
                if len(mine) > 0:
                    low, high, total = _span(mine)
                break
        n = len(mine)
        if n == 0:
            continue
        centre = np.int64(np.rint(total / n))
        squares = _squares(mine, centre, high - low)
        rest = np.float64(total - n * centre)
        out = result[order[p]]
        out[0] = n
        out[1] = total / n
        out[2] = np.sqrt((squares - rest * rest / n) / n)
        out[3] = low
        out[4] = high
        if n < SORT_BELOW or high - low > HISTOGRAM_RANGE:
            floats = _as_floats(mine, work.floats)
            _quartiles_of_floats(floats, np.float64(low), np.float64(high), work, out)
        elif n <= NARROW_LIMIT:
            _quartiles_by_counting(mine, low, high, work.narrow, out)
        else:
            _quartiles_by_counting(mine, low, high, work.bins, out)


@kernel
def reduce_floats(values, before, order, invalid, work, result):
    """Reduce floats; NaN and infinities are no observations."""
    for p in range(len(order)):
        mine = values[before[p] - before[0] : before[p + 1] - before[0]]
        valid = _valid_floats(mine, invalid, work.floats)
        if len(valid) > 0:
            _reduce_valid_floats(valid, work, result[order[p]])


@inlined
def _reduce_valid_floats(values, work, out):
    n = len(values)
    low, high, total = _span_float(values)
    # Corrected two-pass (Chan, Golub and LeVeque 1983): `rest` undoes the rounding of `centre`.
    centre = total / n
    rest, squares = _squares_float(values, centre)
    out[0] = n
    out[1] = min(max(centre + rest / n, low), high)
    out[2] = np.sqrt(max(squares - rest * rest / n, 0.0) / n) if low < high else 0.0
    out[3] = low
    out[4] = high
    _quartiles_of_floats(values, low, high, work, out)


@inlined
def _span_float(values):
    """Return minimum, maximum and sum; four sums at a time, which does not wait for each other."""
    low = high = values[0]
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    n = np.uint64(len(values))
    i = np.uint64(0)
    while i + np.uint64(3) < n:
        w, x = values[i], values[i + np.uint64(1)]
        y, z = values[i + np.uint64(2)], values[i + np.uint64(3)]
        a, b, c, d = a + w, b + x, c + y, d + z
        smaller, larger = (w, x) if w < x else (x, w)
        less, more = (y, z) if y < z else (z, y)
        smallest = smaller if smaller < less else less
        largest = larger if larger > more else more
        low = smallest if smallest < low else low
        high = largest if largest > high else high
        i += np.uint64(4)
    while i < n:
        value = values[i]
        a += value
        low = value if value < low else low
        high = value if value > high else high
        i += np.uint64(1)
    return low, high, (a + b) + (c + d)


@inlined
def _squares_float(values, centre):
    """Return the sums of differences from ``centre`` and of their squares."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    n = np.uint64(len(values))
    i = np.uint64(0)
    while i + np.uint64(1) < n:
        x = values[i] - centre
        y = values[i + np.uint64(1)] - centre
        a, b = a + x, b + y
        c, d = c + x * x, d + y * y
        i += np.uint64(2)
    if i < n:
        x = values[i] - centre
        a, c = a + x, c + x * x
    return a + b, c + d


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
def _without(values, invalid, room):
    n = 0
    for value in values:
        valid = True
        for bad in invalid:
            valid &= value != bad
        room[n] = value
        n += valid
    return room[:n]


@inlined
def _valid_floats(values, invalid, room):
    n = 0
    for value in values:
        valid = np.isfinite(value)
        for bad in invalid:
            valid &= value != bad
        room[n] = value
        n += valid
    return room[:n]


@inlined
def _as_floats(values, room):
    for i in range(len(values)):
        room[i] = values[i]
    return room[: len(values)]


@inlined
def _between(a, b, t):
    """Numpy's interpolation (lib._function_base_impl._lerp), branch included."""
    step = b - a
    if t >= 0.5:
        return b - step * (1.0 - t)
    return a + step * t


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
def _quartiles_of_floats(values, low, high, work, out):
    """Use equal bins between low and high, then sorting within those that hold a quartile.

    The bin rises with the value (subtraction, multiplication and truncation are monotone), so that
    ranks carry over. ``work.bins`` and ``work.mark`` come and go with zeros; ``values`` may be
    sorted on the way.
    """
    n = len(values)
    count = min(max(n // 2, 32), FLOAT_BINS)
    scale = count / (high - low)
    # A few, all equal, or of a range float64 cannot hold.
    if n < SORT_BELOW or not np.isfinite(scale) or scale == 0.0:
        _sort(values, 0, n)
        for q in range(3):
            k, above = _rank(n, q)
            out[5 + q] = _between(values[k], values[min(k + 1, n - 1)], above)
        return
    bins, mark, begin, at, place = work.bins, work.mark, work.begin, work.at, work.place
    for value in values:
        bins[_bin(value, low, scale)] += np.uint32(1)
    # Ranks k and k + 1 of the three quartiles rise: one walk finds and marks the bins they are in.
    marked, b, below = 0, np.int64(0), np.int64(0)
    for step in range(6):
        rank = _rank(n, step // 2)[0] + step % 2
        while below + bins[b] <= rank:
            below += np.int64(bins[b])
            b += 1
        if mark[b] == 0:
            marked += 1
            mark[b] = marked
            at[marked] = begin[marked - 1]
            begin[marked] = begin[marked - 1] + np.int64(bins[b])
        place[step] = begin[marked - 1] + rank - below
    for value in values:
        slot = mark[_bin(value, low, scale)]
        if slot > 0:
            work.picked[at[slot]] = value
            at[slot] += 1
    for m in range(marked):
        _sort(work.picked, begin[m], begin[m + 1])
    for q in range(3):
        a, c = work.picked[place[2 * q]], work.picked[place[2 * q + 1]]
        out[5 + q] = _between(a, c, _rank(n, q)[1])
    bins[: count + 1] = 0
    mark[: count + 1] = 0


@kernel
def _sort(values, begin, end):
    """Sort values [begin, end) in place (Shellsort: compiles fast, and mostly there are a few)."""
    gap = 1
    while gap < (end - begin) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            value = values[i]
            j = i
            while j >= begin + gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@inlined
def _bin(value, low, scale):
    return np.uint64(np.int64((value - low) * scale))


@inlined
def _rank(n, q):
    """Return the rank below quartile q (0, 1, 2) of n values, and the way from it to the next."""
    position = (n - 1) * (0.25 * (q + 1))
    k = np.int64(position)
    return k, position - k
