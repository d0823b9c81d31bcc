"""One scene, several products: everything against brute force with numpy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Lattice
from cbm_extract.reduce.index_values import Calibration
from cbm_extract.reduce.mask import class_mask, cut
from cbm_extract.reduce.scene import BandRaster, SceneReducer
from tests.unit.reduce.pixels import (
    LATTICE_10M,
    LATTICE_20M,
    blobs,
    by_numpy,
    masks_of,
    placed,
    runs_of,
)

FINE, COARSE = placed(120, 100), placed(60, 50, LATTICE_20M, -500, 300)
GRIDS = {"B02": FINE, "B04": FINE, "B08": FINE, "B05": COARSE, "B8A": COARSE, "B11": COARSE}
CALIBRATION = Calibration((0.0, 65_535.0), 1.0, -1000.0)
BANDS = {band: BandRaster(grid, CALIBRATION) for band, grid in GRIDS.items()}


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(1)
    rasters = {}
    for band, grid in GRIDS.items():
        raster = rng.integers(900, 6000, (grid.height, grid.width)).astype(np.uint16)
        raster[rng.random(raster.shape) < 0.03] = 0
        raster[rng.random(raster.shape) < 0.01] = 65_535
        raster[: grid.height // 6] = 0  # beyond the swath
        rasters[band] = raster
    classes = np.kron(rng.integers(2, 10, (15, 13)), np.ones((4, 4), int))[:60, :50]
    return rasters, classes.astype(np.uint8)


@pytest.fixture(scope="module")
def parcels():
    """The same parcels on both grids; some have pixels on the fine grid only."""
    masks = blobs(np.random.default_rng(2), 40, 120, 100, largest=14)
    coarse = masks[:, ::2, ::2]
    ids = np.random.default_rng(3).permutation(np.arange(1000, 1040))
    fine_has, coarse_has = masks.any(axis=(1, 2)), coarse.any(axis=(1, 2))
    assert fine_has.sum() > coarse_has.sum()
    return (
        runs_of(masks[fine_has], FINE, ids[fine_has]),
        runs_of(coarse[coarse_has], COARSE, ids[coarse_has]),
    )


def feed(reducer, rasters, strip=32, in_turn=True):
    parts = [(row0, band) for band in reducer.bands for row0 in range(0, len(rasters[band]), strip)]
    for row0, band in sorted(parts, key=lambda one: one[0] if in_turn else 0):
        if reducer.wanted(band, row0, row0 + strip):
            reducer.feed(band, row0, rasters[band][row0 : row0 + strip])
    return reducer.finish()


def reflectances(rasters):
    """Float64 reflectance on the bands' own grids, NaN where there is no observation."""
    return {
        band: np.where((raw == 0) | (raw == 65_535), np.nan, (raw - 1000.0) / 10_000)
        for band, raw in rasters.items()
    }


def halved(fine):
    """2 x 2 means, NaN unless all four are valid."""
    return fine.reshape(fine.shape[0] // 2, 2, fine.shape[1] // 2, 2).mean(axis=(1, 3))


def ratio(top, bottom):
    """NaN where the denominator is 0 or less."""
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)


def expected_of(runs, raster):
    return dict(zip(runs.geometry_ids.tolist(), by_numpy(masks_of(runs), raster), strict=True))


def assert_variable(result, number, expected, rtol=2e-6):
    column = result.stats.reshape(len(result.geometry_ids), -1, 8)[:, number]
    nothing = np.array([0.0] + [np.nan] * 7)
    for k, identity in enumerate(result.geometry_ids.tolist()):
        want = expected.get(identity, nothing)
        np.testing.assert_allclose(column[k], want, rtol=rtol, atol=1e-6, err_msg=str(identity))
        assert column[k, 0] == want[0]


def test_bands_and_indices_of_both_grids(scene, parcels):
    rasters, _ = scene
    fine, coarse = parcels
    reducer = SceneReducer(BANDS)
    reducer.add(("B04", "B11"), ("NDVI", "NDRE", "BSI", "NDMI"), [fine, coarse])
    assert reducer.bands == ["B02", "B04", "B08", "B05", "B8A", "B11"]
    (result,) = feed(reducer, rasters)
    b = reflectances(rasters)
    stored = {band: values * 10_000 for band, values in b.items()}
    assert_variable(result, 0, expected_of(fine, stored["B04"]))
    assert_variable(result, 1, expected_of(coarse, stored["B11"]))
    assert_variable(result, 2, expected_of(fine, ratio(b["B08"] - b["B04"], b["B08"] + b["B04"])))
    assert_variable(result, 3, expected_of(coarse, ratio(b["B8A"] - b["B05"], b["B8A"] + b["B05"])))
    blue, red, nir = (halved(b[band]) for band in ("B02", "B04", "B08"))
    swir = b["B11"]
    assert_variable(
        result, 4, expected_of(coarse, ratio(swir + red - nir - blue, swir + red + nir + blue))
    )
    assert_variable(result, 5, expected_of(coarse, ratio(nir - swir, nir + swir)))


def most_valid(grids, bands, rasters):
    """The largest number of valid pixels of any band, by geometry."""
    counts = {}
    for runs in grids:
        for band in bands:
            if GRIDS[band] == runs.placement:
                for identity, row in expected_of(runs, reflectances(rasters)[band]).items():
                    counts[identity] = max(counts.get(identity, 0), int(row[0]))
    return counts


def test_pixels_imaged_are_the_most_of_any_band_the_product_reads(scene, parcels):
    rasters, _ = scene
    fine, coarse = parcels
    reducer = SceneReducer(BANDS)
    reducer.add(("B04", "B05"), ("NDVI",), [fine, coarse])
    reducer.add(("B05",), (), [coarse])
    for result, grids, bands in zip(
        feed(reducer, rasters),
        ([fine, coarse], [coarse]),
        (("B04", "B05", "B08"), ("B05",)),
        strict=True,
    ):
        expected = most_valid(grids, bands, rasters)
        seen = sorted(identity for identity, count in expected.items() if count)
        assert 0 < len(seen) < len(grids[0].geometry_ids)  # beyond the swath: no row
        assert result.geometry_ids.tolist() == seen
        assert result.px_imaged.tolist() == [expected[identity] for identity in seen]
        assert result.px_clear.tolist() == result.px_imaged.tolist()


def test_masked_pixels_count_as_imaged_by_their_class(scene, parcels):
    """And whatever the bands hold there: it is not read."""
    rasters, classes = scene
    classes = classes.copy()
    classes[:8], classes[30:40, 5:20] = 0, 0
    mask = class_mask(COARSE, classes, (0, 3, 8, 9))
    cuts = [cut(one, mask) for one in parcels]
    by_grid = {
        FINE: classes.repeat(2, axis=0).repeat(2, axis=1),
        COARSE: classes,
    }
    rng = np.random.default_rng(11)
    blind = {}
    for band, raster in rasters.items():
        hidden = np.isin(by_grid[GRIDS[band]], (0, 3, 8, 9))
        noise = rng.integers(0, 65_536, raster.shape).astype(np.uint16)
        blind[band] = np.where(hidden, noise, raster)

    def result(pixels):
        reducer = SceneReducer(BANDS)
        runs, hidden = [one.runs for one in cuts], [one.hidden for one in cuts]
        reducer.add(("B04", "B05"), ("NDVI",), runs, hidden)
        return feed(reducer, pixels)[0]

    got, same = result(rasters), result(blind)
    for name in ("geometry_ids", "stats", "px_imaged", "px_clear"):
        assert getattr(got, name).tobytes() == getattr(same, name).tobytes()

    imaged, clear = {}, {}
    for runs, band in ((parcels[0], "B04"), (parcels[0], "B08"), (parcels[1], "B05")):
        raster, seen = rasters[band], by_grid[runs.placement]
        masked = np.isin(seen, (0, 3, 8, 9))
        valid = ~masked & (raster != 0) & (raster != 65_535)
        for identity, inside in zip(runs.geometry_ids.tolist(), masks_of(runs), strict=True):
            usable, covered = (inside & valid).sum(), (inside & masked & (seen != 0)).sum()
            clear[identity] = max(clear.get(identity, 0), usable)
            imaged[identity] = max(imaged.get(identity, 0), usable + covered)
    seen = sorted(identity for identity, count in imaged.items() if count)
    assert got.geometry_ids.tolist() == seen
    assert got.px_imaged.tolist() == [imaged[identity] for identity in seen]
    assert got.px_clear.tolist() == [clear[identity] for identity in seen]
    assert 0 < (got.px_clear == 0).sum() < len(seen) < len(imaged)
    by_variable = got.stats.reshape(len(seen), -1, 8)[got.px_clear == 0]
    assert (by_variable[:, :, 0] == 0).all()
    assert np.isnan(by_variable[:, :, 1:]).all()


def test_wanted_runs_are_all_that_matters(scene, parcels):
    """Whatever other pixels hold: an index's finer bands included, shifted grids too."""
    rasters, classes = scene
    fine, coarse = parcels
    cuts = [cut(one, class_mask(COARSE, classes, (3, 8, 9))) for one in parcels]
    requests = [
        (("B04",), ("NDMI",), [fine, coarse]),
        (("B05",), ("BSI",), [one.runs for one in cuts], [one.hidden for one in cuts]),
    ]

    def ask():
        reducer = SceneReducer(BANDS)
        for request in requests:
            reducer.add(*request)
        return reducer

    reducer = ask()
    rng = np.random.default_rng(4)
    blind = {}
    for band in reducer.bands:
        wanted = np.zeros(rasters[band].shape, dtype=bool)
        for runs in reducer.wanted_runs(band):
            assert runs.placement == GRIDS[band]
            wanted |= masks_of(runs).any(axis=0)
        assert 0 < wanted.mean() < 0.9
        noise = rng.integers(0, 65_536, wanted.shape).astype(np.uint16)
        blind[band] = np.where(wanted, rasters[band], noise)
    for mine, theirs in zip(feed(reducer, rasters), feed(ask(), blind), strict=True):
        assert mine.stats.tobytes() == theirs.stats.tobytes()
        assert mine.px_imaged.tobytes() == theirs.px_imaged.tobytes()
    assert reducer.wanted_runs("B05") == []  # complete: nothing is needed any more


def test_masked_indices_use_clear_pixels_only(scene, parcels):
    rasters, classes = scene
    fine, coarse = parcels
    mask = class_mask(COARSE, classes, (3, 8, 9))
    clear = [cut(fine, mask).runs, cut(coarse, mask).runs]
    reducer = SceneReducer(BANDS)
    reducer.add((), ("NDMI",), clear)
    (result,) = feed(reducer, rasters)
    b = reflectances(rasters)
    nir = halved(b["B08"])
    assert_variable(result, 0, expected_of(clear[1], ratio(nir - b["B11"], nir + b["B11"])))


def test_any_way_of_feeding_gives_the_same_bits(scene, parcels):
    rasters, classes = scene
    runs = list(parcels)
    mask = class_mask(COARSE, classes, (3, 8, 9))
    cuts = [cut(one, mask) for one in runs]
    clear, hidden = [one.runs for one in cuts], [one.hidden for one in cuts]

    def run(how):
        reducer = SceneReducer(BANDS)
        reducer.add(("B04", "B08", "B11"), ("NDVI", "BSI"), runs)
        reducer.add(("B08",), ("NDMI", "NDRE"), clear, hidden)
        return how(reducer)

    def in_threads(reducer):
        def one(band):
            for row0 in range(0, len(rasters[band]), 20):
                reducer.feed(band, row0, rasters[band][row0 : row0 + 20])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, reducer.bands))
        return reducer.finish()

    ways = [
        lambda reducer: feed(reducer, rasters),
        lambda reducer: feed(reducer, rasters, strip=7),
        lambda reducer: feed(reducer, rasters, strip=500),
        lambda reducer: feed(reducer, rasters, strip=13, in_turn=False),
        in_threads,
    ]
    first, *others = [run(way) for way in ways]
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            for name in ("geometry_ids", "stats", "px_imaged", "px_clear"):
                assert getattr(mine, name).tobytes() == getattr(theirs, name).tobytes(), name


def test_products_together_are_products_alone(scene, parcels):
    rasters, _ = scene
    fine, coarse = parcels
    other = runs_of(blobs(np.random.default_rng(9), 15, 120, 100), FINE, range(5000, 5015))
    requests = [
        (("B04", "B08"), ("NDVI",), [fine, coarse]),
        (("B08",), (), [other]),
        (("B08", "B05"), (), [fine, coarse]),
    ]
    together = SceneReducer(BANDS)
    for request in requests:
        together.add(*request)
    for request, joint in zip(requests, feed(together, rasters), strict=True):
        alone = SceneReducer(BANDS)
        alone.add(*request)
        (single,) = feed(alone, rasters)
        assert np.array_equal(single.stats, joint.stats, equal_nan=True)
        assert np.array_equal(single.geometry_ids, joint.geometry_ids)
        assert np.array_equal(single.px_imaged, joint.px_imaged)


def test_a_band_the_scene_lacks_has_no_value_and_harms_no_other(scene, parcels):
    rasters, _ = scene
    fine, coarse = parcels
    whole, without = SceneReducer(BANDS), SceneReducer({**BANDS})
    without._bands.pop("B08")
    for reducer in (whole, without):
        reducer.add(("B04", "B08"), ("NDVI", "NDRE"), [fine, coarse])
    (complete,), (partial,) = feed(whole, rasters), feed(without, rasters)
    assert np.array_equal(complete.geometry_ids, partial.geometry_ids)
    mine = partial.stats.reshape(len(partial.geometry_ids), 4, 8)
    theirs = complete.stats.reshape(mine.shape)
    assert np.array_equal(mine[:, [0, 3]], theirs[:, [0, 3]], equal_nan=True)
    assert (mine[:, [1, 2], 0] == 0).all()
    assert np.isnan(mine[:, [1, 2], 1:]).all()


def test_no_band_at_all_gives_no_rows(parcels):
    reducer = SceneReducer({})
    reducer.add(("B04",), ("NDVI",), list(parcels))
    (result,) = reducer.finish()
    assert len(result.geometry_ids) == 0
    assert result.stats.shape == (0, 16)


def test_indices_over_grids_that_do_not_nest_are_refused(parcels):
    odd = placed(60, 50, Lattice("EPSG:32632", 20.0, 20.0, 5.0, 0.0))
    reducer = SceneReducer({**BANDS, "B11": BandRaster(odd, CALIBRATION)})
    with pytest.raises(CbmError) as caught:
        reducer.add((), ("NDMI",), list(parcels))
    assert caught.value.code == "grids_not_nested"


def test_products_are_named_before_the_first_strip(scene, parcels):
    rasters, _ = scene
    reducer = SceneReducer(BANDS)
    reducer.add(("B05",), (), [parcels[1]])
    reducer.feed("B05", 0, rasters["B05"])
    with pytest.raises(RuntimeError):
        reducer.add(("B04",), (), [parcels[0]])


def test_float_reflectance_with_zero_as_nodata():
    """As in chips of float reflectance 0-1: scale 10,000."""
    rng = np.random.default_rng(5)
    grid = placed(30, 30, LATTICE_10M)
    masks = blobs(rng, 10, 30, 30)
    rasters = {band: rng.uniform(0.01, 0.5, (30, 30)).astype(np.float32) for band in ("B04", "B8A")}
    for raster in rasters.values():
        raster[rng.random(raster.shape) < 0.2] = 0
    calibration = Calibration((0.0,), 10_000.0)
    reducer = SceneReducer({band: BandRaster(grid, calibration) for band in rasters})
    runs = runs_of(masks, grid)
    reducer.add(("B04",), ("NDVI_B8A",), [runs])
    (result,) = feed(reducer, rasters)
    red, nir = (
        np.where(raster == 0, np.nan, raster.astype(np.float64)) for raster in rasters.values()
    )
    assert_variable(result, 0, expected_of(runs, red * 10_000))
    assert_variable(result, 1, expected_of(runs, (nir - red) / (nir + red)))
