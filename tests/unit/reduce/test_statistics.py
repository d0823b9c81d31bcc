import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rasterstats import zonal_stats

from cbm_core.errors import CbmError
from cbm_extract.plan import pipeline
from cbm_extract.plan.build import build_chunks
from cbm_extract.plan.lattice import Placement
from cbm_extract.plan.window import clip
from tests.unit.reduce.pixels import (
    LATTICE_10M,
    assert_same,
    blobs,
    by_numpy,
    placed,
    reduce,
    runs_of,
)


@pytest.fixture(scope="module")
def scattered():
    """Overlapping parcels over three strips, some of a single pixel."""
    masks = blobs(np.random.default_rng(1), 120, 150, 170)
    masks = masks[masks.any(axis=(1, 2))]
    return masks, runs_of(masks)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_equal_to_rasterstats_on_2000_parcels():
    rng = np.random.default_rng(7)
    size, count, west, north = 1000, 2000, 600_000, 5_200_000
    radius = rng.choice([5, 15, 40, 120], count)
    centres = np.column_stack(
        [west + rng.uniform(200, 9800, count), north - rng.uniform(200, 9800, count)]
    )
    angle = np.sort(rng.uniform(0, 2 * np.pi, (count, 9)), axis=1)
    reach = radius[:, None] * rng.uniform(0.5, 1, (count, 9))
    corners = centres[:, None] + np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=2)
    parcels = shapely.make_valid(shapely.polygons(corners))
    crs = "EPSG:32632"
    chunks = build_chunks(
        np.arange(count, dtype=np.int32),
        shapely.to_wkb(parcels),
        crs,
        LATTICE_10M,
        0.0,
        pipeline.choose(crs, crs, (8.0, 46.0, 11.0, 48.0)),
    )
    runs = clip(chunks, Placement(LATTICE_10M, -north // 10, west // 10, size, size))
    raster = rng.integers(900, 6000, (size, size)).astype(np.uint16)
    raster[rng.random(raster.shape) < 0.03] = 0
    got = reduce(runs, raster, (0.0,), strip=256)

    names = [
        "count",
        "mean",
        "std",
        "min",
        "max",
        "percentile_25",
        "percentile_50",
        "percentile_75",
    ]
    theirs = zonal_stats(
        list(parcels), raster, affine=Affine(10, 0, west, 0, -10, north), nodata=0, stats=names
    )
    pixels = dict(zip(runs.geometry_ids.tolist(), got, strict=True))
    for k, row in enumerate(theirs):
        if not row["count"]:
            assert k not in pixels or pixels[k][0] == 0
            continue
        mine = pixels[k]
        for name, value in zip(names, mine, strict=True):
            if name == "std":
                assert value == pytest.approx(row[name], rel=1e-12, abs=1e-12)
            else:
                assert value == row[name], (k, name)
    assert len(pixels) > 1600


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("spread", [0, 3, 200, 30_000])
def test_every_type_as_numpy(scattered, dtype, spread):
    masks, runs = scattered
    rng = np.random.default_rng(spread)
    raster = rng.normal(100, 1 + spread / 3, masks.shape[1:])
    if dtype != "float32" and dtype != "float64":
        limits = np.iinfo(dtype)
        raster = np.clip(np.round(raster), limits.min, limits.max)
    raster = raster.astype(dtype)
    assert_same(reduce(runs, raster), by_numpy(masks, raster))


def test_integer_means_are_exact(scattered):
    masks, runs = scattered
    raster = np.random.default_rng(3).integers(0, 65_536, masks.shape[1:]).astype(np.uint16)
    assert_same(reduce(runs, raster), by_numpy(masks, raster), mean=0)


@pytest.mark.parametrize("nodata", [(0.0,), (0.0, 65_535.0), (-9999.0, 0.0, 0.5, float("nan"))])
def test_nodata_inside_parcels(scattered, nodata):
    masks, runs = scattered
    rng = np.random.default_rng(4)
    raster = rng.integers(1, 60_000, masks.shape[1:]).astype(np.uint16)
    raster[rng.random(raster.shape) < 0.2] = 0
    raster[rng.random(raster.shape) < 0.1] = 65_535
    raster[masks[5]] = 0
    raster[masks[6] & (rng.random(raster.shape) < 0.9)] = 0
    expected = by_numpy(masks, raster, nodata)
    got = reduce(runs, raster, nodata)
    assert_same(got, expected)
    assert got[5, 0] == 0
    assert np.isnan(got[5, 1:]).all()


@pytest.mark.parametrize("nodata", [(), (0.0,), (-3.4028234663852886e38,), (0.1,)])
def test_floats_with_zero_nan_or_odd_nodata(scattered, nodata):
    masks, runs = scattered
    rng = np.random.default_rng(5)
    raster = rng.gamma(0.5, 0.05, masks.shape[1:]).astype(np.float32)
    hole = rng.random(raster.shape)
    raster[hole < 0.1] = np.nan
    raster[(hole > 0.1) & (hole < 0.15)] = np.inf
    for value in nodata:
        raster[hole > 0.8] = np.float32(value)
    expected = by_numpy(masks, raster, [np.float32(value) for value in nodata])
    assert_same(reduce(runs, raster, nodata), expected, mean=1e-13, std=1e-11)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize(
    "exponents", [(0, 256), (0, 1), (0, 3), (254, 256)], ids=["any", "denormal", "tiny", "huge"]
)
def test_floats_of_any_bits(scattered, exponents):
    """Denormals, both zeros, NaN of any payload, infinities of both signs, the largest numbers."""
    masks, runs = scattered
    rng = np.random.default_rng(12)
    shape = masks.shape[1:]
    sign = rng.integers(0, 2, shape).astype(np.uint32) << 31
    exponent = rng.integers(*exponents, shape).astype(np.uint32) << 23
    fraction = rng.integers(0, 2**23, shape).astype(np.uint32)
    fraction[rng.random(shape) < 0.1] = 0  # zeros and infinities
    raster = (sign | exponent | fraction).view(np.float32)
    got, expected = reduce(runs, raster), by_numpy(masks, raster)
    exactly = [0, 3, 4, 5, 6, 7]
    assert np.array_equal(got[:, exactly], expected[:, exactly], equal_nan=True)
    some = expected[:, 0] > 0
    assert some.sum() > 10
    largest = np.abs(expected[some][:, [3, 4]]).max(axis=1)
    assert (np.abs(got[some, 1] - expected[some, 1]) <= 1e-15 * largest).all()
    np.testing.assert_allclose(got[some, 2], expected[some, 2], rtol=1e-11)


def test_float_variance_survives_a_large_offset(scattered):
    masks, runs = scattered
    raster = np.random.default_rng(6).normal(10_000, 20, masks.shape[1:]).astype(np.float32)
    got, expected = reduce(runs, raster), by_numpy(masks, raster)
    assert_same(got, expected, std=1e-9)
    big = got[:, 0] > 100
    assert (np.abs(got[big, 2] - 20) < 6).all()


def test_equal_values_have_no_deviation(scattered):
    masks, runs = scattered
    for value in (np.float32(0.1), np.float64(1e300), np.uint16(65_535), np.float32(-0.0)):
        raster = np.full(masks.shape[1:], value)
        got = reduce(runs, raster)
        assert (got[:, 2] == 0).all()
        assert (got[:, [1, 3, 4, 5, 6, 7]] == np.float64(value)).all()


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_heavy_tails_fall_into_one_bin_and_stay_exact(scattered):
    masks, runs = scattered
    raster = np.random.default_rng(8).lognormal(0, 9, masks.shape[1:])
    raster[::31, ::17] = 1e300
    raster[::29, ::19] = -1e300
    got, expected = reduce(runs, raster), by_numpy(masks, raster)
    assert np.array_equal(got[:, 3:], expected[:, 3:])


def test_extremes_beyond_any_range():
    raster = np.full((40, 40), 1.5)
    raster[::2], raster[1::4] = -1.7e308, 1.7e308
    got = reduce(runs_of([np.ones((40, 40))]), raster)
    quartiles = np.percentile(raster, [25, 50, 75]).tolist()
    assert got[0, 3:].tolist() == [-1.7e308, 1.7e308, *quartiles]


def test_parcel_of_more_than_65535_pixels():
    rng = np.random.default_rng(9)
    big = np.ones((400, 300), dtype=bool)
    big[100:120, 50:60] = False
    small = np.zeros_like(big)
    small[200:203, 100:104] = True
    for raster in (
        rng.integers(0, 10_000, big.shape).astype(np.uint16),
        rng.integers(0, 65_536, big.shape).astype(np.uint16),
        np.full(big.shape, 4000, np.uint16),  # one bin counts over 65,535
        rng.normal(0, 1, big.shape).astype(np.float32),
        np.where(rng.random(big.shape) < 0.999, 1.0, 2e9).astype(np.float32),
    ):
        got = reduce(runs_of([big, small, big]), raster, strip=128)
        assert_same(got, by_numpy([big, small, big], raster), mean=1e-13, std=1e-11)
        assert got[0, 0] == 400 * 300 - 200


def test_parcels_that_overlap_each_keep_their_pixels():
    a, b = np.zeros((2, 20, 20), dtype=bool)
    a[2:15, 2:15], b[5:18, 5:18] = True, True
    raster = np.arange(400, dtype=np.uint16).reshape(20, 20)
    got = reduce(runs_of([a, b, a & b, a]), raster, strip=6)
    assert_same(got, by_numpy([a, b, a & b, a], raster), mean=0)


def test_single_pixels():
    masks = np.zeros((4, 8, 8), dtype=bool)
    for k, (row, col) in enumerate([(0, 0), (7, 7), (3, 4), (4, 3)]):
        masks[k, row, col] = True
    raster = np.random.default_rng(2).integers(1, 99, (8, 8)).astype(np.uint8)
    got = reduce(runs_of(masks), raster, strip=3)
    assert got[:, 0].tolist() == [1, 1, 1, 1]
    assert (got[:, 2] == 0).all()
    assert got[:, 5].tolist() == [raster[mask][0] for mask in masks]


values = st.one_of(
    arrays.arrays(np.uint16, (6, 7), elements=st.integers(0, 65_535)),
    arrays.arrays(np.int16, (6, 7), elements=st.integers(-32_768, 32_767)),
    arrays.arrays(np.float32, (6, 7), elements=st.floats(-1e6, 1e6, width=32)),
)


@settings(max_examples=200, deadline=None)
@given(values, arrays.arrays(bool, (3, 6, 7)), st.integers(1, 6))
def test_any_values_in_any_pixels(raster, masks, strip):
    got = reduce(runs_of(masks, placed(6, 7)), raster, (0.0,), strip)
    expected = by_numpy(masks, raster, (0.0,))
    assert np.array_equal(got[:, [0, 3, 4, 5, 6, 7]], expected[:, [0, 3, 4, 5, 6, 7]], True)
    np.testing.assert_allclose(got[:, 1], expected[:, 1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=1e-7, atol=1e-7)


def test_types_that_cannot_be_exact_are_refused(scattered):
    masks, runs = scattered
    for dtype in ("int64", "complex64", "float16"):
        with pytest.raises(CbmError) as caught:
            reduce(runs, np.ones(masks.shape[1:], dtype=dtype))
        assert caught.value.code == "dtype_unsupported"
        assert dtype in caught.value.message
