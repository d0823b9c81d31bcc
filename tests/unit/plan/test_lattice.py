import pyproj
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Grid, Lattice, Nesting, Placement, nest, place

UTM = "EPSG:32632"


def test_tiles_and_chips_of_a_zone_share_a_lattice():
    tile = place(Grid(UTM, (10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0), 10980, 10980))
    chip = place(Grid(UTM, (10.0, 0.0, 412340.0, 0.0, -10.0, 5291110.0), 90, 154))
    assert tile.lattice == chip.lattice
    assert tile.lattice.key == "EPSG:32632|10|10|0|0"
    assert (tile.row0, tile.col0) == (-530004, 39996)
    assert chip.row0 - tile.row0 == (5300040 - 5291110) // 10
    assert chip.col0 - tile.col0 == (412340 - 399960) // 10


def test_southern_hemisphere_and_west_of_the_false_easting_give_negative_indices():
    tile = place(Grid("EPSG:32740", (10.0, 0.0, -20.0, 0.0, -10.0, 7600000.0), 100, 100))
    assert (tile.row0, tile.col0) == (-760000, -2)
    # Row r covers y from -10 r downwards.
    assert -10 * (tile.row0 + 1) == 7600000 - 10


def test_an_origin_between_pixels_is_another_lattice():
    shifted = place(Grid(UTM, (20.0, 0.0, 399970.0, 0.0, -20.0, 5300030.0), 10, 10))
    assert shifted.lattice.key == "EPSG:32632|20|20|10|10"
    assert shifted.lattice.xorigin + 20 * shifted.col0 == 399970
    assert shifted.lattice.yorigin - 20 * shifted.row0 == 5300030


def test_float_noise_of_degrees_does_not_split_a_lattice():
    size = 0.0001
    keys = set()
    for col in (71234, 71235, 99999, 123457):
        placed = place(Grid("EPSG:4326", (size, 0.0, col * size, 0.0, -size, 470001 * size), 9, 9))
        keys.add(placed.lattice.key)
        assert placed.col0 == col
        assert placed.row0 == -470001
    assert keys == {"EPSG:4326|0.0001|0.0001|0|0"}


def test_crs_is_named_by_its_code_however_it_is_written():
    grids = [UTM, pyproj.CRS(UTM).to_wkt(), pyproj.CRS(UTM).to_wkt("WKT1_GDAL")]
    transform = (10.0, 0.0, 0.0, 0.0, -10.0, 0.0)
    assert {place(Grid(crs, transform, 1, 1)).lattice.crs for crs in grids} == {UTM}


def test_crs_without_code_is_named_by_its_hash_and_kept():
    lattice = place(
        Grid("+proj=sinu +R=6371007.181 +units=m", (10.0, 0.0, 5.0, 0.0, -10.0, 5.0), 1, 1)
    ).lattice
    assert lattice.key.startswith("wkt:")
    assert len(lattice.key) < 64
    assert "Sinusoidal" in pyproj.CRS(lattice.crs).to_wkt()


@pytest.mark.parametrize(
    ("crs", "transform", "code"),
    [
        (UTM, (10.0, 0.5, 0.0, 0.0, -10.0, 0.0), "grid_rotated"),
        (UTM, (10.0, 0.0, 0.0, 0.5, -10.0, 0.0), "grid_rotated"),
        (UTM, (10.0, 0.0, 0.0, 0.0, 10.0, 0.0), "grid_south_up"),
        (UTM, (-10.0, 0.0, 0.0, 0.0, -10.0, 0.0), "grid_south_up"),
        ("EPSG:nonsense", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), "crs_unknown"),
    ],
)
def test_grids_that_cannot_be_planned_are_refused(crs, transform, code):
    with pytest.raises(CbmError) as caught:
        place(Grid(crs, transform, 5, 5))
    assert caught.value.code == code


def placed(res, row0, col0, origin=0.0, crs=UTM):
    return Placement(Lattice(crs, res, res, origin, origin), row0, col0, 100, 100)


def test_nesting_of_10_m_under_20_m():
    # Both begin at x = 1000, y = -2000.
    assert nest(placed(10.0, 200, 100), placed(20.0, 100, 50)) == Nesting(2, 0, 0)
    # The fine raster begins 3 rows lower and 1 column further right.
    assert nest(placed(10.0, 203, 101), placed(20.0, 100, 50)) == Nesting(2, -3, -1)


def test_nesting_with_a_shifted_coarse_lattice():
    # 20 m pixels that begin at odd multiples of 10 m: x0 = 10 + 20 * 50, y0 = 10 - 20 * 100.
    nesting = nest(placed(10.0, 199, 101), placed(20.0, 100, 50, origin=10.0))
    assert nesting == Nesting(2, 0, 0)


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        (placed(10.0, 0, 0), placed(25.0, 0, 0)),
        (placed(10.0, 0, 0), placed(20.0, 0, 0, origin=5.0)),
        (placed(20.0, 0, 0), placed(10.0, 0, 0)),
        (placed(10.0, 0, 0), placed(20.0, 0, 0, crs="EPSG:32633")),
    ],
)
def test_grids_that_do_not_nest_are_refused(fine, coarse):
    with pytest.raises(CbmError) as caught:
        nest(fine, coarse)
    assert caught.value.code == "grids_not_nested"
