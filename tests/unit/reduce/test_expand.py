"""Runs of coarse pixels as the fine pixels under them, against numpy's repeat."""

import numpy as np
import pytest

from cbm_extract.plan.lattice import Placement, nest
from cbm_extract.reduce.expand import expand
from tests.unit.reduce.pixels import LATTICE_10M, LATTICE_20M, blobs, masks_of, placed, runs_of


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 1), (-3, 4), (6, -5)])
def test_every_fine_pixel_under_the_runs(down, right):
    """``down``, ``right``: where the first coarse pixel lies in the fine raster."""
    coarse = blobs(np.random.default_rng(0), 30, 25, 30)
    runs = runs_of(coarse, placed(25, 30, LATTICE_20M, -500, 300))
    fine = placed(48, 57, LATTICE_10M, -1000 - down, 600 - right)
    got = expand(runs, fine, nest(fine, runs.placement))
    whole = coarse.repeat(2, axis=1).repeat(2, axis=2)
    expected = np.zeros((30, 48, 57), dtype=bool)
    for r in range(48):
        for c in range(57):
            if 0 <= r - down < 50 and 0 <= c - right < 60:
                expected[:, r, c] = whole[:, r - down, c - right]
    assert np.array_equal(masks_of(got), expected)
    assert got.placement == fine
    for k in range(30):
        part = slice(got.indptr[k], got.indptr[k + 1])
        place = list(zip(got.row[part], got.col[part], strict=True))
        assert place == sorted(place)


def test_runs_longer_than_sixteen_bits_are_split():
    runs = runs_of([np.ones((1, 40_000))], placed(1, 40_000, LATTICE_20M, 0, 0))
    fine = Placement(LATTICE_10M, 0, 0, 2, 80_000)
    got = expand(runs, fine, nest(fine, runs.placement))
    assert np.array_equal(masks_of(got), np.ones((1, 2, 80_000)))
