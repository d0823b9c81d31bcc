import warnings

import numpy as np
import pyproj
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan import pipeline

BERN = (7.0, 46.5, 8.0, 47.5)


def test_the_chosen_operation_is_the_one_proj_applies_there():
    chosen = pipeline.choose("EPSG:2056", "EPSG:32632", BERN)
    xy = np.array([[2600000.0, 1200000.0], [2650000.0, 1230000.0]])
    got = pipeline.transform(chosen, xy)
    direct = pyproj.Transformer.from_crs("EPSG:2056", "EPSG:32632", always_xy=True)
    assert np.allclose(got, np.column_stack(direct.transform(xy[:, 0], xy[:, 1])), atol=0.01)
    assert chosen.accuracy_m == 1.0
    assert "somerc" in chosen.definition


def test_degrees_are_longitude_then_latitude():
    chosen = pipeline.choose("EPSG:4326", "EPSG:32632", BERN)
    ((x, y),) = pipeline.transform(chosen, np.array([[9.0, 47.0]]))
    assert x == pytest.approx(500000, abs=1e-3)
    assert 5_200_000 < y < 5_210_000


def test_same_crs_changes_nothing():
    chosen = pipeline.choose("EPSG:32632", "EPSG:32632", BERN)
    xy = np.array([[500000.123456789, 5200000.987654321]])
    assert np.array_equal(pipeline.transform(chosen, xy), xy)


def test_both_sides_of_the_antimeridian_come_to_lie_together():
    chosen = pipeline.choose("EPSG:4326", "EPSG:32760", (179.0, -18.0, -179.0, -16.0))
    points = pipeline.transform(chosen, np.array([[179.999, -17.0], [-179.999, -17.0]]))
    assert 200 < points[1, 0] - points[0, 0] < 220


def test_ballpark_is_refused_unless_told():
    datum_unknown_here = "EPSG:4267"  # NAD27, in Switzerland
    with pytest.raises(CbmError) as caught:
        pipeline.choose(datum_unknown_here, "EPSG:32632", BERN)
    assert caught.value.code == "ballpark_transformation"
    allowed = pipeline.choose(datum_unknown_here, "EPSG:32632", BERN, allow_ballpark=True)
    assert "allpark" in allowed.description
    assert allowed.accuracy_m is None


def test_a_better_operation_that_wants_a_grid_is_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = pipeline.choose("EPSG:27700", "EPSG:32630", (-3.0, 51.0, 0.0, 53.0))
    if chosen.better is None:
        pytest.skip("the British grid is installed here")
    assert "OSTN15" in chosen.better
    assert chosen.accuracy_m == 2.0


def test_the_area_decides_between_operations():
    czech = pipeline.choose("EPSG:5514", "EPSG:32633", (14.0, 49.0, 16.0, 50.0))
    slovak = pipeline.choose("EPSG:5514", "EPSG:32633", (18.9, 47.9, 22.0, 49.5))
    assert czech.definition != slovak.definition
    xy = np.array([[-600000.0, -1100000.0]])
    assert np.abs(pipeline.transform(czech, xy) - pipeline.transform(slovak, xy)).max() > 0.1


def test_points_beyond_reach_become_infinite():
    chosen = pipeline.choose("EPSG:4326", "EPSG:3857", (0.0, 0.0, 1.0, 1.0))
    assert not np.isfinite(pipeline.transform(chosen, np.array([[0.0, 95.0]]))).all()


def test_unknown_crs_is_refused():
    with pytest.raises(CbmError) as caught:
        pipeline.choose("nonsense", "EPSG:32632", BERN)
    assert caught.value.code == "crs_unknown"
