"""Runs from masks, and what numpy makes of the same pixels."""

import numpy as np

from cbm_extract.plan.lattice import Lattice, Placement
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.band import BandReducer

LATTICE_10M = Lattice("EPSG:32632", 10.0, 10.0, 0.0, 0.0)
LATTICE_20M = Lattice("EPSG:32632", 20.0, 20.0, 0.0, 0.0)


def placed(height, width, lattice=LATTICE_10M, row0=-1000, col0=600) -> Placement:
    return Placement(lattice, row0, col0, height, width)


def runs_of(masks, placement=None, ids=None) -> Runs:
    """Runs of the True pixels of each mask, bool [n, height, width]."""
    masks = [np.asarray(mask, dtype=bool) for mask in masks]
    placement = placement or placed(*masks[0].shape)
    row, col, length, indptr = [], [], [], [0]
    for mask in masks:
        for r in range(mask.shape[0]):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], mask[r], [0]])))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                row.append(r)
                col.append(start)
                length.append(stop - start)
        indptr.append(len(row))
    count = len(masks)
    return Runs(
        placement,
        np.arange(1, count + 1, dtype=np.int32) if ids is None else np.array(ids, dtype=np.int32),
        np.ones(count, dtype=bool),
        np.array(indptr, dtype=np.int64),
        np.array(row, dtype=np.int32),
        np.array(col, dtype=np.int32),
        np.array(length, dtype=np.uint16),
    )


def masks_of(runs: Runs) -> np.ndarray:
    out = np.zeros((len(runs.geometry_ids), runs.placement.height, runs.placement.width), bool)
    for k in range(len(runs.geometry_ids)):
        for j in range(runs.indptr[k], runs.indptr[k + 1]):
            here = out[k, runs.row[j], runs.col[j] : runs.col[j] + runs.length[j]]
            assert not here.any(), "a pixel is in two runs"
            here[:] = True
    return out


def blobs(rng, count, height, width, largest=12):
    """Masks of overlapping ellipses and scattered pixels."""
    y, x = np.mgrid[:height, :width]
    found = []
    for _ in range(count):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.6, largest, 2)
        mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        if rng.random() < 0.3:
            mask &= rng.random(mask.shape) < 0.7
        found.append(mask)
    return np.array(found)


def reduce(runs, raster, nodata=(), strip=64, reducer=BandReducer):
    one = reducer(runs, nodata)
    for row0 in range(0, len(raster), strip):
        one.feed(row0, raster[row0 : row0 + strip])
    return one.finish()


def by_numpy(masks, raster, nodata=()) -> np.ndarray:
    """The eight statistics of float64 copies."""
    out = np.full((len(masks), 8), np.nan)
    for k, mask in enumerate(masks):
        values = raster[mask]
        values = values[np.isfinite(values)]
        for bad in nodata:
            values = values[values != bad]
        values = values.astype(np.float64)
        out[k, 0] = len(values)
        if len(values):
            out[k, 1:5] = values.mean(), values.std(), values.min(), values.max()
            out[k, 5:] = np.percentile(values, [25, 50, 75])
    return out


EXACT = [0, 3, 4, 5, 6, 7]  # count, min, max, quartiles


def assert_same(got, expected, mean=1e-12, std=1e-12):
    assert np.array_equal(got[:, EXACT], expected[:, EXACT], equal_nan=True)
    # Relative to the values' size: a mean near zero has the error of what it is the mean of.
    size = np.nan_to_num(np.abs(expected[:, 1]) + expected[:, 2])
    assert np.array_equal(np.isnan(got[:, 1]), np.isnan(expected[:, 1]))
    assert (np.abs(np.nan_to_num(got[:, 1] - expected[:, 1])) <= mean * size).all()
    np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=std, atol=1e-300)
