import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.polygons import (
    NORTH,
    PLACEMENT,
    SIZE,
    WEST,
    by_gdal,
    drawn,
    lattice_runs,
    random_polygons,
)


def assert_as_gdal(polygons):
    runs = lattice_runs(polygons)
    different = burnt = 0
    for k, polygon in enumerate(polygons):
        mine, gdals = drawn(runs, k), by_gdal(polygon)
        assert mine.max(initial=0) <= 1, "a pixel is written twice"
        different += int((mine != gdals).sum())
        burnt += int(gdals.sum())
    assert different == 0
    return burnt


# 5: corners on pixel centres and edges, 10: on edges, 1 and 0.1: as digitised.
@pytest.mark.parametrize("snap", [None, 5, 1, 0.1])
def test_no_pixel_differs_from_gdal(snap):
    polygons = random_polygons(np.random.default_rng(11), 600, snap)
    assert assert_as_gdal(polygons) > 100_000


def box(col0, row0, col1, row1):
    return shapely.box(WEST + 10 * col0, NORTH - 10 * row1, WEST + 10 * col1, NORTH - 10 * row0)


@pytest.mark.parametrize(
    "polygon",
    [
        box(10.5, 10.5, 20.5, 20.5),  # all edges on centre lines
        shapely.reverse(box(10.5, 10.5, 20.5, 20.5)),
        box(10, 10, 20, 20),  # all edges on pixel edges
        box(10.5, 10.5, 10.6, 10.6),  # smaller than a pixel, corner on a centre
        box(10.6, 10.6, 10.9, 10.9),  # no centre
        box(10.5, 10.2, 30.5, 10.5),  # bottom edge on a centre line
        box(10.5, 10.5, 30.5, 10.8),  # top edge on a centre line
        box(10, 10, 30, 30).difference(box(12.5, 12.5, 20.5, 20.5)),  # hole on centre lines
        shapely.MultiPolygon([box(10, 10, 20.5, 20), box(20.5, 20, 30, 30)]),  # touch in a point
        shapely.MultiPolygon([box(5, 40, 9, 44), box(5, 10.5, 9, 20.5)]),  # lower part first
        box(-20, 40, 20, 60),  # over the raster's edge
    ],
)
def test_edges_on_centres_go_as_in_gdal(polygon):
    assert_as_gdal([polygon])


def test_shared_edges_give_each_pixel_once():
    rng = np.random.default_rng(3)
    points = np.column_stack(
        [WEST + rng.uniform(0, 10 * SIZE, 400), NORTH - rng.uniform(0, 10 * SIZE, 400)]
    )
    points = np.round(points / 5) * 5
    cells = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(points)))
    runs = lattice_runs(cells)
    total = sum(drawn(runs, k).astype(int) for k in range(len(cells)))
    covered = by_gdal(shapely.union_all(cells))
    # Rows that an edge runs along go to both sides in GDAL too; all else exactly once.
    assert_as_gdal(cells)
    assert (total[covered == 1] >= 1).all()
    assert (total > 1).mean() < 0.02


small = st.integers(0, 24).map(lambda n: n / 4)  # quarters of a pixel: centres, edges, between


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(small, small), min_size=3, max_size=7))
def test_any_small_polygon_is_as_in_gdal(points):
    ring = [(WEST + 10 * (x + 20), NORTH - 10 * (y + 20)) for x, y in points]
    polygon = shapely.make_valid(shapely.Polygon(ring))
    if polygon.geom_type in ("Polygon", "MultiPolygon"):
        assert_as_gdal([polygon])


def test_runs_are_in_order_and_apart():
    polygons = random_polygons(np.random.default_rng(5), 200, 5)
    runs = lattice_runs(polygons)
    for k in range(len(polygons)):
        mine = slice(runs.indptr[k], runs.indptr[k + 1])
        row, col, end = runs.row[mine], runs.col[mine], (runs.col + runs.length)[mine]
        assert (np.diff(row) >= 0).all()
        same_row = np.diff(row) == 0
        assert (col[1:][same_row] > end[:-1][same_row]).all()
        assert (runs.length[mine] > 0).all()


def test_far_from_the_origin_nothing_changes():
    # The same polygons, a whole number of pixels away: the same runs, shifted.
    rng = np.random.default_rng(6)
    corners = rng.integers(0, 1200, (200, 3, 2)) * 2.5 + (WEST, NORTH - 3000)
    polygons = shapely.polygons(corners)
    here = lattice_runs(polygons)
    away = lattice_runs(shapely.transform(polygons, lambda xy: xy - (3_000_000, 9_000_000)))
    assert np.array_equal(away.col + 300_000, here.col)
    assert np.array_equal(away.row - 900_000, here.row)
    assert np.array_equal(away.length, here.length)


def test_empty_polygon_has_no_run():
    runs = lattice_runs([shapely.MultiPolygon(), box(10, 10, 12, 12), shapely.Polygon()])
    assert runs.indptr.tolist() == [0, 0, 2, 2]
    assert runs.pixels().tolist() == [0, 4, 0]
    assert (runs.row[0] - PLACEMENT.row0, runs.col[0] - PLACEMENT.col0) == (10, 10)
