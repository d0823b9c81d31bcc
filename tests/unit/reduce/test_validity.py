import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.reduce.validity import invalid_values, to_stored_unit
from tests.unit.reduce.pixels import blobs, by_numpy, reduce, runs_of


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        ((0.0,), "uint16", [0]),
        ((65_535.0, 0.0, 0.0), "uint16", [0, 65_535]),
        ((-9999.0, 70_000.0, 0.5, float("nan"), float("inf")), "uint16", []),
        ((-9999.0,), "int16", [-9999]),
        ((float("nan"), 0.0), "float32", [0.0]),
        ((-3.40282347e38,), "float32", [np.finfo("float32").min]),
    ],
)
def test_nodata_in_the_bands_own_type(nodata, dtype, expected):
    values = invalid_values(nodata, np.dtype(dtype))
    assert values.tolist() == expected
    assert values.dtype == dtype


def test_raw_1000_is_valid_zero_reflectance_and_900_negative():
    raster = np.array([[0, 900, 1000, 1100]], dtype=np.uint16)
    masks = np.zeros((3, 1, 4), dtype=bool)
    masks[0, 0, 2], masks[1, 0, 1], masks[2] = True, True, True
    stored = to_stored_unit(reduce(runs_of(masks), raster, (0.0,)), 1.0, -1000.0)
    assert stored[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert stored[1, [0, 1, 3, 4]].tolist() == [1, -100, -100, -100]
    assert stored[2, [0, 1, 3, 4, 6]].tolist() == [3, 0, -100, 100, 0]


def test_mapping_is_that_of_mapped_values():
    masks = blobs(np.random.default_rng(0), 20, 30, 30)
    raster = np.random.default_rng(1).integers(1, 9000, (30, 30)).astype(np.uint16)
    raster[masks[3]] = 0
    raw = reduce(runs_of(masks), raster, (0.0,))
    before = raw.copy()
    stored = to_stored_unit(raw, 0.5, -1000.0)
    mapped = np.where(raster == 0, np.nan, raster * 0.5 - 1000.0)
    np.testing.assert_allclose(stored, by_numpy(masks, mapped), rtol=1e-9, atol=1e-9)
    assert np.array_equal(raw, before, equal_nan=True)


@pytest.mark.parametrize(("scale", "offset"), [(0, 0), (-1, 0), (np.nan, 0), (1, np.inf)])
def test_scales_that_would_swap_or_lose_are_refused(scale, offset):
    with pytest.raises(CbmError) as caught:
        to_stored_unit(np.ones((1, 8)), scale, offset)
    assert caught.value.code == "scale_not_positive"
