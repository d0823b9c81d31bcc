import numpy as np
import pytest
import shapely
from pyproj import Geod

from cbm_extract.plan.lattice import Lattice
from cbm_extract.plan.measures import mean_width, metres_per_unit, whole_pixels
from cbm_extract.plan.rasterise import rasterise
from cbm_extract.plan.rings import Rings
from tests.unit.plan.polygons import NORTH, PLACEMENT, WEST, random_polygons

LATTICE = PLACEMENT.lattice


def whole(polygons):
    ids = np.arange(len(polygons), dtype=np.int32)
    pixels = Rings.from_shapely(np.array(polygons, dtype=object), ids).in_pixels(LATTICE)
    return whole_pixels(pixels, rasterise(pixels))


def covered_squares(polygon):
    """Pixel squares (shrunk by a micrometre: float noise) that shapely finds inside."""
    west, south, east, north = polygon.bounds
    cols = np.arange((west - WEST) // 10, (east - WEST) // 10 + 1)
    rows = np.arange((NORTH - north) // 10, (NORTH - south) // 10 + 1)
    col, row = np.meshgrid(cols, rows)
    x, y = WEST + 10 * col, NORTH - 10 * row
    squares = shapely.box(x + 1e-6, y - 10 + 1e-6, x + 10 - 1e-6, y - 1e-6)
    shapely.prepare(polygon)
    return int(shapely.covers(polygon, squares).sum())


@pytest.mark.parametrize("snap", [None, 5, 1])
def test_whole_pixels_are_those_shapely_finds_inside(snap):
    polygons = random_polygons(np.random.default_rng(21), 150, snap)
    assert whole(polygons).tolist() == [covered_squares(polygon) for polygon in polygons]


def test_edges_on_pixel_borders_leave_pixels_whole():
    square = shapely.box(WEST + 10, NORTH - 50, WEST + 50, NORTH - 10)
    hole = shapely.box(WEST + 22, NORTH - 28, WEST + 24, NORTH - 26)  # inside one pixel
    assert whole([square, square.difference(hole)]).tolist() == [16, 15]


def test_mean_width_is_twice_area_by_perimeter():
    polygons = random_polygons(np.random.default_rng(22), 100)
    rings = Rings.from_shapely(polygons, np.arange(100, dtype=np.int32))
    got = mean_width(rings, metres_per_unit(rings, LATTICE))
    assert np.allclose(got, [2 * one.area / one.length for one in polygons], rtol=1e-9)


def test_width_in_degrees_and_feet_is_in_metres():
    strip = shapely.box(8.0, 60.0, 8.01, 60.0001)  # 0.0001 degrees of latitude high
    rings = Rings.from_shapely(np.array([strip]), np.zeros(1, dtype=np.int32))
    scale = metres_per_unit(rings, Lattice("EPSG:4326", 1e-4, 1e-4, 0.0, 0.0))
    area, length = Geod(ellps="WGS84").geometry_area_perimeter(strip)
    assert mean_width(rings, scale)[0] == pytest.approx(2 * abs(area) / length, rel=1e-4)
    feet = metres_per_unit(rings, Lattice("EPSG:2263", 10.0, 10.0, 0.0, 0.0))
    assert feet[0].tolist() == pytest.approx([0.3048, 0.3048], rel=1e-4)


def test_empty_polygon_has_neither():
    rings = Rings.from_shapely(np.array([shapely.Polygon()]), np.zeros(1, dtype=np.int32))
    assert mean_width(rings, metres_per_unit(rings, LATTICE)).tolist() == [0.0]
    assert whole([shapely.Polygon()]).tolist() == [0]
