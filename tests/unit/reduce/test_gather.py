import numpy as np
import pytest

from cbm_extract.reduce.band import BandReducer
from cbm_extract.reduce.gather import BATCH_PIXELS, Gather
from tests.unit.reduce.pixels import (
    LATTICE_10M,
    LATTICE_20M,
    blobs,
    by_numpy,
    placed,
    reduce,
    runs_of,
)


class Kept:
    """Keeps each parcel's values."""

    def __init__(self, runs):
        self.schedule, self.values = runs.schedule, {}

    def take(self, batch):
        before = self.schedule.pixels_before
        for p in range(batch.begin, batch.end):
            part = slice(before[p] - before[batch.begin], before[p + 1] - before[batch.begin])
            self.values[int(self.schedule.order[p])] = batch.values[part].copy()


def gathered(runs, raster, placement=None, nodata=(), strip=64):
    kept = Kept(runs)
    gather = Gather(runs, placement or runs.placement, nodata, [kept])
    for row0 in range(0, len(raster), strip):
        gather.feed(row0, raster[row0 : row0 + strip])
    gather.finish()
    return kept.values


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(10)
    masks = blobs(rng, 60, 130, 90, largest=40)
    raster = rng.integers(0, 9000, masks.shape[1:]).astype(np.uint16)
    return masks, runs_of(masks), raster


@pytest.mark.parametrize("strip", [1, 7, 64, 130, 1000])
def test_values_come_whole_and_in_order(case, strip):
    masks, runs, raster = case
    values = gathered(runs, raster, strip=strip)
    assert set(values) == set(range(len(masks)))
    for k, mask in enumerate(masks):
        assert np.array_equal(values[k], raster[mask])


def test_results_do_not_depend_on_strips(case):
    _, runs, raster = case
    for source in (raster, np.random.default_rng(1).normal(5, 2, raster.shape).astype(np.float32)):
        first = reduce(runs, source, strip=130)
        for strip in (1, 3, 50, 64, 129):
            again = reduce(runs, source, strip=strip)
            assert np.array_equal(again, first, equal_nan=True)
    assert np.array_equal(first, reduce(runs, np.asfortranarray(source)), equal_nan=True)


def test_a_buffer_may_be_reused_for_every_strip(case):
    _, runs, raster = case
    reducer, buffer = BandReducer(runs), np.empty((40, raster.shape[1]), raster.dtype)
    for row0 in range(0, len(raster), 40):
        part = raster[row0 : row0 + 40]
        buffer[: len(part)] = part
        reducer.feed(row0, buffer[: len(part)])
        buffer[:] = 7777
    assert np.array_equal(reducer.finish(), reduce(runs, raster), equal_nan=True)


def test_unwanted_rows_need_not_be_fed():
    masks = np.zeros((2, 100, 10), dtype=bool)
    masks[0, 10:30, 2:5] = True
    masks[1, [5, 90], 7] = True  # two parts, far apart
    runs = runs_of(masks)
    raster = np.random.default_rng(0).integers(1, 99, (100, 10)).astype(np.uint8)
    reducer = BandReducer(runs)
    fed = 0
    for row0 in range(0, 100, 10):
        if reducer.wanted(row0, row0 + 10):
            reducer.feed(row0, raster[row0 : row0 + 10])
            fed += 1
    assert fed == 4
    assert np.array_equal(reducer.finish()[:, 1], by_numpy(masks, raster)[:, 1])


def test_wanted_rows_left_out_are_noticed(case):
    _, runs, raster = case
    reducer = BandReducer(runs)
    reducer.feed(0, raster[:50])
    with pytest.raises(ValueError, match="50 to 69 are wanted"):
        reducer.feed(70, raster[70:])
    reducer = BandReducer(runs)
    reducer.feed(0, raster[:50])
    with pytest.raises(ValueError, match="50 to 129 are wanted"):
        reducer.finish()
    with pytest.raises(ValueError, match="next row is 50"):
        reducer.feed(20, raster[20:60])
    with pytest.raises(ValueError, match="next row is 0"):
        BandReducer(runs).feed(0, raster[:, :-1])
    with pytest.raises(ValueError, match="int16"):
        reducer.feed(50, raster[50:].astype(np.int16))


def test_no_parcel_needs_no_strip():
    empty = runs_of([np.zeros((5, 5))])
    assert BandReducer(empty).finish().tolist()[0][0] == 0


def test_batches_hold_whole_parcels_of_any_size():
    big = np.ones((400, 400), dtype=bool)
    assert big.sum() > BATCH_PIXELS
    small = np.zeros_like(big)
    small[399, 3:9] = True
    raster = np.random.default_rng(0).integers(0, 99, big.shape).astype(np.uint8)
    values = gathered(runs_of([small, big, small, big]), raster, strip=128)
    assert np.array_equal(values[1], raster.ravel())
    assert np.array_equal(values[0], raster[small])
    assert np.array_equal(values[3], values[1])


def mean_of_squares(raster, rows, cols, factor, down, right, bad):
    """Brute force: mean of each coarse pixel's square of fine ones, NaN unless all are valid."""
    out = np.full((rows, cols), np.nan)
    for r in range(rows):
        for c in range(cols):
            top, left = r * factor + down, c * factor + right
            if min(top, left) < 0:
                continue
            square = raster[top : top + factor, left : left + factor].astype(np.float64)
            if square.size == factor**2 and not (square == bad).any():
                out[r, c] = square.mean()
    return out


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-3, 1), (4, -5)])
@pytest.mark.parametrize("strip", [1, 5, 16, 200])
def test_finer_bands_are_averaged_under_each_pixel(down, right, strip):
    rng = np.random.default_rng(12)
    masks = blobs(rng, 25, 40, 30)
    coarse = placed(40, 30, LATTICE_20M, -500, 300)
    fine = placed(77, 63, LATTICE_10M, -1000 - down, 600 - right)
    raster = rng.integers(1, 9000, (77, 63)).astype(np.uint16)
    raster[rng.random(raster.shape) < 0.05] = 0
    values = gathered(runs_of(masks, coarse), raster, fine, (0.0,), strip)
    expected = mean_of_squares(raster, 40, 30, 2, down, right, 0)
    for k, mask in enumerate(masks):
        assert np.array_equal(values[k], expected[mask], equal_nan=True)


def test_same_lattice_other_extent_is_read_by_offset():
    rng = np.random.default_rng(13)
    masks = blobs(rng, 20, 30, 30)
    raster = rng.integers(1, 9000, (25, 40)).astype(np.uint16)
    other = placed(25, 40, row0=-997, col0=595)
    values = gathered(runs_of(masks), raster, other, strip=8)
    expected = np.full((30, 30), np.nan)
    expected[3:28] = raster[:, 5:35]
    for k, mask in enumerate(masks):
        assert np.array_equal(values[k], expected[mask], equal_nan=True)


def test_averaging_asks_only_for_the_rows_it_needs():
    mask = np.zeros((40, 30), dtype=bool)
    mask[10:12] = True
    gather = Gather(runs_of([mask], placed(40, 30, LATTICE_20M, -500, 300)), placed(80, 60), (), [])
    wanted = [row for row in range(80) if gather.wanted(row, row + 1)]
    assert wanted == [20, 21, 22, 23]
    raster = np.ones((80, 60), np.uint8)
    gather.feed(20, raster[20:23])
    with pytest.raises(ValueError, match="wanted"):
        gather.feed(24, raster[24:30])
