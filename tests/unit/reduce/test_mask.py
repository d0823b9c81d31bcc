import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Lattice
from cbm_extract.reduce.mask import class_mask, cut, without_clouded
from tests.unit.reduce.pixels import LATTICE_10M, LATTICE_20M, blobs, masks_of, placed, runs_of

CLOUDS = (0, 1, 3, 8, 9, 10, 11)


def patches(rng, height, width):
    """Classes in patches, as clouds are."""
    coarse = rng.integers(0, 12, (height // 4 + 1, width // 4 + 1))
    return np.kron(coarse, np.ones((4, 4), int))[:height, :width].astype(np.uint8)


def dilated(masked, reach, resolution):
    """Brute force: within ``reach`` metres of a masked pixel's centre."""
    rows, cols = np.nonzero(masked)
    r, c = np.mgrid[: masked.shape[0], : masked.shape[1]]
    out = np.zeros(masked.shape, dtype=bool)
    for row, col in zip(rows, cols, strict=True):
        out |= np.hypot(r - row, c - col) * resolution <= reach + 1e-6
    return out


def test_same_grid():
    rng = np.random.default_rng(0)
    masks = blobs(rng, 40, 50, 45)
    classes = patches(rng, 50, 45)
    runs = runs_of(masks)
    left = cut(runs, class_mask(runs.placement, classes, CLOUDS)).runs
    assert np.array_equal(masks_of(left), masks & ~np.isin(classes, CLOUDS))
    assert left.geometry_ids is runs.geometry_ids
    assert left.placement == runs.placement


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 1), (-4, 3), (5, -7)])
@pytest.mark.parametrize("masked", [CLOUDS, (3, 9)])
def test_ten_metres_under_a_mask_of_twenty(down, right, masked):
    """``down``, ``right``: where the mask's first pixel lies in our raster."""
    rng = np.random.default_rng(1)
    masks = blobs(rng, 40, 60, 70)
    classes = patches(rng, 28, 33)
    mask = class_mask(placed(28, 33, LATTICE_20M, -500, 300), classes, masked)
    runs = runs_of(masks, placed(60, 70, LATTICE_10M, -1000 - down, 600 - right))
    seen = np.zeros((60, 70), np.uint8)  # outside the class raster: class 0
    for r in range(60):
        for c in range(70):
            row, col = (r - down) // 2, (c - right) // 2
            if 0 <= row < 28 and 0 <= col < 33:
                seen[r, c] = classes[row, col]
    left = cut(runs, mask)
    assert np.array_equal(masks_of(left.runs), masks & ~np.isin(seen, masked))
    hidden = np.isin(seen, masked) & (seen != 0)
    assert left.hidden.tolist() == (masks & hidden).sum(axis=(1, 2)).tolist()
    clear = ~np.isin(seen, masked) & (seen != 0)
    assert left.clear.tolist() == (masks & clear).sum(axis=(1, 2)).tolist()


def test_sixty_metres_over_a_mask_of_twenty():
    rng = np.random.default_rng(2)
    masks = blobs(rng, 20, 20, 20)
    classes = patches(rng, 66, 60)
    lattice = Lattice("EPSG:32632", 60.0, 60.0, 0.0, 0.0)
    runs = runs_of(masks, placed(20, 20, lattice, -100, 50))
    mask = class_mask(placed(66, 60, LATTICE_20M, -303, 150), classes, (3, 9))
    squares = classes[3:63].reshape(20, 3, 20, 3)
    masked, empty = np.isin(squares, (3, 9)).any(axis=(1, 3)), (squares == 0).any(axis=(1, 3))
    left = cut(runs, mask)
    assert np.array_equal(masks_of(left.runs), masks & ~masked)
    assert left.hidden.tolist() == (masks & masked & ~empty).sum(axis=(1, 2)).tolist()
    assert left.clear.tolist() == (masks & ~masked & ~empty).sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("reach", [10, 20, 28.3, 45, 60, 100])
def test_dilation_is_a_disk(reach):
    rng = np.random.default_rng(3)
    classes = np.full((50, 40), 4, np.uint8)
    classes[rng.random(classes.shape) < 0.01] = 9
    classes[rng.random(classes.shape) < 0.05] = 0
    classes[0, 0] = classes[49, 39] = classes[20:26, 10:14] = 8
    everything = runs_of([np.ones((50, 40))], placed(50, 40, LATTICE_20M))
    left = cut(everything, class_mask(everything.placement, classes, (8, 9), reach))
    hidden = dilated(np.isin(classes, (8, 9)), reach, 20)
    assert np.array_equal(masks_of(left.runs)[0], ~hidden)
    assert left.hidden.tolist() == [(hidden & (classes != 0)).sum()]
    assert left.clear.tolist() == [(~hidden & (classes != 0)).sum()]


def test_the_outside_spreads_nothing_but_counts_as_no_data():
    classes = np.full((10, 10), 4, np.uint8)
    runs = runs_of([np.ones((22, 22))], placed(22, 22, row0=-1001, col0=599))
    inside = np.zeros((22, 22), dtype=bool)
    inside[1:21, 1:21] = True
    left = cut(runs, class_mask(placed(10, 10, LATTICE_20M, -500, 300), classes, (0, 9), 60))
    assert np.array_equal(masks_of(left.runs)[0], inside)
    assert left.hidden.tolist() == [0]


def test_wholly_masked_parcels_stay_without_runs():
    masks = np.zeros((3, 6, 6), dtype=bool)
    masks[0, :2], masks[1, 3:], masks[2] = True, True, True
    classes = np.full((6, 6), 4, np.uint8)
    classes[:2] = 9
    runs = runs_of(masks)
    left = cut(runs, class_mask(runs.placement, classes, (9,)))
    assert left.runs.pixels.tolist() == [0, 18, 24]
    assert left.runs.geometry_ids.tolist() == [1, 2, 3]
    again = cut(left.runs, class_mask(runs.placement, classes, (4,)))
    assert again.runs.pixels.tolist() == [0, 0, 0]


def test_checkerboard_splits_every_run():
    classes = np.indices((40, 400)).sum(axis=0).astype(np.uint8) % 2 * 9
    runs = runs_of([np.ones((40, 400))] * 5)
    left = cut(runs, class_mask(runs.placement, classes, (9,)))
    assert np.array_equal(masks_of(left.runs)[4], classes == 0)


def test_nothing_masked_changes_nothing():
    masks = blobs(np.random.default_rng(4), 20, 30, 30)
    runs = runs_of(masks)
    left = cut(runs, class_mask(runs.placement, np.full((30, 30), 4, np.uint8), (), 50))
    assert np.array_equal(masks_of(left.runs), masks)
    assert not left.hidden.any()


def test_what_cannot_be_masked_is_refused():
    classes = np.zeros((10, 10), np.uint8)
    degrees = placed(10, 10, Lattice("EPSG:4326", 1e-4, 1e-4, 0.0, 0.0))
    with pytest.raises(CbmError) as caught:
        class_mask(degrees, classes, (9,), 20)
    assert caught.value.code == "dilation_in_degrees"
    with pytest.raises(CbmError) as caught:
        cut(runs_of([np.ones((10, 10))]), class_mask(degrees, classes, (9,)))
    assert caught.value.code == "grids_not_nested"
    with pytest.raises(ValueError, match="classes"):
        class_mask(placed(5, 5), classes, (9,))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_clouded_parcels_lose_all_their_pixels_on_all_grids(share):
    """The finest grid decides; a parcel at the very share stays."""
    rng = np.random.default_rng(7)
    masks = blobs(rng, 60, 60, 70)
    masks[0] = False
    masks[0, :2, :10] = True  # five pixels of the class raster
    classes = patches(rng, 30, 35)
    classes[0, :5] = (4, 4, 0, 9, 9)
    coarse = masks[:, ::2, ::2]
    mask = class_mask(placed(30, 35, LATTICE_20M, -500, 300), classes, CLOUDS)
    fine_runs = runs_of(masks, placed(60, 70))
    has = coarse.any(axis=(1, 2))
    coarse_runs = runs_of(coarse[has], mask.placement, np.flatnonzero(has) + 1)
    cuts = [cut(coarse_runs, mask), cut(fine_runs, mask)]
    left_coarse, left_fine = without_clouded(cuts, share)
    fine_classes = classes.repeat(2, axis=0).repeat(2, axis=1)
    clouded = np.zeros(60, dtype=bool)
    for k, inside in enumerate(masks):
        seen = fine_classes[inside & (fine_classes != 0)]
        clouded[k] = len(seen) > 0 and (~np.isin(seen, CLOUDS)).mean() < share
    assert clouded[0] == (share == 1.0)  # half of its pixels with data are clear
    assert 0 < clouded.sum() < 60
    for left, inside, bad, one in (
        (left_fine, masks, clouded, fine_classes),
        (left_coarse, coarse[has], clouded[has], classes),
    ):
        keep = inside & ~np.isin(one, CLOUDS) & ~bad[:, None, None]
        assert np.array_equal(masks_of(left.runs), keep)
        taken = inside & ~keep & (one != 0)
        assert left.hidden.tolist() == taken.sum(axis=(1, 2)).tolist()
        assert left.clear.tolist() == (keep & (one != 0)).sum(axis=(1, 2)).tolist()
