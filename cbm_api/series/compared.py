"""A parcel's series beside those of other parcels: pass by pass, how their values are spread."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cbm_api.queries.signatures import PASS

SPREAD = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_OF_SCENE = {"pid", "obstime", "reference", "part", "tile", "platform"}
_OF_SCENE |= {"orbit_direction", "relative_orbit"}
_OF_IMAGE = {"px_imaged", "px_clear", "clouded"}


def compare(own: pa.Table, others: pa.Table) -> pa.Table:
    """Return a row per pass, by time: the parcel's values, and the spread of the others'.

    ``own`` and ``others`` are tables of :mod:`cbm_api.series.table` with the same columns. Of each
    number ``X`` there are ``X`` (the parcel's, null without a row), ``X_peers_count`` (others with
    a value), and ``X_peers_mean``, ``_std`` (population), ``_min``, ``_p25``, ``_p50``, ``_p75``
    and ``_max`` (linear between values, as numpy's default), null where the count is 0. What says
    how well the parcel was seen (``px_imaged``, ``px_clear``, ``clouded``) stands alone.
    """
    both = pa.concat_tables([own, others])
    passes, starts = _passes(both)
    parcels = np.unique(np.array(others["pid"].to_pylist(), dtype=object), return_inverse=True)[1]
    size = len(starts), int(parcels.max(initial=-1)) + 1
    columns: dict[str, pa.Array] = {
        "obstime": both["obstime"].take(starts),
        "platform": both["platform"].take(starts),
        "orbit_direction": both["orbit_direction"].take(starts),
    }
    for name in both.column_names:
        if name in _OF_SCENE:
            continue
        values = both[name].cast(pa.float64()).to_numpy()
        mine = np.full(size[0], np.nan)
        mine[passes[: own.num_rows]] = values[: own.num_rows]
        columns[name] = _numbers(mine)
        if name in _OF_IMAGE:
            continue
        theirs = np.full(size, np.nan)
        theirs[passes[own.num_rows :], parcels] = values[own.num_rows :]
        for kind, found in zip(SPREAD, _spread(theirs), strict=True):
            columns[f"{name}_peers_{kind}"] = (
                pa.array(found.astype(np.int32)) if kind == "count" else _numbers(found)
            )
    return pa.table(columns)


def _passes(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pass of each row, numbered by time, and the first row of each pass.

    A platform's images an hour apart are of two passes.
    """
    times = rows["obstime"].to_numpy().astype("datetime64[us]")
    names = np.array(rows["platform"].to_pylist(), dtype=object).astype(str)
    order = np.lexsort((times, names))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(times[order]) > np.timedelta64(PASS)) | (
        names[order][1:] != names[order][:-1]
    )
    starts = order[new]
    by_time = np.lexsort((names[starts], times[starts]))
    passes = np.empty(len(order), dtype=np.int64)
    passes[order] = np.argsort(by_time)[np.cumsum(new) - 1]
    return passes, starts[by_time]


def _spread(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return :data:`SPREAD` of each row of values [passes, parcels], NaN left out."""
    count = np.isfinite(values).sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(values, axis=1) / count
        std = np.sqrt(np.nansum((values - mean[:, None]) ** 2, axis=1) / count)
    # NaN is sorted to the end.
    ranked = np.sort(np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan), axis=1)
    low, q25, q50, q75, high = (_quantile(ranked, count, share) for share in _QUANTILES)
    return [count.astype(np.float64), mean, std, low, q25, q50, q75, high]


def _quantile(
    ranked: NDArray[np.float64], count: NDArray[np.int64], share: float
) -> NDArray[np.float64]:
    place = share * np.maximum(count - 1, 0)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    first, second = (np.take_along_axis(ranked, at[:, None], 1)[:, 0] for at in (below, above))
    return first + (second - first) * (place - below)


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=~np.isfinite(values))
